"""The endpoints: read the request, submit it, reply."""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from app import bodies, provenance, replies
from app.dataset import Dataset, Datasets
from app.engine import Latent, Posterior
from app.errors import PROBLEMS, NotFoundError, NotReadyError, ServiceError, shown
from app.images import Image, to_png
from app.middleware import PROBLEM, has_left, is_head
from app.negotiation import FORMATS, JSON, NPY, NPZ, PNG, WEBP, ZIP, choose
from app.parameters import (
    PLAIN,
    Center,
    DatasetFormat,
    EncoderName,
    Format,
    Invert,
    Label,
    LayoutOf,
    MetadataOf,
    ModelName,
    Scale,
    Seed,
    Timeout,
    Truncation,
    check_query,
    seeds_in,
    seeds_parameter,
)
from app.pending import Timing
from app.pictures import Fitting, Picture, fitting, read_picture, summary
from app.provenance import FROM_UPLOAD
from app.schemas import (
    ImageList,
    Latents,
    ModelCard,
    ModelList,
    Pictures,
    PosteriorItem,
    PosteriorList,
    Problem,
    Readiness,
    RecipeBody,
    Status,
    Verification,
    reference,
)
from app.seeds import list_text, normals
from app.service import Service
from app.settings import Settings
from app.status import status
from app.store import StoredModel
from app.streams import StreamReply
from app.verify import Finding, compare, recipe_of, regenerate

_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_EXAMPLE_PNG = base64.b64encode(to_png(np.zeros((28, 28), dtype=np.uint8))).decode()


_CODERS = CapacityLimiter(2)  # threads


class PngResponse(Response):
    """So that the OpenAPI, and with it Swagger UI, expects a picture."""

    media_type = PNG


