"""GET /models: the served models, as JSON or as HTML pages."""

import hashlib
from typing import Any

from fastapi import Request, Response

from app.api import pages
from app.api.common import document_response, is_pinned, not_modified, root_of, service_of
from app.core.selection import pinned_name
from app.core.service import Service
from app.engines.rows import takes_truncation
from app.engines.store import PICTURES, StoredModel
from app.errors import NotFoundError, shown
from app.formats.media_types import PNG, WEBP
from app.rendering.caching import IMMUTABLE, entity_tag
from app.rendering.schemas import LatentPart, ModelCard, ModelList


async def list_models(request: Request) -> Any:
    """The served models, and the files of the store that were refused: JSON, or a page."""
    service = service_of(request)
    cards = [
        _card(service, service.models[name], root_of(request)) for name in sorted(service.models)
    ]
    models = ModelList(
        default=service.selector.default,
        default_encoder=service.selector.default_encoder,
        aliases=dict(service.selector.aliases),
        max_n=service.max_n,
        models=cards,
        refused=service.refused,
    )
    return document_response(request, models, pages.models_page)


async def get_model(request: Request, name: str) -> Any:
    """One model's card: JSON, or a page with its pictures."""
    service = service_of(request)
    card = _card(service, service.selector.model(name), root_of(request))
    return document_response(request, card, pages.card_page)


async def get_model_picture(request: Request, name: str, file: str) -> Response:
    """A picture of a model's card, at the address that the card lists."""
    model = service_of(request).selector.model(name)
    served = {_picture_file(shows): picture for shows, picture in model.pictures.items()}
    picture = served.get(file)
    if picture is None:
        available = ", ".join(served) or "none"
        raise NotFoundError(f"{model.name} has no picture {shown(file)}; available: {available}")
    # Without a digest, the name may lead to another checkpoint tomorrow.
    cache = IMMUTABLE if is_pinned(name) else "no-cache"
    headers = {"Cache-Control": cache, "ETag": entity_tag(hashlib.sha256(picture).hexdigest())}
    if not_modified(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    media = WEBP if file.endswith(".webp") else PNG
    return Response(picture, media_type=media, headers=headers)


def _picture_file(shows: str) -> str:
    """Name of a card's picture in its address."""
    return shows + PICTURES[shows][PICTURES[shows].rindex(".") :]


def _card(service: Service, model: StoredModel, root: str) -> ModelCard:
    network, description = model.network, model.description
    return ModelCard(
        name=model.name,
        kind=description.kind,
        operations=list(service.engine.operations(model.name)),
        labels=list(description.labels),
        latent_dim=network.latent_dim,
        latent=[
            LatentPart(name=part.name, shape=list(part.shape), distribution=part.distribution)
            for part in model.latent
        ],
        truncation=takes_truncation(network),
        image_shape=list(network.image_shape),
        digest=description.digest,
        reproducibility=service.engine.reproducibility[model.name],
        engine=model.backend.engine,
        device=model.backend.device,
        data=description.data,
        training=description.training,
        metrics=description.metrics,
        pictures={
            shows: f"{root}/models/{pinned_name(model)}/pictures/{_picture_file(shows)}"
            for shows in model.pictures
        },
    )
