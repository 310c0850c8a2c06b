"""POST and GET /traverse: one latent with one axis after the other varied."""

from typing import Annotated

import numpy as np
from fastapi import Query, Request, Response
from pydantic import Field

from app.api.bodies.raw import has_body, refuse_body
from app.api.bodies.sources import read_source
from app.api.common import (
    Endpoint,
    is_pinned,
    rendering_of,
    response_without_images,
    root_of,
    service_of,
)
from app.api.parameters.declared import (
    PLAIN,
    AxisValue,
    FittingQuery,
    Label,
    ModelName,
    RenderingQuery,
    Seed,
    TimeoutMs,
    Truncation,
    axes_parameter,
)
from app.api.parameters.lists import check_traversal, parse_axes
from app.core.interpolation import traversal
from app.core.latent_walk import LatentSource, liveliest_axes, resolve_walk
from app.core.requests import RequestContext
from app.fitting.adapt import fitting_for
from app.http.disconnect import client_disconnected
from app.rendering.image_query import render
from app.rendering.lineage import fit_header, walk_metadata
from app.rendering.options import check_size
from app.seeds import random_seed
from app.settings import Settings

DEFAULT_AXES = 8


def traverse(settings: Settings) -> Endpoint:
    """The endpoint, with the limits of ``settings``."""
    default_steps = min(7, settings.max_n)

    async def traverse(
        request: Request,
        options: RenderingQuery,
        fitting: FittingQuery,
        model: ModelName = None,
        label: Label = None,
        seed: Seed = None,
        axes: Annotated[str | None, axes_parameter(settings.max_n)] = None,
        low: Annotated[AxisValue, Query(description="First value.")] = -3,
        high: Annotated[AxisValue, Query(description="Last value.")] = 3,
        steps: Annotated[
            int,
            Field(ge=1, le=settings.max_n),
            PLAIN,
            Query(description="Number of values, and of columns."),
        ] = default_steps,
        truncation: Truncation = 1,
        timeout_ms: TimeoutMs = None,
    ) -> Response:
        """What each latent dimension does: one latent with one axis after the other set to each of
        a range of values, one row per axis.

        The latent is that of a seed, or in the body: a picture, or JSON with z, image or seed. On
        a VAE the axes are those of z, for which a seed's image is encoded first; on other models
        those of the noise. X-Axes lists them.
        """
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            rendering = rendering_of(request, options)
            source = await _source(request, seed, settings, context)
            found = resolve_walk(service, model, label, [source], truncation, always_z=True)
            if axes is None:
                chosen = liveliest_axes(found.model, min(DEFAULT_AXES, settings.max_n // steps))
            else:
                chosen = parse_axes(axes, found.model.network.latent_dim)
            check_traversal(low, high, steps, len(chosen), settings.max_n)
            count = len(chosen) * steps
            check_size(rendering, found.model.network.image_shape, count, steps)

            listed = ",".join(map(str, chosen))
            parameters: dict[str, str | int] = {}
            if isinstance(source, int):
                parameters = {"seed": source, "axes": listed}
                parameters |= {"low": f"{low:g}", "high": f"{high:g}", "steps": steps}
            address = "/traverse", parameters
            pinned = is_pinned(model)
            root = root_of(request)
            metadata = walk_metadata(found, address, count, rendering, pinned, service, root)
            metadata = metadata._replace(columns=steps, headers={"X-Axes": listed})
            if seed is None:  # another seed is drawn next time
                metadata = metadata._replace(etag=None, cache_control="no-store")
            if response := response_without_images(request, metadata, rendering.media):
                return response

            how = fitting_for(found.model.description.data, *fitting)
            shape = found.model.network.image_shape
            uploads = await service.pictures.read_uploads(found.files, shape, how, context)
            latents = await found.latents(service, [upload.image for upload in uploads], context)
            fits = await found.fits(service, [upload.image for upload in uploads], latents, context)
            values = np.linspace(low, high, steps).tolist()
            points = traversal(latents[0], chosen, values)
            images, timing = await found.images(service, points, context)
            items = [{"axis": axis, "value": value} for axis in chosen for value in values]
            metadata = metadata._replace(items=items, uploads=uploads)
            metadata = metadata._replace(headers={**metadata.headers, **fit_header(fits)})
            return await render(service, rendering, images, metadata, timing, context)

    return traverse


async def _source(
    request: Request, seed: int | None, settings: Settings, context: RequestContext
) -> LatentSource:
    """Where the latent comes from: the body, the parameter ``seed``, or a seed drawn here."""
    if seed is None and request.method == "POST" and has_body(request):
        codec = service_of(request).pictures
        return await read_source(request, settings.max_body_bytes, codec, context)
    await refuse_body(
        request, "the latent is a seed in the query or the body of a POST; give either"
    )
    return random_seed() if seed is None else seed