class ZipResponse(Response):
    """The same for an archive."""

    media_type = ZIP


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI's account of an operation's errors."""
    return {
        status: {
            "description": " or ".join(e.title for e in PROBLEMS.values() if e.status == status),
            "content": {PROBLEM: {"schema": reference(Problem)}},
        }
        for status in statuses
    }


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


_PLAIN_HEADERS = {
    "X-Model": _header("model that made them"),
    "Cache-Control": _header(
        "no-store: another call gives other images; no-cache: ask again with If-None-Match; "
        "immutable: the address names the model's digest"
    ),
    "Vary": _header("Accept"),
}
_MADE_BY = _PLAIN_HEADERS | {
    "X-Seed": _header("seed of the first image", "integer"),
    "Content-Location": _header("the one address, with the model's digest, of these bytes"),
}
_PICTURE = {
    "X-Picture": _header(
        "size of the upload and what was done to it before the model saw it, such as 280x280, "
        "inverted, centred; of several uploads in their order"
    )
}
_TIMING = {"Server-Timing": _header("queue, batch, compute and encode; milliseconds")}
_ETAG = {"ETag": _header("strong; where the seeds are given and the model's grade is exact")}
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {
        "description": "If-None-Match names these images; no model was asked",
        "headers": _MADE_BY | _ETAG,
    }
}
_IMAGES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The images: PNG or lossless WebP (one sheet when there are several), JSON, "
        "npy (n, H, W), or ZIP (a PNG an image and manifest.csv)",
        "content": {
            PNG: _BINARY,
            WEBP: _BINARY,
            JSON: {"schema": reference(ImageList)},
            NPY: _BINARY,
            ZIP: _BINARY,
        },
        "headers": _PLAIN_HEADERS | _TIMING,
    }
}
_REBUILT: dict[int | str, dict[str, Any]] = {
    200: _IMAGES[200] | {"headers": _PLAIN_HEADERS | _TIMING | _PICTURE}
}
_ENCODED: dict[int | str, dict[str, Any]] = {
    200: {"headers": {k: v for k, v in _PLAIN_HEADERS.items() if k != "Vary"} | _PICTURE}
}
_GENERATED: dict[int | str, dict[str, Any]] = {
    200: _IMAGES[200] | {"headers": _MADE_BY | _ETAG | _TIMING}
}
_DATASET: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "ZIP: a PNG an image in a folder a class, then manifest.csv (file, label, "
        "name of the class, seed). NPZ: images (n, H, W), labels and seeds",
        "content": {ZIP: _BINARY, NPZ: _BINARY},
        "headers": _MADE_BY,
    }
}


def _body(**content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


_FORM = {
    "schema": {
        "type": "object",
        "required": [bodies.FIELD],
        "properties": {bodies.FIELD: {"type": "string", "format": "binary"}},
    }
}
_PICTURE_BODY = _body(
    **{
        "image/png": _BINARY,
        "image/jpeg": _BINARY,
        "image/webp": _BINARY,
        bodies.MULTIPART: _FORM,
        JSON: {"schema": reference(Pictures), "example": {"images": [_EXAMPLE_PNG]}},
    }
)
_FILE_BODY = _body(**{PNG: _BINARY, WEBP: _BINARY, bodies.MULTIPART: _FORM})
_LATENT_BODY = _body(**{JSON: {"schema": reference(Latents)}, NPY: _BINARY})


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _choose(request: Request, wanted: str | None, offers: Sequence[str] = replies.OFFERS) -> str:
    if wanted:
        return FORMATS[wanted]
    return choose(", ".join(request.headers.getlist("accept")), offers)


def _known(request: Request, origin: replies.Origin, media: str) -> Response | None:
    """The answer where the tag says all: to HEAD, and to who has these images already."""
    if origin.etag is None or request.method != "GET":
        return None
    tags = request.headers.getlist("if-none-match")
    if tags and replies.has_it(", ".join(tags), origin.etag):
        return replies.without_images(media, origin, 304)
    return replies.without_images(media, origin, 200) if is_head(request.scope) else None


async def _rendered(
    rendering: replies.Rendering, images: Sequence[Image], origin: replies.Origin, timing: Timing
) -> Response:
    """The reply; WebP, which takes long to find few bytes, is made off the event loop."""
    if rendering.media != WEBP:
        return replies.images_reply(rendering, images, origin, timing)
    return await to_thread.run_sync(
        replies.images_reply, rendering, images, origin, timing, limiter=_CODERS
    )


async def _pictures(
    request: Request, model: StoredModel, how: Fitting, settings: Settings
) -> list[Picture]:
    files = await bodies.read_pictures(request, settings.max_body_bytes, settings.max_n)
    shape, max_pixels = model.network.image_shape, settings.max_pixels // len(files)
    # Decoding takes up to half a second of C code and a hundred megabytes: not on the event loop,
    # and few at a time.
    return [
        await to_thread.run_sync(read_picture, f, shape, max_pixels, how, limiter=_CODERS)
        for f in files
    ]


def _posterior_items(
    posteriors: list[Posterior], pictures: list[Picture], seed: int | None
) -> list[PosteriorItem]:
    items = []
    for index, ((mu, logvar), picture) in enumerate(zip(posteriors, pictures, strict=True)):
        z: Latent = mu
        if seed is not None:
            number = np.array([seed + index], dtype=np.uint64)
            z = mu + np.exp(logvar / 2) * normals(number, len(mu))[0]
        items.append(
            PosteriorItem(
                mu=mu.tolist(),
                logvar=logvar.tolist(),
                z=z.tolist(),
                picture=replies.picture_note(picture),
            )
        )
    return items


def build_router(settings: Settings) -> APIRouter:
    """Every operation of the interface; ``settings`` gives the limits that the OpenAPI states."""
    router = APIRouter(dependencies=[Depends(check_query)], responses=_problems(422))

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
        metadata: MetadataOf = "full",
        timeout_ms: Timeout = None,
    ) -> Response:
        """Sample images from a model, of a label if you ask for one.

        The same model, label and seed give the same bytes, whatever else the service is doing.
        """
        service = _service(request)
        with service.accepted(timeout_ms, has_left(request.receive)) as caller:
            await bodies.refuse_body(request)
            rendering = replies.Rendering(_choose(request, format), scale, layout, metadata)
            numbers = seeds_in(request, seeds, settings.max_n)
            order = service.order(model, label, n, seed, caller, numbers, truncation)
            replies.check_size(rendering, order.model.network.image_shape, len(order.seeds))
            seeded = seed is not None or numbers is not None
            pinned = model is not None and "@" in model
            origin = replies.origin_of(
                order, service.samples(order), rendering, seeded, pinned, service.identity
            )
            if (known := _known(request, origin, rendering.media)) is not None:
                return known
            made = await service.generate(order)
            return await _rendered(rendering, made.images, origin, made.timing)

    for method in ("POST", "GET"):  # GET is the same call, for <img src>, notebooks and caches
        router.add_api_route(
            "/generate",
            generate,
            methods=[method],
            operation_id="generate" if method == "POST" else "generate_get",
            tags=["images"],
            response_class=PngResponse,
            responses=_GENERATED
            | (_NOT_MODIFIED if method == "GET" else {})
            | _problems(404, 406, 422, 500, 503, 504),
        )

    datasets = Datasets(settings.max_datasets)

    async def dataset(
        request: Request,
        model: ModelName = None,
        label: Annotated[
            str | None,
            Query(
                max_length=64,
                description="class of all images: its name, else its index; none on a conditional "
                "model = every class as often: image i has label i mod classes",
            ),
        ] = None,
        n: Annotated[
            int, Field(ge=1, le=settings.max_dataset_n), PLAIN, Query(description="images")
        ] = min(1000, settings.max_dataset_n),
        seed: Seed = None,
        format: DatasetFormat = None,
        metadata: MetadataOf = "mark",
    ) -> Response:
        """Sample a labelled data set, sent as one file while it is made.

        Image i is the one that /generate gives for seed + i and the same label, and the same
        parameters give the same file. Other requests go first. The connection is cut when something
        fails, so a file that came whole is whole. Every batch has the service's own time limit;
        X-Timeout-Ms does not apply.
        """
        service = _service(request)
        await bodies.refuse_body(request)
        media = _choose(request, format, (ZIP, NPZ))
        made = Dataset(*service.choose(model, label, n, seed), metadata)
        headers = replies.dataset_headers(media, made, seed is not None)
        return StreamReply(datasets.archive(service, made, media), media, headers)

    for method in ("POST", "GET"):  # GET for links to click
        router.add_api_route(
            "/dataset",
            dataset,
            methods=[method],
            operation_id="dataset" if method == "POST" else "dataset_get",
            tags=["images"],
            response_class=ZipResponse,
            responses=_DATASET | _problems(404, 406, 422, 500, 503, 504),
        )

    @router.post(
        "/encode",
        operation_id="encode",
        tags=["latents"],
        response_model=PosteriorList,
        responses=_ENCODED | _problems(400, 404, 413, 415, 422, 500, 503, 504),
        openapi_extra=_PICTURE_BODY,
    )
    async def encode(
        request: Request,
        response: Response,
        model: EncoderName = None,
        seed: Seed = None,
        invert: Invert = "auto",
        center: Center = "auto",
        timeout_ms: Timeout = None,
    ) -> Any:
        """Pictures in, their places in the latent space out: mean, log-variance, and a draw z."""
        service = _service(request)
        with service.accepted(timeout_ms, has_left(request.receive)) as caller:
            encoder = service.encoder(model)
            how = fitting(encoder.description.data, invert, center)
            pictures = await _pictures(request, encoder, how, settings)
            if seed is not None:
                service.check_seeds(seed, len(pictures))
            images = [picture.image for picture in pictures]
            posteriors, _ = await service.encode(encoder, images, caller)
            response.headers["Cache-Control"] = "no-store"
            response.headers["X-Model"] = encoder.name
            response.headers["X-Picture"] = summary(pictures)
            items = _posterior_items(posteriors, pictures, seed)
            return PosteriorList(model=encoder.name, seed=seed, items=items)

    @router.post(
        "/decode",
        operation_id="decode",
        tags=["latents"],
        response_class=PngResponse,
        responses=_IMAGES | _problems(400, 404, 406, 413, 415, 422, 500, 503, 504),
        openapi_extra=_LATENT_BODY,
    )
    async def decode(
        request: Request,
        model: EncoderName = None,
        format: Format = None,
        scale: Scale = 1,
        layout: LayoutOf = "grid",
        metadata: MetadataOf = "full",
        timeout_ms: Timeout = None,
    ) -> Response:
        """Latents in, pictures out."""
        service = _service(request)
        with service.accepted(timeout_ms, has_left(request.receive)) as caller:
            decoder = service.encoder(model)
            rendering = replies.Rendering(_choose(request, format), scale, layout, metadata)
            latents = await bodies.read_latents(
                request, settings.max_body_bytes, decoder.network.latent_dim, settings.max_n
            )
            replies.check_size(rendering, decoder.network.image_shape, len(latents))
            images, timing = await service.decode(decoder, latents, caller)
            origin = replies.upload_origin(decoder, len(images))
            return await _rendered(rendering, images, origin, timing)

    @router.post(
        "/reconstruct",
        operation_id="reconstruct",
        tags=["latents"],
        response_class=PngResponse,
        responses=_REBUILT | _problems(400, 404, 406, 413, 415, 422, 500, 503, 504),
        openapi_extra=_PICTURE_BODY,
    )
    async def reconstruct(
        request: Request,
        model: EncoderName = None,
        format: Format = None,
        scale: Scale = 1,
        layout: LayoutOf = "grid",
        metadata: MetadataOf = "full",
        invert: Invert = "auto",
        center: Center = "auto",
        timeout_ms: Timeout = None,
    ) -> Response:
        """Encode pictures, then decode their means: what the model keeps of them."""
        service = _service(request)
        with service.accepted(timeout_ms, has_left(request.receive)) as caller:
            encoder = service.encoder(model)
            rendering = replies.Rendering(_choose(request, format), scale, layout, metadata)
            how = fitting(encoder.description.data, invert, center)
            pictures = await _pictures(request, encoder, how, settings)
            replies.check_size(rendering, encoder.network.image_shape, len(pictures))
            originals = [picture.image for picture in pictures]
            posteriors, _ = await service.encode(encoder, originals, caller)
            means = [mu for mu, _ in posteriors]
            images, timing = await service.decode(encoder, means, caller)
            origin = replies.upload_origin(encoder, len(images), FROM_UPLOAD, pictures)
            return await _rendered(rendering, images, origin, timing)

    @router.post(
        "/verify",
        operation_id="verify",
        tags=["images"],
        response_model=Verification,
        responses=_problems(400, 413, 415, 422, 500, 503, 504),
        openapi_extra=_FILE_BODY,
    )
    async def verify(request: Request, response: Response, timeout_ms: Timeout = None) -> Any:
        """A PNG or WebP of /generate in; whether its recipe still makes it, pixel for pixel, out.

        The recipe in the file is made again and compared. It proves that the pixels are those of
        this model and these seeds, not who asked for them. Nothing is stored.
        """
        service = _service(request)
        with service.accepted(timeout_ms, has_left(request.receive)) as caller:
            data = await bodies.read_file(request, settings.max_body_bytes)
            picture = await to_thread.run_sync(provenance.read, data, limiter=_CODERS)
            recipe = recipe_of(picture, settings.max_n)
            made = await regenerate(service, recipe, caller)
            if made is None:
                detail = f"no model of the digest {recipe.digest[:12]}… is served here"
                found = Finding("unknown_model", recipe, detail)
            else:
                found = await to_thread.run_sync(
                    compare, picture, recipe, *made, settings.max_pixels, limiter=_CODERS
                )
        response.headers["Cache-Control"] = "no-store"
        return _verification(service, found)

    @router.get("/models", operation_id="list_models", tags=["models"], response_model=ModelList)
    async def list_models(request: Request) -> Any:
        """What is served, and which files of the store were refused."""
        service = _service(request)
        cards = [_card(service, service.models[name]) for name in sorted(service.models)]
        return ModelList(default=service.default, models=cards, refused=service.refused)

    @router.get(
        "/models/{name}",
        operation_id="get_model",
        tags=["models"],
        response_model=ModelCard,
        responses=_problems(404),
    )
    async def get_model(request: Request, name: str) -> Any:
        """One model's card."""
        service = _service(request)
        return _card(service, service.model(name))

    @router.get("/livez", operation_id="livez", tags=["operation"], responses=_problems(503))
    async def livez(request: Request) -> dict[str, str]:
        """The process runs and answers, and so do the model and what feeds it."""
        if reason := _service(request).not_alive():
            raise NotReadyError(reason)
        return {"status": "alive"}

    @router.get(
        "/readyz",
        operation_id="readyz",
        tags=["operation"],
        response_model=Readiness,
        responses=_problems(503),
    )
    async def readyz(request: Request) -> Any:
        """Every model answers a canary sent through the real queue (cached for a second).

        Being busy is no reason to be taken out of service; stopping is one.
        """
        service = _service(request)
        failing = await service.not_ready()
        if failing:
            detail = "; ".join(f"{name}: {reason}" for name, reason in failing.items())
            raise NotReadyError(detail, retry_after_s=1)
        return Readiness(ready=True, models=sorted(service.models))

    @router.get("/status", operation_id="get_status", tags=["operation"], response_model=Status)
    async def get_status(request: Request) -> Any:
        """Queue, counts, and what each model's forward passes cost."""
        return status(_service(request))

    @router.get("/metrics", operation_id="metrics", tags=["operation"], response_class=Response)
    async def metrics(request: Request) -> Response:
        """Counters and histograms in Prometheus' text format."""
        service = _service(request)
        service.measure()
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/problems", operation_id="list_problems", tags=["errors"])
    async def list_problems() -> dict[str, dict[str, Any]]:
        """Every kind of error: its status, and what it means."""
        return {slug: _about(error) for slug, error in PROBLEMS.items()}

    @router.get(
        "/problems/{slug}", operation_id="get_problem", tags=["errors"], responses=_problems(404)
    )
    async def get_problem(slug: str) -> dict[str, Any]:
        """One kind of error: where the ``type`` of an error leads."""
        if slug not in PROBLEMS:
            raise NotFoundError(f"no problem is called {shown(slug)}; GET /problems lists them")
        return _about(PROBLEMS[slug])

    return router


def _about(error: type[ServiceError]) -> dict[str, Any]:
    return {"status": error.status, "title": error.title, "about": error.about}


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


def _card(service: Service, model: StoredModel) -> ModelCard:
    network, description = model.network, model.description
    return ModelCard(
        name=model.name,
        kind=description.kind,
        operations=list(service.engine.operations(model.name)),
        labels=list(description.labels),
        latent_dim=network.latent_dim,
        image_shape=list(network.image_shape),
        digest=description.digest,
        reproducibility=service.engine.grades[model.name],
        engine=model.runner.engine,
        device=model.runner.device,
        data=description.data,
        training=description.training,
        metrics=description.metrics,
    )
