"""POST and GET /generate: images from seeds."""

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from app.api.bodies.raw import refuse_body
from app.api.common import (
    Endpoint,
    is_pinned,
    render,
    rendering_of,
    response_without_images,
    root_of,
    service_of,
)
from app.api.parameters.declared import (
    PLAIN,
    Label,
    ModelName,
    RenderingQuery,
    Seed,
    TimeoutMs,
    Truncation,
    seeds_parameter,
)
from app.api.parameters.lists import parse_seeds
from app.http.disconnect import client_disconnected
from app.rendering.lineage import generate_metadata
from app.rendering.options import check_size
from app.settings import Settings


def generate(settings: Settings) -> Endpoint:
    """The endpoint, with the limits of ``settings``."""

    async def generate(
        request: Request,
        options: RenderingQuery,
        model: ModelName = None,
        label: Label = None,
        n: Annotated[
            int,
            Field(ge=1, le=settings.max_n),
            PLAIN,
            Query(description="Number of images. PNG and WebP show several in one file: layout."),
        ] = 1,
        seed: Seed = None,
        seeds: Annotated[str | None, seeds_parameter(settings.max_n)] = None,
        truncation: Truncation = 1,
        timeout_ms: TimeoutMs = None,
    ) -> Response:
        """Sample images from a model, optionally of one label.

        The same model, label and seed give the same bytes, whatever else the service is doing.
        """
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            await refuse_body(request)
            rendering = rendering_of(request, options)
            numbers = parse_seeds(seeds, request.query_params, settings.max_n)
            to_generate = service.generate_request(
                model, label, n, seed, context, numbers, truncation
            )
            check_size(rendering, to_generate.model.network.image_shape, len(to_generate.seeds))
            metadata = generate_metadata(
                to_generate,
                to_generate.samples(),
                rendering,
                seeded=seed is not None or numbers is not None,
                pinned=is_pinned(model),
                identity=service.identity,
                root=root_of(request),
            )
            if response := response_without_images(request, metadata, rendering.media):
                return response
            generated = await service.generate(to_generate)
            return await render(
                service, rendering, generated.images, metadata, generated.timing, context
            )

    return generate
