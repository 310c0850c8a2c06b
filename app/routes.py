"""The endpoints: read the request, submit it, reply."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from app import bodies, pages, provenance, replies
from app.dataset import Dataset, Datasets
from app.engine import Latent, Posterior
from app.errors import PROBLEMS, NotFoundError, NotReadyError, ServiceError, shown
from app.images import Image, to_png
from app.middleware import PROBLEM, has_left, is_head
from app.negotiation import FORMATS, HTML, JSON, NPY, NPZ, PNG, WEBP, ZIP, choose
from app.parameters import (
    PLAIN,
    AxisValue,
    Center,
    DatasetFormat,
    EncoderName,
    Format,
    FrameMs,
    Invert,
    Label,
    LayoutOf,
    MetadataOf,
    MethodOf,
    ModelName,
    Scale,
    Seed,
    Steps,
    Timeout,
    Truncation,
    axes_in,
    check_query,
    check_traversal,
    path_seeds_in,
    path_seeds_parameter,
    seeds_in,
    seeds_parameter,
)
from app.paths import path, traversal
from app.pending import Timing
from app.pictures import Fitting, Picture, fitting, read_picture, summary
from app.provenance import FROM_UPLOAD
from app.ranges import rest_asked
from app.schemas import (
    MAX_ENDS,
    End,
    Ends,
    ImageList,
    Latents,
    ModelCard,
    ModelList,
    Pictures,
    PosteriorItem,
    PosteriorList,
    Problem,
    ProblemKind,
    Readiness,
    RecipeBody,
    Status,
    Verification,
    reference,
)
from app.seeds import LIST_PATTERN, list_text, normals, random_seed
from app.service import Service, pinned_name
from app.settings import Settings
from app.status import status
from app.store import StoredModel
from app.streams import StreamReply
from app.verify import Finding, compare, recipe_of, regenerate
from app.walks import livelier_axes, walk

_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_EXAMPLE_PNG = base64.b64encode(to_png(np.zeros((28, 28), dtype=np.uint8))).decode()


_CODERS = CapacityLimiter(2)  # threads
Content = TypeVar("Content")


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
        for status in sorted({*statuses, *((429,) if 504 in statuses else ())})  # they queue
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
            replies.APNG: _BINARY,
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
_DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "JSON, or a page to read",
        "content": {HTML: {"schema": {"type": "string"}}},
        "headers": {"Vary": _header("Accept")},
    }
}
_DATASET: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "ZIP: a PNG an image in a folder a class, then manifest.csv (file, label, "
        "name of the class, seed). NPZ: images (n, H, W), labels and seeds",
        "content": {ZIP: _BINARY, NPZ: _BINARY},
        "headers": _MADE_BY | _ETAG,
    }
}
_DATASET_GET: dict[int | str, dict[str, Any]] = _NOT_MODIFIED | {
    206: {
        "description": "The rest of the file that Range and If-Range ask for",
        "content": _DATASET[200]["content"],
        "headers": _MADE_BY
        | _ETAG
        | {"Content-Range": _header("first-last/length; of a ZIP first-asked/*")},
    }
}
_RANGE = {
    "parameters": [
        {
            "name": "Range",
            "in": "header",
            "description": "gives the rest of the file after so many bytes, where the answer has "
            "an ETag: bytes=1000- of an NPZ; bytes=1000-9007199254740991 of either, for the length "
            "of a ZIP is not known before its end (RFC 8673). The model makes all of it again, for "
            "the end depends on it. All else is answered with the whole file",
            "schema": {"type": "string", "pattern": "^bytes=[0-9]{1,16}-[0-9]{0,16}$"},
        },
        {
            "name": "If-Range",
            "in": "header",
            "description": "ETag of the file that was begun: the whole is sent if this is another",
            "schema": {"type": "string"},
        },
    ]
}


_WALKED: dict[int | str, dict[str, Any]] = {
    200: _IMAGES[200]
    | {
        "headers": _PLAIN_HEADERS
        | _ETAG
        | _TIMING
        | {
            "Content-Location": _header("the one address of these bytes; where seeds decide all"),
            "X-Axes": _header("/traverse: the axes, a row of the picture each"),
            "X-Picture": _header("what was done to uploaded pictures"),
        }
    }
}


def _body(content: dict[str, Any], required: bool = True) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": content}}


_FORM = {
    "schema": {
        "type": "object",
        "required": [bodies.FIELD],
        "properties": {bodies.FIELD: {"type": "string", "format": "binary"}},
    }
}
_PICTURE_BODY = _body(
    {
        "image/png": _BINARY,
        "image/jpeg": _BINARY,
        "image/webp": _BINARY,
        bodies.MULTIPART: _FORM,
        JSON: {"schema": reference(Pictures), "example": {"images": [_EXAMPLE_PNG]}},
    }
)
_FORMS = {
    "schema": {
        "type": "object",
        "required": [bodies.FIELD],
        "properties": {
            bodies.FIELD: {
                "type": "array",
                "items": {"type": "string", "format": "binary"},
                "minItems": 2,
                "maxItems": MAX_ENDS,
            }
        },
    }
}
_ENDS_BODY = _body({JSON: {"schema": reference(Ends)}, bodies.MULTIPART: _FORMS}, required=False)
_END_BODY = _body(
    {
        JSON: {"schema": reference(End)},
        "image/png": _BINARY,
        "image/jpeg": _BINARY,
        "image/webp": _BINARY,
        bodies.MULTIPART: _FORM,
    },
    required=False,
)
_FILE_BODY = _body({PNG: _BINARY, WEBP: _BINARY, bodies.MULTIPART: _FORM})
_LATENT_BODY = _body({JSON: {"schema": reference(Latents)}, NPY: _BINARY})


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
    """The reply; WebP and films, which take long to find few bytes, are made off the event loop."""
    if rendering.media != WEBP and rendering.layout != replies.ANIMATION:
        return replies.images_reply(rendering, images, origin, timing)
    return await to_thread.run_sync(
        replies.images_reply, rendering, images, origin, timing, limiter=_CODERS
    )


async def _pictures(
    request: Request, model: StoredModel, how: Fitting, settings: Settings
) -> list[Picture]:
    files = await bodies.read_pictures(request, settings.max_body_bytes, settings.max_n)
    return await _decoded(files, model, how, settings)


async def _decoded(
    files: Sequence[bytes], model: StoredModel, how: Fitting, settings: Settings
) -> list[Picture]:
    if not files:
        return []
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
        frame_ms: FrameMs = replies.FRAME_MS,
        metadata: MetadataOf = "full",
        timeout_ms: Timeout = None,
    ) -> Response:
        """Sample images from a model, of a label if you ask for one.

        The same model, label and seed give the same bytes, whatever else the service is doing.
        """
        service = _service(request)
        with service.accepted(timeout_ms, has_left(request.receive)) as caller:
            await bodies.refuse_body(request)
            rendering = replies.Rendering(
                _choose(request, format), scale, layout, metadata, frame_ms
            )
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
        fails, so a file that came whole is whole; GET with a seed and a Range header gives the rest
        of one that did not. Every batch has the service's own time limit; X-Timeout-Ms does not
        apply.
        """
        service = _service(request)
        await bodies.refuse_body(request)
        media = _choose(request, format, (ZIP, NPZ))
        made = Dataset(*service.choose(model, label, n, seed), metadata)
        identity = service.identity(made.model)
        headers = replies.dataset_headers(media, made, seed is not None, identity)
        rest = None
        if "ETag" in headers and request.method == "GET":
            etag, length = headers["ETag"], headers.get("Content-Length")
            tags = request.headers.getlist("if-none-match")
            if tags and replies.has_it(", ".join(tags), etag):
                headers.pop("Content-Length", None)
                return Response(status_code=304, headers=headers)
            if not is_head(request.scope):
                asked, if_range = request.headers.get("range"), request.headers.get("if-range")
                rest = rest_asked(asked, if_range, etag, None if length is None else int(length))
        return StreamReply(datasets.archive(service, made, media), media, headers, rest)

    for method in ("POST", "GET"):  # GET for links to click
        router.add_api_route(
            "/dataset",
            dataset,
            methods=[method],
            operation_id="dataset" if method == "POST" else "dataset_get",
            tags=["images"],
            response_class=ZipResponse,
            responses=_DATASET
            | (_DATASET_GET if method == "GET" else {})
            | _problems(404, 406, *((416,) if method == "GET" else ()), 422, 500, 503, 504),
            openapi_extra=_RANGE if method == "GET" else None,
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
        frame_ms: FrameMs = replies.FRAME_MS,
        metadata: MetadataOf = "full",
        timeout_ms: Timeout = None,
    ) -> Response:
        """Latents in, pictures out."""
        service = _service(request)
        with service.accepted(timeout_ms, has_left(request.receive)) as caller:
            decoder = service.encoder(model)
            rendering = replies.Rendering(
                _choose(request, format), scale, layout, metadata, frame_ms
            )
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
        frame_ms: FrameMs = replies.FRAME_MS,
        metadata: MetadataOf = "full",
        show: Annotated[
            Literal["reconstruction", "beside", "error"],
            Query(
                description="of a PNG or WebP: the reconstructions alone; a row a picture with the "
                "picture, as the model takes it, beside it; and with their difference as well, "
                "white where it is 1 (0 = the same)"
            ),
        ] = "reconstruction",
        invert: Invert = "auto",
        center: Center = "auto",
        timeout_ms: Timeout = None,
    ) -> Response:
        """Encode pictures, then decode their means: what the model keeps of them."""
        service = _service(request)
        with service.accepted(timeout_ms, has_left(request.receive)) as caller:
            encoder = service.encoder(model)
            rendering = replies.Rendering(
                _choose(request, format), scale, layout, metadata, frame_ms
            )
            how = fitting(encoder.description.data, invert, center)
            pictures = await _pictures(request, encoder, how, settings)
            columns = {"reconstruction": None, "beside": 2, "error": 3}[show]
            tiles = len(pictures) * (columns or 1)
            replies.check_size(rendering, encoder.network.image_shape, tiles, columns)
            originals = [picture.image for picture in pictures]
            posteriors, _ = await service.encode(encoder, originals, caller)
            means = [mu for mu, _ in posteriors]
            images, timing = await service.decode(encoder, means, caller)
            origin = replies.upload_origin(encoder, len(images), FROM_UPLOAD, pictures)
            origin = replies.compared(origin, originals, images, columns)
            return await _rendered(rendering, images, origin, timing)

    default_steps, default_values = min(16, settings.max_n), min(7, settings.max_n)

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
        frame_ms: FrameMs = replies.FRAME_MS,
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
        service = _service(request)
        with service.accepted(timeout_ms, has_left(request.receive)) as caller:
            rendering = replies.Rendering(
                _choose(request, format), scale, layout, metadata, frame_ms
            )
            ends: Sequence[bodies.End]
            if seeds is None and bodies.has_body(request):
                ends = await bodies.read_ends(request, settings.max_body_bytes)
            else:
                await bodies.refuse_body(request)
                ends = path_seeds_in(seeds)
            found = walk(service, model, label, ends, truncation)
            replies.check_size(rendering, found.model.network.image_shape, steps)
            parameters: dict[str, str | int] = {"steps": steps, "method": method}
            if found.by_seeds:
                parameters["seeds"] = list_text([end for end in ends if isinstance(end, int)])
            pinned = model is not None and "@" in model
            address = "/interpolate", parameters
            origin = replies.walk_origin(found, address, steps, rendering, pinned, service.identity)
            if (known := _known(request, origin, rendering.media)) is not None:
                return known
            how = fitting(found.model.description.data, invert, center)
            pictures = await _decoded(found.files, found.model, how, settings)
            latents = await found.latents(service, [p.image for p in pictures], caller)
            way, places = path(latents, steps, method)
            images, timing = await found.images(service, way, caller)
            items = [{"at": place} for place in places.tolist()]
            origin = replies.from_pictures(origin, pictures)._replace(items=items)
            return await _rendered(rendering, images, origin, timing)

    async def traverse(
        request: Request,
        model: ModelName = None,
        label: Label = None,
        seed: Seed = None,
        axes: Annotated[
            str | None,
            Query(
                max_length=1000,
                description="indices of the latent's numbers to change, such as 0-3,17; none = "
                "the 8 that tell most (of most KL, where the model's card has it)",
                json_schema_extra={"pattern": f"^{LIST_PATTERN}$"},
            ),
        ] = None,
        low: Annotated[AxisValue, Query(description="first value")] = -3,
        high: Annotated[AxisValue, Query(description="last value")] = 3,
        steps: Annotated[
            Steps, Field(le=settings.max_n), Query(description="values; the columns")
        ] = default_values,
        truncation: Truncation = 1,
        format: Format = None,
        scale: Scale = 1,
        layout: LayoutOf = "grid",
        frame_ms: FrameMs = replies.FRAME_MS,
        metadata: MetadataOf = "full",
        invert: Invert = "auto",
        center: Center = "auto",
        timeout_ms: Timeout = None,
    ) -> Response:
        """What each number of a latent does: one latent with one axis after the other set to each
        of a range of values, a row an axis.

        The latent is a seed's, or in the body: a picture, or JSON with z, image or seed. Axes are
        those of a VAE's z, where a seed's picture is encoded first, and else those of the noise.
        X-Axes lists them.
        """
        service = _service(request)
        with service.accepted(timeout_ms, has_left(request.receive)) as caller:
            rendering = replies.Rendering(
                _choose(request, format), scale, layout, metadata, frame_ms
            )
            end: bodies.End
            if seed is None and bodies.has_body(request):
                end = await bodies.read_end(request, settings.max_body_bytes)
            else:
                await bodies.refuse_body(request)
                end = random_seed() if seed is None else seed
            found = walk(service, model, label, [end], truncation, always_z=True)
            size = found.model.network.latent_dim
            chosen = (
                livelier_axes(found.model, min(8, settings.max_n // steps))
                if axes is None
                else axes_in(axes, size)
            )
            check_traversal(low, high, steps, len(chosen), settings.max_n)
            total = len(chosen) * steps
            replies.check_size(rendering, found.model.network.image_shape, total, steps)
            listed = ",".join(map(str, chosen))
            parameters: dict[str, str | int] = {}
            if isinstance(end, int):
                parameters = {"seed": end, "axes": listed}
                parameters |= {"low": f"{low:g}", "high": f"{high:g}", "steps": steps}
            pinned = model is not None and "@" in model
            address = "/traverse", parameters
            origin = replies.walk_origin(found, address, total, rendering, pinned, service.identity)
            origin = origin._replace(columns=steps, headers={"X-Axes": listed})
            if seed is None:
                origin = origin._replace(etag=None, cache="no-store")
            if (known := _known(request, origin, rendering.media)) is not None:
                return known
            how = fitting(found.model.description.data, invert, center)
            pictures = await _decoded(found.files, found.model, how, settings)
            (start,) = await found.latents(service, [p.image for p in pictures], caller)
            values = np.linspace(low, high, steps).tolist()
            images, timing = await found.images(service, traversal(start, chosen, values), caller)
            items = [{"axis": axis, "value": value} for axis in chosen for value in values]
            origin = replies.from_pictures(origin, pictures)._replace(items=items)
            return await _rendered(rendering, images, origin, timing)

    for path_, operation, body in (
        ("/interpolate", interpolate, _ENDS_BODY),
        ("/traverse", traverse, _END_BODY),
    ):
        for method in ("POST", "GET"):  # GET for seeds: permalinks and caches
            router.add_api_route(
                path_,
                operation,
                methods=[method],
                operation_id=path_[1:] + ("" if method == "POST" else "_get"),
                tags=["latents"],
                response_class=PngResponse,
                responses=(_WALKED | _problems(400, 404, 406, 413, 415, 422, 500, 503, 504))
                if method == "POST"
                else (_WALKED | _NOT_MODIFIED | _problems(404, 406, 422, 500, 503, 504)),
                openapi_extra=body if method == "POST" else None,
            )

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

    @router.get(
        "/models",
        operation_id="list_models",
        tags=["models"],
        response_model=ModelList,
        responses=_DOCUMENT | _problems(406),
    )
    async def list_models(request: Request) -> Any:
        """What is served, and which files of the store were refused: JSON, or a page."""
        service = _service(request)
        cards = [_card(service, service.models[name]) for name in sorted(service.models)]
        found = ModelList(
            default=service.default,
            default_encoder=service.default_encoder,
            models=cards,
            refused=service.refused,
        )
        return _document(request, found, pages.models_page)

    @router.get(
        "/models/{name}",
        operation_id="get_model",
        tags=["models"],
        response_model=ModelCard,
        responses=_DOCUMENT | _problems(404, 406),
    )
    async def get_model(request: Request, name: str) -> Any:
        """One model's card: JSON, or a page with its pictures."""
        service = _service(request)
        return _document(request, _card(service, service.model(name)), pages.card_page)

    @router.get(
        "/models/{name}/pictures/{file}",
        operation_id="get_model_picture",
        tags=["models"],
        response_class=PngResponse,
        responses=_problems(404),
    )
    async def get_model_picture(request: Request, name: str, file: str) -> Response:
        """A picture of a model's card, as the card's pictures name them."""
        model = _service(request).model(name)
        path = model.pictures.get(file.removesuffix(".png")) if file.endswith(".png") else None
        if path is None:
            have = ", ".join(f"{shows}.png" for shows in model.pictures) or "no pictures"
            raise NotFoundError(f"{model.name} has no picture {shown(file)}; it has {have}")
        # A name alone leads to whatever is served under it tomorrow.
        cache = replies.IMMUTABLE if "@" in name else "no-cache"
        return FileResponse(path, media_type=PNG, headers={"Cache-Control": cache})

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

    @router.get(
        "/problems",
        operation_id="list_problems",
        tags=["errors"],
        response_model=dict[str, ProblemKind],
        responses=_DOCUMENT | _problems(406),
    )
    async def list_problems(request: Request) -> Any:
        """Every kind of error, its status and what it means: JSON, or a page."""
        found = {slug: _about(error) for slug, error in PROBLEMS.items()}
        return _document(request, found, lambda _: pages.problems_page(PROBLEMS))

    @router.get(
        "/problems/{slug}",
        operation_id="get_problem",
        tags=["errors"],
        response_model=ProblemKind,
        responses=_DOCUMENT | _problems(404, 406),
    )
    async def get_problem(request: Request, slug: str) -> Any:
        """One kind of error, where the ``type`` of an error leads: JSON, or a page."""
        if slug not in PROBLEMS:
            raise NotFoundError(f"no problem is called {shown(slug)}; GET /problems lists them")
        error = PROBLEMS[slug]
        return _document(request, _about(error), lambda _: pages.problem_page(error))

    return router


def _about(error: type[ServiceError]) -> ProblemKind:
    return ProblemKind(status=error.status, title=error.title, about=error.about)


def _document(request: Request, found: Content, as_page: Callable[[Content], str]) -> Any:
    """A document as JSON, or as a page for who would rather read HTML."""
    headers = {"Vary": "Accept"}
    if _choose(request, None, (JSON, HTML)) == HTML:
        return HTMLResponse(as_page(found), headers=headers)
    return JSONResponse(jsonable_encoder(found), headers=headers)


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
        pictures={
            shows: f"/models/{pinned_name(model)}/pictures/{shows}.png" for shows in model.pictures
        },
    )
