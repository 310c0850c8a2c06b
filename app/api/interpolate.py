"""POST and GET /interpolate: images on a path through latents."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from app.api.bodies.raw import has_body, refuse_body
from app.api.bodies.sources import read_sources
from app.api.common import Endpoint, decoded, known_already, media_for, rendered, service_of
from app.api.parameters.declared import (
    Center,
    Format,
    FrameMs,
    Invert,
    Label,
    LayoutOf,
    MetadataOf,
    MethodOf,
    ModelName,
    Scale,
    Steps,
    Timeout,
    Truncation,
    path_seeds_parameter,
)
from app.api.parameters.lists import path_seeds_in
from app.core.interpolation import path
from app.core.latent_walk import LatentSource, resolve_walk
from app.formats.uploads import fitting_for
from app.http.disconnect import client_disconnected
from app.rendering.lineage import walk_metadata
from app.rendering.options import FRAME_MS, Rendering, check_size
from app.seeds import list_text
from app.settings import Settings

_OR_BODY = ", or stands in the body of a POST; give either"


def interpolate(settings: Settings) -> Endpoint:
    """``settings`` gives the limits that the OpenAPI states."""
    default_steps = min(16, settings.max_n)

    async def interpolate(
        request: Request,
        model: ModelName = None,
        label: Label = None,
        seeds: Annotated[str | None, path_seeds_parameter()] = None,
        steps: Annotated[
            Steps,
            Field(le=settings.max_n),
            Query(description="images on the path, both ends among them; 1 = the first end alone"),
        ] = default_steps,
        method: MethodOf = "slerp",
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
        """A path through latents, from one end to the next, each a seed, a latent or a picture.

        Ends that are all seeds stand in the query; others come in the body, as JSON or as a form's
        files. Between seeds the path goes through the noise that /generate makes images of, so its
        ends are images of /generate; a latent on a VAE, or a picture, makes it a path through z.
        With layout=animation it is a film.
        """
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            rendering = Rendering(media_for(request, format), scale, layout, metadata, frame_ms)
            ends: Sequence[LatentSource]
            if seeds is None and request.method == "POST" and has_body(request):
                ends = await read_sources(request, settings.max_body_bytes)
            else:
                await refuse_body(request, "the ends are seeds in the query" + _OR_BODY)
                ends = path_seeds_in(seeds)
            found = resolve_walk(service, model, label, ends, truncation)
            check_size(rendering, found.model.network.image_shape, steps)
            parameters: dict[str, str | int] = {"steps": steps, "method": method}
            if found.by_seeds:
                parameters["seeds"] = list_text([end for end in ends if isinstance(end, int)])
            pinned = model is not None and "@" in model
            address = "/interpolate", parameters
            lineage = walk_metadata(found, address, steps, rendering, pinned, service.identity)
            if (known := known_already(request, lineage, rendering.media)) is not None:
                return known
            how = fitting_for(found.model.description.data, invert, center)
            pictures = await decoded(found.files, found.model, how, settings)
            latents = await found.latents(service, [p.image for p in pictures], context)
            way, places = path(latents, steps, method)
            images, timing = await found.images(service, way, context)
            items = [{"at": place} for place in places.tolist()]
            lineage = lineage._replace(items=items, uploads=pictures)
            return await rendered(rendering, images, lineage, timing)

    return interpolate
