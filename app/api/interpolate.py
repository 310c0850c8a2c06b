"""POST and GET /interpolate: images on a path through latents."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from app.api.bodies.raw import has_body, refuse_body
from app.api.bodies.sources import read_sources
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
    EndSeeds,
    FittingQuery,
    Label,
    MethodName,
    ModelName,
    RenderingQuery,
    TimeoutMs,
    Truncation,
)
from app.api.parameters.lists import parse_end_seeds
from app.core.interpolation import path
from app.core.latent_walk import LatentSource, resolve_walk
from app.core.requests import RequestContext
from app.fitting.adapt import fitting_for
from app.http.disconnect import client_disconnected
from app.rendering.image_query import render
from app.rendering.lineage import fit_header, walk_metadata
from app.rendering.options import check_size
from app.seeds import list_text
from app.settings import Settings


def interpolate(settings: Settings) -> Endpoint:
    """The endpoint, with the limits of ``settings``."""
    default_steps = min(16, settings.max_n)

    async def interpolate(
        request: Request,
        options: RenderingQuery,
        fitting: FittingQuery,
        model: ModelName = None,
        label: Label = None,
        seeds: EndSeeds = None,
        steps: Annotated[
            int,
            Field(ge=1, le=settings.max_n),
            PLAIN,
            Query(
                description="Images on the path, including both ends. 1 gives the first end alone."
            ),
        ] = default_steps,
        method: MethodName = "slerp",
        truncation: Truncation = 1,
        timeout_ms: TimeoutMs = None,
    ) -> Response:
        """A path through latents, from one end to the next. An end is a seed, latent or picture.

        If all ends are seeds, they can be in the query. Others are in the body, as JSON or as the
        files of a form. Between seeds the path goes through the noise that /generate uses, so its
        ends are images of /generate. With a picture, or a latent on a VAE, it goes through z.
        layout=animation returns it as an animation.
        """
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            rendering = rendering_of(request, options)
            ends = await _ends(request, seeds, settings, context)
            found = resolve_walk(service, model, label, ends, truncation)
            check_size(rendering, found.model.network.image_shape, steps)

            parameters: dict[str, str | int] = {"steps": steps, "method": method}
            if found.by_seeds:
                parameters["seeds"] = list_text([end for end in ends if isinstance(end, int)])
            address = "/interpolate", parameters
            pinned = is_pinned(model)
            root = root_of(request)
            metadata = walk_metadata(found, address, steps, rendering, pinned, service, root)
            if response := response_without_images(request, metadata, rendering.media):
                return response

            how = fitting_for(found.model.description.data, *fitting)
            shape = found.model.network.image_shape
            uploads = await service.pictures.read_uploads(found.files, shape, how, context)
            latents = await found.latents(service, [upload.image for upload in uploads], context)
            sizes = [part.size for part in found.model.latent]
            fits = await found.fits(service, [upload.image for upload in uploads], latents, context)
            points, positions = path(latents, steps, method, sizes)
            images, timing = await found.images(service, points, context)
            items = [{"at": position} for position in positions.tolist()]
            metadata = metadata._replace(items=items, uploads=uploads)
            metadata = metadata._replace(headers={**metadata.headers, **fit_header(fits)})
            return await render(service, rendering, images, metadata, timing, context)

    return interpolate


async def _ends(
    request: Request, seeds: str | None, settings: Settings, context: RequestContext
) -> Sequence[LatentSource]:
    """The ends, from the body or from the parameter ``seeds``."""
    if seeds is None and request.method == "POST" and has_body(request):
        codec = service_of(request).pictures
        return await read_sources(request, settings.max_body_bytes, codec, context)
    await refuse_body(request, "the ends are seeds in the query or the body of a POST; give either")
    return parse_end_seeds(seeds)
