"""What the OpenAPI document says of responses and request bodies that FastAPI cannot derive.

Responses first, then headers and bodies that the endpoints read by themselves. ``app.api.router``
assigns them to the operations.
"""

import base64
from typing import Any

import numpy as np
from fastapi import Response

from app.api.bodies.forms import FIELD, MULTIPART
from app.formats.media_types import APNG, HTML, JSON, NPY, NPZ, PNG, WEBP, ZIP
from app.formats.png import to_png
from app.rendering.schemas import MAX_ENDS, End, Ends, ImageList, Latents, Pictures, reference

Responses = dict[int | str, dict[str, Any]]

OPENMETRICS = "application/openmetrics-text"
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_EXAMPLE_PNG = base64.b64encode(to_png(np.zeros((28, 28), dtype=np.uint8))).decode()


class PngResponse(Response):
    """Declares a PNG, so that Swagger UI shows the response as an image."""

    media_type = PNG


class TextResponse(Response):
    """Declares text."""

    media_type = "text/plain"


class ZipResponse(Response):
    """Declares an archive, so that Swagger UI offers it as a download."""

    media_type = ZIP


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


def _without(headers: dict[str, Any], absent: str) -> dict[str, Any]:
    return {name: header for name, header in headers.items() if name != absent}


_ANY_IMAGES = {
    "X-Model": _header("The model that generated the images."),
    "Cache-Control": _header(
        "no-store: another call gives other images. no-cache: revalidate with If-None-Match. "
        "immutable: the address names the model's digest."
    ),
    "Vary": _header("Accept"),
    "Content-Disposition": _header("inline, and a name for the file: mnist-cgan-v7-7-42.png."),
}
_REPRODUCIBILITY = {
    "X-Reproducibility": _header(
        "What the bytes at Content-Location depend on, as measured when the service started. "
        "portable: on the model alone. exact: on the machine too, but on no batch. visual: a pixel "
        "may differ by a level."
    )
}
_SEEDED = _ANY_IMAGES | {
    "X-Seed": _header("Seed of the first image.", "integer"),
    "Content-Location": _header("The canonical address of these bytes, with the model's digest."),
    **_REPRODUCIBILITY,
}
_TIMING = {"Server-Timing": _header("queue, batch, compute and encode, in milliseconds.")}
_ETAG = {
    "ETag": _header(
        "Strong. Present if seeds are given and the model's reproducibility is not visual. Of a "
        "portable model every machine gives the same."
    )
}
_UPLOAD = {
    "X-Picture": _header(
        "Size of the upload and how it was adapted to the model, such as 280x280, inverted, "
        "centred; of several uploads in order."
    ),
    "X-Picture-Fit": _header(
        "Share of held-out training pictures that fit the model worse than the upload, 0 to 1; of "
        "several uploads in order. Present if the checkpoint has a table of it."
    ),
}
_KEPT = {
    "Cache-Control": _header("no-cache; immutable if the address names the model's digest."),
    "ETag": _header("Strong."),
}

