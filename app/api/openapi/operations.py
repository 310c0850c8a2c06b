"""What the OpenAPI says of bodies and answers, beside the types of the code."""

import base64
from typing import Any

import numpy as np
from fastapi import Response

from app.api.bodies.forms import FIELD, MULTIPART
from app.formats.media_types import APNG, HTML, JSON, NPY, NPZ, PNG, WEBP, ZIP
from app.formats.png import to_png
from app.rendering.schemas import MAX_ENDS, End, Ends, ImageList, Latents, Pictures, reference

Responses = dict[int | str, dict[str, Any]]

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_EXAMPLE_PNG = base64.b64encode(to_png(np.zeros((28, 28), dtype=np.uint8))).decode()


class PngResponse(Response):
    """So that the OpenAPI, and with it Swagger UI, expects a picture."""

    media_type = PNG


class ZipResponse(Response):
    """The same for an archive."""

    media_type = ZIP


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
_KEPT = {
    "Cache-Control": _header("no-cache; immutable: the address names the model's digest"),
    "ETag": _header("strong"),
}
NOT_MODIFIED: Responses = {
    304: {
        "description": "If-None-Match names these images; no model was asked",
        "headers": _MADE_BY | _ETAG,
    }
}
IMAGES: Responses = {
    200: {
        "description": "The images: PNG or lossless WebP (one sheet when there are several), JSON, "
        "npy (n, H, W), or ZIP (a PNG an image and manifest.csv)",
        "content": {
            PNG: BINARY,
            APNG: BINARY,
            WEBP: BINARY,
            JSON: {"schema": reference(ImageList)},
            NPY: BINARY,
            ZIP: BINARY,
        },
        "headers": _PLAIN_HEADERS | _TIMING,
    }
}
DRAWN: Responses = {
    200: {"headers": _KEPT},
    304: {"description": "If-None-Match names the picture", "headers": _KEPT},
}
PROOF: Responses = {200: {"headers": {"Cache-Control": _header("no-store")}}}
REBUILT: Responses = {200: IMAGES[200] | {"headers": _PLAIN_HEADERS | _TIMING | _PICTURE}}
ENCODED: Responses = {
    200: {"headers": {k: v for k, v in _PLAIN_HEADERS.items() if k != "Vary"} | _PICTURE}
}
GENERATED: Responses = {200: IMAGES[200] | {"headers": _MADE_BY | _ETAG | _TIMING}}
PAGE: Responses = {
    200: {
        "description": "JSON, or a page to read",
        "content": {HTML: {"schema": {"type": "string"}}},
        "headers": {"Vary": _header("Accept")},
    }
}
_OF_FILES = (
    _MADE_BY
    | _ETAG
    | {
        "Content-Disposition": _header("a name for the file"),
        "Accept-Ranges": _header("bytes, where the answer has an ETag"),
    }
)
DATASET: Responses = {
    200: {
        "description": "ZIP: a PNG an image in a folder a class, then manifest.csv (file, label, "
        "name of the class, seed). NPZ: images (n, H, W), labels and seeds",
        "content": {ZIP: BINARY, NPZ: BINARY},
        "headers": _OF_FILES,
    }
}
DATASET_KNOWN: Responses = {304: NOT_MODIFIED[304] | {"headers": _OF_FILES}}
DATASET_REST: Responses = {
    206: {
        "description": "The rest of the file that Range and If-Range ask for",
        "content": DATASET[200]["content"],
        "headers": _OF_FILES
        | {"Content-Range": _header("first-last/length; of a ZIP first-asked/*")},
    }
}
RANGE = {
    "parameters": [
        {
            "name": "Range",
            "in": "header",
            "description": "gives the rest of the file after so many bytes, where the answer has "
            "an ETag: bytes=1000- of an NPZ; bytes=1000-9007199254740991 of either, for the length "
            "of a ZIP is not known before its end (RFC 8673). The model makes all of it again, for "
            "the end depends on it. All else is answered with the whole file",
            "schema": {"type": "string"},  # what is no such range is not looked at (RFC 9110)
        },
        {
            "name": "If-Range",
            "in": "header",
            "description": "ETag of the file that was begun: the whole is sent if this is another",
            "schema": {"type": "string"},
        },
    ]
}


WALKED: Responses = {
    200: IMAGES[200]
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


WALK_KNOWN: Responses = {
    304: NOT_MODIFIED[304]
    | {"headers": {k: v for k, v in WALKED[200]["headers"].items() if k != "Server-Timing"}}
}


def _body(content: dict[str, Any], required: bool = True) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": content}}


_FORM = {
    "schema": {
        "type": "object",
        "additionalProperties": False,
        "required": [FIELD],
        "properties": {FIELD: {"type": "string", "format": "binary"}},
    }
}
PICTURES = _body(
    {
        "image/png": BINARY,
        "image/jpeg": BINARY,
        "image/webp": BINARY,
        MULTIPART: _FORM,
        JSON: {"schema": reference(Pictures), "example": {"images": [_EXAMPLE_PNG]}},
    }
)
_FORMS = {
    "schema": {
        "type": "object",
        "additionalProperties": False,
        "required": [FIELD],
        "properties": {
            FIELD: {
                "type": "array",
                "items": {"type": "string", "format": "binary"},
                "minItems": 2,
                "maxItems": MAX_ENDS,
            }
        },
    }
}
ENDS = _body({JSON: {"schema": reference(Ends)}, MULTIPART: _FORMS}, required=False)
END = _body(
    {
        "image/png": BINARY,
        "image/jpeg": BINARY,
        "image/webp": BINARY,
        MULTIPART: _FORM,
        JSON: {"schema": reference(End)},
    },
    required=False,
)
FILE = _body({PNG: BINARY, WEBP: BINARY, MULTIPART: _FORM})
LATENTS = _body({JSON: {"schema": reference(Latents)}, NPY: BINARY})
