"""POST and GET /generate: images from seeds."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import Field
from starlette.routing import BaseRoute

from app.api.bodies.raw import refuse_body
from app.api.common import (
    Endpoint,
    rendering_of,
    response_without_images,
    root_of,
    service_of,
)
from app.api.parameters.binding import Binding, parse_query
from app.api.parameters.declared import (
    PLAIN,
    Label,
    ModelName,
    RenderingOptions,
    RenderingQuery,
    Seed,
    TimeoutMs,
    Truncation,
    seeds_parameter,
)
from app.api.parameters.lists import parse_seeds
from app.core.requests import TIMEOUT_HEADER
from app.http.disconnect import client_disconnected
from app.http.fast_request import ReadQuery
from app.rendering.image_query import ImageQuery, render
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
            asked = ImageQuery(model, label, n, seed, numbers, truncation, rendering)
            checked, root = asked.request(service, context), root_of(request)
            metadata = asked.metadata(service, checked, checked.samples(), root)
            if response := response_without_images(request, metadata, rendering.media):
                return response
            generated = await service.generate(checked)
            images, timing = generated.images, generated.timing
            return await render(service, rendering, images, metadata, timing, context)

    return generate


def query_reader(routes: Iterable[BaseRoute], settings: Settings) -> ReadQuery:
    """What the fast path reads requests of /generate with: the compiled parameters of its route.

    Args:
        routes: Of all operations.
        settings: Of the service.
    """
    route = next(each for each in routes if isinstance(each, APIRoute) and each.path == "/generate")
    binding = Binding(route)

    def read(query: bytes, accept: str, timeout: str | None) -> tuple[ImageQuery, int | None]:
        headers = [] if timeout is None else [(TIMEOUT_HEADER, timeout)]
        given = binding.arguments(query, headers)
        options: RenderingOptions = given["options"]
        numbers = parse_seeds(given["seeds"], dict(parse_query(query)), settings.max_n)
        asked = ImageQuery(
            *(given["model"], given["label"], given["n"], given["seed"], numbers),
            *(given["truncation"], options.rendering(accept)),
        )
        return asked, given["timeout_ms"]

    return read
