"""POST /verify: whether a picture is what its own recipe makes."""

from dataclasses import asdict
from typing import Any

from anyio import to_thread
from fastapi import Request, Response

from app.api.bodies.pictures import read_file
from app.api.common import CODERS, Endpoint, service_of
from app.api.parameters.declared import Timeout
from app.core.service import Service
from app.core.verification import VerificationResult, compare, parse_recipe, regenerate
from app.formats import provenance
from app.http.disconnect import client_disconnected
from app.rendering.schemas import RecipeBody, Verification
from app.seeds import list_text
from app.settings import Settings


def verify(settings: Settings) -> Endpoint:
    """``settings`` gives the limits that the OpenAPI states."""

    async def verify(request: Request, response: Response, timeout_ms: Timeout = None) -> Any:
        """A PNG or WebP of /generate in; whether its recipe still makes it, pixel for pixel, out.

        The recipe in the file is made again and compared. It proves that the pixels are those of
        this model and these seeds, not who asked for them. Nothing is stored.
        """
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            data = await read_file(request, settings.max_body_bytes)
            picture = await to_thread.run_sync(provenance.read_recipe, data, limiter=CODERS)
            recipe = parse_recipe(picture, settings.max_n)
            made = await regenerate(service, recipe, context)
            if made is None:
                detail = f"no model of the digest {recipe.digest[:12]}… is served here"
                found = VerificationResult("unknown_model", recipe, detail)
            else:
                found = await to_thread.run_sync(
                    compare, picture, recipe, *made, settings.max_pixels, limiter=CODERS
                )
        response.headers["Cache-Control"] = "no-store"
        return _verification(service, found)

    return verify


def _verification(service: Service, found: VerificationResult) -> Verification:
    told = asdict(found.recipe) | {"seeds": list_text(found.recipe.seeds)}
    name = None if found.model is None else found.model.name
    return Verification(
        verdict=found.verdict,
        detail=found.detail,
        recipe=RecipeBody(**told),
        model=name,
        reproducibility=None if name is None else service.engine.reproducibility[name],
        different_pixels=found.different_pixels,
        largest_difference=found.largest_difference,
    )
