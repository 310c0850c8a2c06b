"""POST /verify: whether an image is what its own recipe reproduces."""

from dataclasses import asdict

from fastapi import Request, Response

from app.api.bodies.pictures import read_file
from app.api.common import Endpoint, json_response, service_of
from app.api.parameters.declared import TimeoutMs
from app.core.pieces import PIECE, in_thread
from app.core.service import Service
from app.core.verification import VerificationResult, compare, parse_recipe, regenerate
from app.formats import provenance
from app.http.disconnect import client_disconnected
from app.rendering.schemas import RecipeBody, Verification
from app.seeds import list_text
from app.settings import Settings


def verify(settings: Settings) -> Endpoint:
    """The endpoint, with the limits of ``settings``."""

    async def verify(request: Request, timeout_ms: TimeoutMs = None) -> Response:
        """Check a PNG or WebP of /generate: does its recipe still reproduce it, pixel for pixel?

        The recipe in the file is run again and the pixels are compared. This proves that the
        pixels are those of this model and these seeds, not who requested them. Nothing is stored.
        """
        service = service_of(request)
        with service.track_request(timeout_ms, client_disconnected(request.receive)) as context:
            data = await read_file(request, settings.max_body_bytes)
            if len(data) <= PIECE:
                picture = provenance.read_recipe(data)
            else:  # up to 10 ms, for 8 MB
                picture = await in_thread(provenance.read_recipe, data)
            recipe = parse_recipe(picture, settings.max_n)
            regenerated = await regenerate(service, recipe, context)
            if regenerated is None:
                detail = f"no model with the digest {recipe.digest[:12]}… is served here"
                finding = VerificationResult("unknown_model", recipe, detail)
            else:
                finding = await compare(service, picture, recipe, *regenerated, context)
        return json_response(_verification(service, finding), {"Cache-Control": "no-store"})

    return verify


def _verification(service: Service, finding: VerificationResult) -> Verification:
    recipe = asdict(finding.recipe) | {"seeds": list_text(finding.recipe.seeds)}
    name = None if finding.model is None else finding.model.name
    return Verification(
        verdict=finding.verdict,
        detail=finding.detail,
        recipe=RecipeBody(**recipe),
        model=name,
        reproducibility=None if name is None else service.engine.reproducibility[name],
        different_pixels=finding.different_pixels,
        largest_difference=finding.largest_difference,
    )
