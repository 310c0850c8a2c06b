"""Every query and header parameter: type, bounds and description, each declared once.

An endpoint lists the parameters it takes. Those that always come together are a dependency:
``RenderingQuery`` and ``FittingQuery``.
"""

import re
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Depends, Header, Query
from pydantic import BeforeValidator, Field

from app import seeds
from app.core.interpolation import Method
from app.core.requests import TIMEOUT_HEADER
from app.fitting.adapt import Tristate
from app.formats.media_types import FORMATS
from app.formats.provenance import MetadataLevel
from app.formats.sheets import Layout
from app.http.negotiation import choose
from app.rendering.options import FRAME_MS, OFFERS, Rendering
from app.rendering.schemas import MAX_ENDS

# 40 digits: a number out of bounds is reported with its bounds, not as badly written.
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,39}")
_FROM_0_TO_1 = re.compile(r"0(\.[0-9]{1,2})?|1(\.00?)?")
_SIGNED = re.compile(r"0|-?(0\.[0-9]?[1-9]|[1-9][0-9]?(\.[0-9]?[1-9])?)")
_NAME_AND_DIGEST = 64 + 1 + 64  # longest model parameter: name@digest, in characters
_LABEL = 64  # longest label, in characters
_AXES = 1000  # longest list of axes, in characters
_SEED_AND_SEPARATOR = 18  # characters of a list of seeds for each seed


def _whole_number(value: object) -> object:
    """Accept one spelling of each number: otherwise one image would have many addresses."""
    if isinstance(value, str) and not _WHOLE_NUMBER.fullmatch(value):
        raise ValueError("must be a whole number in plain digits, such as 7")
    return value


def _from_0_to_1(value: object) -> object:
    if isinstance(value, str) and not _FROM_0_TO_1.fullmatch(value):
        raise ValueError("must be 0 to 1 with at most two decimals, such as 0.7")
    return value


def _signed(value: object) -> object:
    if isinstance(value, str) and not _SIGNED.fullmatch(value):
        raise ValueError("must be a number with at most two decimals, such as -2.5")
    return value


def _true_or_false(value: object) -> object:
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value


PLAIN = BeforeValidator(_whole_number)  # stands after the bounds, or the OpenAPI loses them

ModelName = Annotated[
    str | None,
    Query(
        max_length=_NAME_AND_DIGEST,
        description="Model, as GET /models lists them. Append @ and 12 or more digits of its "
        "digest to pin the checkpoint (mnist-cgan-v7@a99d8d06b407): 404 if another is served. "
        "Default: the service's default model; with a label, the default conditional model or one "
        "that has a class of this name.",
    ),
]
EncoderName = Annotated[
    str | None,
    Query(
        max_length=_NAME_AND_DIGEST,
        description="A VAE, as GET /models lists them. Default: the one with the lowest "
        "reconstruction error on its card.",
    ),
]
Label = Annotated[
    str | None,
    Query(
        max_length=_LABEL,
        description="Class: its name, else its index. Default on a conditional model: drawn from "
        "each seed.",
        openapi_examples={"seven": {"value": "7"}},
    ),
]
ClassLabel = Annotated[
    str | None,
    Query(
        max_length=_LABEL,
        description="Class of the pictures or latents: its name, else its index. Needed for a "
        "conditional autoencoder, and for no other model.",
    ),
]
DatasetLabel = Annotated[
    str | None,
    Query(
        max_length=_LABEL,
        description="Class of all images: its name, else its index. Default on a conditional "
        "model: every class equally often; image i has label i mod classes.",
    ),
]
Seed = Annotated[
    Annotated[int, Field(ge=0, le=seeds.MAX_SEED), PLAIN] | None,
    Query(
        description="0 to 2^53-1. Image i has seed + i; the same seed gives the same image "
        "whatever n is. Default: drawn by the server and returned in X-Seed.",
    ),
]


def seeds_parameter(max_seeds: int) -> Any:
    """``seeds`` of /generate; ``lists.parse_seeds`` parses it.

    It has no example: Swagger UI would fill it in beside a seed.

    Args:
        max_seeds: Most seeds in one request.
    """
    return Query(
        max_length=_SEED_AND_SEPARATOR * max_seeds,
        description="Seeds and ranges of seeds in the order of the images, such as 0-3,17. "
        "Replaces seed and n, which must then be absent.",
        json_schema_extra={"pattern": f"^{seeds.LIST_PATTERN}$"},
    )