IMAGES: Responses = {
    200: {
        "description": "The images: a PNG or lossless WebP (one sheet if there are several), JSON, "
        "npy (n, H, W), or a ZIP (a PNG per image, and metadata.csv).",
        "content": {
            PNG: BINARY,
            APNG: BINARY,
            WEBP: BINARY,
            JSON: {"schema": reference(ImageList)},
            NPY: BINARY,
            ZIP: BINARY,
        },
        "headers": _ANY_IMAGES | _TIMING,
    }
}
SAMPLE: Responses = {200: IMAGES[200] | {"headers": _SEEDED | _ETAG | _TIMING}}
SAMPLE_NOT_MODIFIED: Responses = {
    304: {
        "description": "If-None-Match names these images; no model was run.",
        "headers": _SEEDED | _ETAG,
    }
}
REBUILT: Responses = {200: IMAGES[200] | {"headers": _ANY_IMAGES | _TIMING | _UPLOAD}}
ENCODED: Responses = {200: {"headers": _without(_ANY_IMAGES, "Vary") | _UPLOAD}}
_WALK_HEADERS = (
    _ANY_IMAGES
    | _ETAG
    | _TIMING
    | {
        "Content-Location": _header(
            "The canonical address of these bytes. Present if seeds decide everything."
        ),
        **_REPRODUCIBILITY,
        "X-Axes": _header("/traverse: the axes, one for each row of the image."),
        "X-Picture": _header("How uploaded pictures were adapted to the model."),
        "X-Picture-Fit": _header("How well uploaded pictures fit the model, 0 to 1, in order."),
    }
)
WALK: Responses = {200: IMAGES[200] | {"headers": _WALK_HEADERS}}
WALK_NOT_MODIFIED: Responses = {
    304: SAMPLE_NOT_MODIFIED[304] | {"headers": _without(_WALK_HEADERS, "Server-Timing")}
}
VERDICT: Responses = {200: {"headers": {"Cache-Control": _header("no-store")}}}
METRICS: Responses = {
    200: {
        "description": "Prometheus' text format 0.0.4 or 1.0.0, or OpenMetrics, as Accept says.",
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            OPENMETRICS: {"schema": {"type": "string"}},
        },
        "headers": {"Vary": _header("Accept")},
    }
}
PICTURE: Responses = {
    200: {"content": {PNG: BINARY, WEBP: BINARY}, "headers": _KEPT},
    304: {"description": "If-None-Match names the picture.", "headers": _KEPT},
}
PAGE: Responses = {
    200: {
        "description": "JSON, or an HTML page.",
        "content": {HTML: {"schema": {"type": "string"}}},
        "headers": {"Vary": _header("Accept")},
    }
}
_FILE_HEADERS = (
    _SEEDED
    | _ETAG
    | {
        "X-Seed": _header("Seed of the dataset.", "integer"),
        "Content-Disposition": _header("A name for the file."),
        "Accept-Ranges": _header("bytes, if the response has an ETag."),
    }
)
DATASET: Responses = {
    200: {
        "description": "ZIP: a PNG per image in a folder per class, then metadata.csv "
        "(file_name, label, class name, seed), as Hugging Face's ImageFolder has it. NPZ: images "
        "(n, H, W), labels where the model has classes, and seeds.",
        "content": {ZIP: BINARY, NPZ: BINARY},
        "headers": _FILE_HEADERS,
    }
}
DATASET_NOT_MODIFIED: Responses = {304: SAMPLE_NOT_MODIFIED[304] | {"headers": _FILE_HEADERS}}
DATASET_PART: Responses = {
    206: {
        "description": "The rest of the file, as Range and If-Range request it.",
        "content": DATASET[200]["content"],
        "headers": _FILE_HEADERS
        | {"Content-Range": _header("first-last/length; for a ZIP first-requested/*.")},
    }
}

RANGE = {
    "parameters": [
        {
            "name": "Range",
            "in": "header",
            "description": "Requests the rest of the file after a number of bytes, if the response "
            "has an ETag: bytes=1000- for an NPZ. A ZIP's length is not known before its end, so "
            "for it bytes=1000-9007199254740991, which an NPZ takes too (RFC 8673). The model "
            "generates all of the file again, because the end depends on it. Any other range gives "
            "the whole file.",
            "schema": {"type": "string"},  # an invalid range is ignored (RFC 9110)
        },
        {
            "name": "If-Range",
            "in": "header",
            "description": "ETag of the partial file. If the file has changed, all of it is sent.",
            "schema": {"type": "string"},
        },
    ]
}


def _body(content: dict[str, Any], required: bool = True) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": content}}


def _form(files: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": {
            "type": "object",
            "additionalProperties": False,
            "required": [FIELD],
            "properties": {FIELD: files},
        }
    }


_FORM = _form(BINARY["schema"])
_FORM_OF_ENDS = _form(
    {"type": "array", "items": BINARY["schema"], "minItems": 2, "maxItems": MAX_ENDS}
)
_RAW_PICTURES = {"image/png": BINARY, "image/jpeg": BINARY, "image/webp": BINARY}
UPLOADS = _body(
    {
        **_RAW_PICTURES,
        MULTIPART: _FORM,
        JSON: {"schema": reference(Pictures), "example": {"images": [_EXAMPLE_PNG]}},
    }
)
ENDS = _body({JSON: {"schema": reference(Ends)}, MULTIPART: _FORM_OF_ENDS}, required=False)
SOURCE = _body(
    {**_RAW_PICTURES, MULTIPART: _FORM, JSON: {"schema": reference(End)}}, required=False
)
FILE = _body({PNG: BINARY, WEBP: BINARY, MULTIPART: _FORM})
LATENTS = _body({JSON: {"schema": reference(Latents)}, NPY: BINARY})
