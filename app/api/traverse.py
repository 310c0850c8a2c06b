"""POST and GET /traverse: one latent with one axis after the other changed."""

from typing import Annotated

import numpy as np
from fastapi import Query, Request, Response
from pydantic import Field

from app.api.bodies.raw import has_body, refuse_body
from app.api.bodies.sources import read_source
from app.api.common import Endpoint, decoded, known_already, media_for, rendered, service_of
from app.api.parameters.declared import (
    AxisValue,
    Center,
    Format,
    FrameMs,
    Invert,
    Label,
    LayoutOf,
    MetadataOf,
    ModelName,
    Scale,
    Seed,
    Steps,
    Timeout,
    Truncation,
)
from app.api.parameters.lists import axes_in, check_traversal
from app.core.interpolation import traversal
from app.core.latent_walk import LatentSource, liveliest_axes, resolve_walk
from app.formats.uploads import fitting_for
from app.http.disconnect import client_disconnected
from app.rendering.lineage import walk_metadata
from app.rendering.options import FRAME_MS, Rendering, check_size
from app.seeds import LIST_PATTERN, random_seed
from app.settings import Settings

_OR_BODY = ", or stands in the body of a POST; give either"


def traverse(settings: Settings) -> Endpoint:
    """``settings`` gives the limits that the OpenAPI states."""
    default_values = min(7, settings.max_n)

    async def traverse(
        request: Request,
        model: ModelName = None,
        label: Label = None,
        seed: Seed = None,
        axes: Annotated[
            str | None,
            Query(
                max_length=1000,
                description="indices of the latent's numbers to change, such as 0-3,17; none = "
                "the 8 that tell most (of most KL, where the model's card has it), or as many as "
                f"{settings.max_n} images allow",
                json_schema_extra={"pattern": f"^{LIST_PATTERN}$"},
            ),
        ] = None,
        low: Annotated[AxisValue, Query(description="first value")] = -3,
        high: Annotated[AxisValue, Query(description="last value")] = 3,
        steps: Annotated[
            Steps, Field(le=settings.max_n), Query(description="values; the columns")
        ] = default_values,
        truncation: Truncation = 1,
        format: Format = None,
        scale: Scale = 1,
        layout: LayoutOf = "grid",
        frame_ms: FrameMs = FRAME_MS,
        metadata: MetadataOf = "full",
        invert: Invert = "auto",
        center: Center = "auto",
        timeout_ms: Timeout = None,
    ) -> Response:
        """What each number of a latent does: one latent with one axis after the other set to each
        of a range of values, a row an axis.

        The latent is a seed's, or in the body: a picture, or JSON with z, image or seed. Axes are
        those of a VAE's z, where a seed's picture is encoded first, and else those of the noise.
        X-Axes lists them.
        """
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            rendering = Rendering(media_for(request, format), scale, layout, metadata, frame_ms)
            end: LatentSource
            if seed is None and request.method == "POST" and has_body(request):
                end = await read_source(request, settings.max_body_bytes)
            else:
                await refuse_body(request, "the latent is a seed's in the query" + _OR_BODY)
                end = random_seed() if seed is None else seed
            found = resolve_walk(service, model, label, [end], truncation, always_z=True)
            size = found.model.network.latent_dim
            chosen = (
                liveliest_axes(found.model, min(8, settings.max_n // steps))
                if axes is None
                else axes_in(axes, size)
            )
            check_traversal(low, high, steps, len(chosen), settings.max_n)
            total = len(chosen) * steps
            check_size(rendering, found.model.network.image_shape, total, steps)
            listed = ",".join(map(str, chosen))
            parameters: dict[str, str | int] = {}
            if isinstance(end, int):
                parameters = {"seed": end, "axes": listed}
                parameters |= {"low": f"{low:g}", "high": f"{high:g}", "steps": steps}
            pinned = model is not None and "@" in model
            address = "/traverse", parameters
            lineage = walk_metadata(found, address, total, rendering, pinned, service.identity)
            lineage = lineage._replace(columns=steps, headers={"X-Axes": listed})
            if seed is None:
                lineage = lineage._replace(etag=None, cache_control="no-store")
            if (known := known_already(request, lineage, rendering.media)) is not None:
                return known
            how = fitting_for(found.model.description.data, invert, center)
            pictures = await decoded(found.files, found.model, how, settings)
            (start,) = await found.latents(service, [p.image for p in pictures], context)
            values = np.linspace(low, high, steps).tolist()
            images, timing = await found.images(service, traversal(start, chosen, values), context)
            items = [{"axis": axis, "value": value} for axis in chosen for value in values]
            lineage = lineage._replace(items=items, uploads=pictures)
            return await rendered(rendering, images, lineage, timing)

    return traverse
