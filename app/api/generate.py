"""POST and GET /generate: images from seeds."""

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from app.api.bodies.raw import refuse_body
from app.api.common import Endpoint, known_already, media_for, rendered, service_of
from app.api.parameters.declared import (
    PLAIN,
    Format,
    FrameMs,
    Label,
    LayoutOf,
    MetadataOf,
    ModelName,
    Scale,
    Seed,
    Timeout,
    Truncation,
    seeds_parameter,
)
from app.api.parameters.lists import seeds_in
from app.http.disconnect import client_disconnected
from app.rendering.lineage import generate_metadata
from app.rendering.options import FRAME_MS, Rendering, check_size
from app.settings import Settings


def generate(settings: Settings) -> Endpoint:
    """``settings`` gives the limits that the OpenAPI states."""

    async def generate(
        request: Request,
        model: ModelName = None,
        label: Label = None,
        n: Annotated[
            int,
            Field(ge=1, le=settings.max_n),
            PLAIN,
            Query(description="images; PNG and WebP show several as one picture, see layout"),
        ] = 1,
        seed: Seed = None,
        seeds: Annotated[str | None, seeds_parameter(settings.max_n)] = None,
        truncation: Truncation = 1,
        format: Format = None,
        scale: Scale = 1,
        layout: LayoutOf = "grid",
        frame_ms: FrameMs = FRAME_MS,
        metadata: MetadataOf = "full",
        timeout_ms: Timeout = None,
    ) -> Response:
        """Sample images from a model, of a label if you ask for one.

        The same model, label and seed give the same bytes, whatever else the service is doing.
        """
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            await refuse_body(request)
            rendering = Rendering(media_for(request, format), scale, layout, metadata, frame_ms)
            numbers = seeds_in(request, seeds, settings.max_n)
            to_generate = service.generate_request(
                model, label, n, seed, context, numbers, truncation
            )
            check_size(rendering, to_generate.model.network.image_shape, len(to_generate.seeds))
            seeded = seed is not None or numbers is not None
            pinned = model is not None and "@" in model
            lineage = generate_metadata(
                to_generate, to_generate.samples(), rendering, seeded, pinned, service.identity
            )
            if (known := known_already(request, lineage, rendering.media)) is not None:
                return known
            made = await service.generate(to_generate)
            return await rendered(rendering, made.images, lineage, made.timing)

    return generate