DatasetSeed = Annotated[
    Annotated[int, Field(ge=0, le=seeds.MAX_SEED), PLAIN] | None,
    Query(
        description="0 to 2^53-1: opens a stream of seeds, one an image. Default: drawn by the "
        "server and returned in X-Seed.",
    ),
]
DatasetSplit = Annotated[
    Literal["train", "validation", "test"] | None,
    Query(
        description="A part of the seed's stream. No image's seed is in two splits, nor in a split "
        "and in a dataset without one, whatever their seeds and sizes.",
    ),
]
EndSeeds = Annotated[
    str | None,
    Query(
        max_length=_SEED_AND_SEPARATOR * MAX_ENDS,
        description=f"2 to {MAX_ENDS} ends, each the noise of a seed, such as 3,17. Default: the "
        "ends in the body.",
        json_schema_extra={"pattern": f"^{seeds.LIST_PATTERN}$"},
        openapi_examples={"two": {"value": "3,17"}},
    ),
]
Truncation = Annotated[
    float,
    Field(ge=0, le=1, json_schema_extra={"multipleOf": 0.01}),
    BeforeValidator(_from_0_to_1),
    Query(
        description="Scales the latent, 0 to 1 in hundredths. Lower values give more typical and "
        "less varied images; 0 gives the image of the mean latent for every seed.",
    ),
]
MethodName = Annotated[
    Method,
    Query(
        description="slerp: spherical, at the ends' distance from 0. lerp: a straight line, which "
        "passes nearer to 0 and so to the mean image.",
    ),
]
AxisValue = Annotated[
    float,
    Field(ge=-10, le=10, json_schema_extra={"multipleOf": 0.01}),
    BeforeValidator(_signed),
]


def axes_parameter(max_images: int) -> Any:
    """``axes`` of /traverse; ``lists.parse_axes`` parses it.

    Args:
        max_images: Most images in one response.
    """
    return Query(
        max_length=_AXES,
        description="Indices of the latent dimensions to vary, such as 0-3,17. Default: the 8 "
        "most informative (highest KL, where the model's card has it), or as many as "
        f"{max_images} images allow.",
        json_schema_extra={"pattern": f"^{seeds.LIST_PATTERN}$"},
    )


FormatName = Literal["png", "webp", "json", "npy", "zip"]
DatasetFormat = Annotated[
    Literal["zip", "npz"] | None,
    Query(description="Overrides the Accept header. Default without either: zip."),
]
Compress = Annotated[
    bool,
    BeforeValidator(_true_or_false),
    Query(
        description="Deflate the file's members. It takes a quarter (npz) to a half (zip) of the "
        "bytes, and an npz no longer says its length beforehand.",
    ),
]
Metadata = Annotated[
    MetadataLevel,
    Query(
        description="What a PNG or WebP says about itself. mark: that a model generated it (IPTC "
        "digital source type, in XMP). full: that mark and the recipe, which reproduces the image "
        "and which /verify reads; images of /generate and /dataset have one, animations do not. "
        "none: nothing.",
    ),
]
TimeoutMs = Annotated[
    Annotated[int, Field(ge=1), PLAIN] | None,
    Header(
        alias=TIMEOUT_HEADER,
        description="Milliseconds from the request's arrival within which the response is useful. "
        "503 at once if that is predicted to be impossible, 504 when they have passed. Default "
        "and maximum: the service's own limit.",
    ),
]


class RenderingOptions(NamedTuple):
    """How images are to be returned, as the query says."""

    format: FormatName | None  # None = as the Accept header says
    scale: int
    layout: Layout
    frame_ms: int
    metadata: MetadataLevel

    def rendering(self, accept: str) -> Rendering:
        """The same for a request with this Accept header; empty = there is none.

        Raises:
            NotAcceptableError: Accept allows none of the image types.
        """
        format, scale, layout, frame_ms, metadata = self
        media = FORMATS[format] if format else choose(accept, OFFERS)
        return Rendering(media, scale, layout, metadata, frame_ms)


def _rendering_options(
    format: Annotated[
        FormatName | None,
        Query(description="Overrides the Accept header."),
    ] = None,
    scale: Annotated[
        int,
        Field(ge=1, le=16),
        PLAIN,
        Query(
            description="Enlarges images by this whole factor; each pixel becomes a square. No "
            "effect on npy."
        ),
    ] = 1,
    layout: Annotated[
        Layout,
        Query(
            description="Several images in one PNG or WebP. grid: rows of ceil(sqrt(n)) images, "
            "unless the operation sets another number. strip: side by side. animation: one after "
            "the other; a PNG is then image/apng. No effect on one image or on other formats.",
        ),
    ] = "grid",
    frame_ms: Annotated[
        int,
        Field(ge=20, le=5000),
        PLAIN,
        Query(description="Milliseconds per image of an animation."),
    ] = FRAME_MS,
    metadata: Metadata = "full",
) -> RenderingOptions:
    return RenderingOptions(format, scale, layout, frame_ms, metadata)


RenderingQuery = Annotated[RenderingOptions, Depends(_rendering_options)]


class FittingOptions(NamedTuple):
    """How uploads are to be adapted to the model, as the query says."""

    invert: Tristate
    center: Tristate


def _fitting_options(
    invert: Annotated[
        Tristate,
        Query(
            description="Invert an upload, for models that know only light on dark. auto: if its "
            "ink is darker than the ground around it, or on a transparent ground, and the model "
            "was trained on MNIST or similar data; photos are never inverted. X-Picture reports "
            "it.",
        ),
    ] = "auto",
    center: Annotated[
        Tristate,
        Query(
            description="Find the digit and place it as MNIST does: within 20 x 20 of 28 x 28 "
            "pixels, centre of mass in the middle, all else black. auto: if the model was trained "
            "on MNIST and the upload does not have that form already. X-Picture reports it.",
        ),
    ] = "auto",
) -> FittingOptions:
    return FittingOptions(invert, center)


FittingQuery = Annotated[FittingOptions, Depends(_fitting_options)]
