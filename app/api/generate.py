"""Images from seeds, and whether a picture is one of them."""

from dataclasses import asdict
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Query, Request, Response
from pydantic import Field

from app.api import bodies
from app.api.common import CODERS, Endpoint, known_already, media_for, rendered, service_of
from app.api.parameters import (
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
    seeds_in,
    seeds_parameter,
)
from app.core.service import Service
from app.core.verification import Finding, compare, recipe_of, regenerate
from app.formats import provenance
from app.http.disconnect import client_disconnected
from app.rendering import lineage as origins
from app.rendering import responses as replies
from app.rendering.schemas import RecipeBody, Verification
from app.seeds import list_text
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
        frame_ms: FrameMs = origins.FRAME_MS,
        metadata: MetadataOf = "full",
        timeout_ms: Timeout = None,
    ) -> Response:
        """Sample images from a model, of a label if you ask for one.

        The same model, label and seed give the same bytes, whatever else the service is doing.
        """
        service = service_of(request)
        with service.accepted(timeout_ms, client_disconnected(request.receive)) as caller:
            await bodies.refuse_body(request)
            rendering = origins.Rendering(
                media_for(request, format), scale, layout, metadata, frame_ms
            )
            numbers = seeds_in(request, seeds, settings.max_n)
            order = service.order(model, label, n, seed, caller, numbers, truncation)
            replies.check_size(rendering, order.model.network.image_shape, len(order.seeds))
            seeded = seed is not None or numbers is not None
            pinned = model is not None and "@" in model
            origin = origins.origin_of(
                order, service.samples(order), rendering, seeded, pinned, service.identity
            )
            if (known := known_already(request, origin, rendering.media)) is not None:
                return known
            made = await service.generate(order)
            return await rendered(rendering, made.images, origin, made.timing)

    return generate


def verify(settings: Settings) -> Endpoint:
    """``settings`` gives the limits that the OpenAPI states."""

    async def verify(request: Request, response: Response, timeout_ms: Timeout = None) -> Any:
        """A PNG or WebP of /generate in; whether its recipe still makes it, pixel for pixel, out.

        The recipe in the file is made again and compared. It proves that the pixels are those of
        this model and these seeds, not who asked for them. Nothing is stored.
        """
        service = service_of(request)
        with service.accepted(timeout_ms, client_disconnected(request.receive)) as caller:
            data = await bodies.read_file(request, settings.max_body_bytes)
            picture = await to_thread.run_sync(provenance.read, data, limiter=CODERS)
            recipe = recipe_of(picture, settings.max_n)
            made = await regenerate(service, recipe, caller)
            if made is None:
                detail = f"no model of the digest {recipe.digest[:12]}… is served here"
                found = Finding("unknown_model", recipe, detail)
            else:
                found = await to_thread.run_sync(
                    compare, picture, recipe, *made, settings.max_pixels, limiter=CODERS
                )
        response.headers["Cache-Control"] = "no-store"
        return _verification(service, found)

    return verify


def _verification(service: Service, found: Finding) -> Verification:
    told = asdict(found.recipe) | {"seeds": list_text(found.recipe.seeds)}
    name = None if found.model is None else found.model.name
    return Verification(
        verdict=found.verdict,
        detail=found.detail,
        recipe=RecipeBody(**told),
        model=name,
        reproducibility=None if name is None else service.engine.grades[name],
        different_pixels=found.different_pixels,
        largest_difference=found.largest_difference,
    )
