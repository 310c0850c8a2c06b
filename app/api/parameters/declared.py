"""Every query and header parameter, with its type, bounds and description."""

import re
from typing import Annotated, Any, Literal

from fastapi import Header, Query
from pydantic import BeforeValidator, Field

from app import seeds
from app.core.interpolation import Method
from app.core.requests import TIMEOUT_HEADER
from app.formats.provenance import MetadataLevel
from app.formats.sheets import Layout
from app.formats.uploads import Tristate
from app.rendering.schemas import MAX_ENDS

_PLAIN = re.compile(r"0|-?[1-9][0-9]{0,39}")  # what is out of bounds is told the bounds


def plain_digits(value: object) -> object:
    """One way to write a number: otherwise one image would have many addresses."""
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        raise ValueError("must be a whole number in plain digits, such as 7")
    return value


PLAIN = BeforeValidator(plain_digits)  # after the bounds, or the OpenAPI loses them

_MODEL_LENGTH = 64 + 1 + 64  # a name, and the digest that it may be pinned to

ModelName = Annotated[
    str | None,
    Query(
        max_length=_MODEL_LENGTH,
        description="model to use, as GET /models lists them, or pinned to its checkpoint by 12 or "
        "more digits of its digest, mnist-cgan-v6@ae2f504ba156: 404 if another is served; none = "
        "the default, or, when a label is given, the default conditional model, or one that has a "
        "class of this name",
    ),
]
EncoderName = Annotated[
    str | None,
    Query(
        max_length=_MODEL_LENGTH,
        description="a VAE, as GET /models lists them; none = the one that reconstructs best, by "
        "the cards",
    ),
]
Label = Annotated[
    str | None,
    Query(
        max_length=64,
        description="class to draw: its name, else its index; none on a conditional model = one "
        "drawn from each seed",
        openapi_examples={"seven": {"value": "7"}},
    ),
]
Seed = Annotated[
    Annotated[int, Field(ge=0, le=seeds.MAX_SEED), PLAIN] | None,
    Query(
        description="0 to 2^53-1; image i has seed + i, and the same seed gives the same image "
        "whatever n is; none = drawn by the server and told in X-Seed",
    ),
]
_HUNDREDTHS = re.compile(r"0(\.[0-9]{1,2})?|1(\.00?)?")


def _hundredths(value: object) -> object:
    if isinstance(value, str) and not _HUNDREDTHS.fullmatch(value):
        raise ValueError("must be 0 to 1 with at most two decimals, such as 0.7")
    return value


Truncation = Annotated[
    float,
    Field(ge=0, le=1, json_schema_extra={"multipleOf": 0.01}),
    BeforeValidator(_hundredths),
    Query(
        description="scales the latent, 0 to 1 in hundredths: less is more usual and less varied; "
        "0 = the image of the latents' mean, for every seed",
    ),
]


def seeds_parameter(most: int) -> Any:
    """``seeds``, whose length depends on a setting; ``seeds_in`` reads it.

    It has no example, for Swagger UI would fill that in beside a seed.

    Args:
        most: Seeds in one request.
    """
    return Query(
        max_length=18 * most,
        description="seeds and runs of seeds, such as 0-3,17, in the order of the images, instead "
        "of seed and n, which are to be left empty",
        json_schema_extra={"pattern": f"^{seeds.LIST_PATTERN}$"},
    )


Format = Annotated[
    Literal["png", "webp", "json", "npy", "zip"] | None,
    Query(description="overrides the Accept header"),
]
DatasetFormat = Annotated[
    Literal["zip", "npz"] | None,
    Query(description="overrides the Accept header; none of both = zip"),
]
Scale = Annotated[
    int,
    Field(ge=1, le=16),
    PLAIN,
    Query(description="enlarges pictures by this whole factor, each pixel a square; not npy"),
]
LayoutOf = Annotated[
    Layout,
    Query(
        description="several images in one PNG or WebP: a grid with ceil(sqrt(n)) columns, if the "
        "operation tells no other number, filled row by row; a strip, one beside the other; or an "
        "animation, one after the other (a PNG is then image/apng); of no effect on one image and "
        "elsewhere",
    ),
]
FrameMs = Annotated[
    int,
    Field(ge=20, le=5000),
    PLAIN,
    Query(description="milliseconds that an animation shows each image"),
]
Steps = Annotated[int, Field(ge=1), PLAIN]
MethodOf = Annotated[
    Method,
    Query(
        description="slerp: around 0, as far from it as the ends are; lerp: straight, nearer to 0 "
        "and so to the mean image",
    ),
]
_SIGNED = re.compile(r"0|-?(0\.[0-9]?[1-9]|[1-9][0-9]?(\.[0-9]?[1-9])?)")


def _signed_hundredths(value: object) -> object:
    if isinstance(value, str) and not _SIGNED.fullmatch(value):
        raise ValueError("must be a number with at most two decimals, such as -2.5")
    return value


AxisValue = Annotated[
    float,
    Field(ge=-10, le=10, json_schema_extra={"multipleOf": 0.01}),
    BeforeValidator(_signed_hundredths),
]


def path_seeds_parameter() -> Any:
    """``seeds`` of a path; ``path_seeds_in`` reads it."""
    return Query(
        max_length=18 * MAX_ENDS,
        description=f"2 to {MAX_ENDS} ends, each the noise of a seed, such as 3,17; none = they "
        "come in the body",
        json_schema_extra={"pattern": f"^{seeds.LIST_PATTERN}$"},
        openapi_examples={"two": {"value": "3,17"}},
    )


MetadataOf = Annotated[
    MetadataLevel,
    Query(
        description="what a PNG or WebP says of itself: full = the mark that a model made it (IPTC "
        "digital source type, in XMP) and, of what /generate and /dataset make and is no "
        "animation, the recipe that makes it again and that /verify reads; mark = the mark alone; "
        "none = nothing",
    ),
]

Invert = Annotated[
    Tristate,
    Query(
        description="whether a picture's light and dark change places, as the model knows only "
        "light on dark: auto = where its edge is light, or it is dark ink on transparent ground "
        "(models of MNIST and its kin; photos are left as they are); told in X-Picture",
    ),
]
Center = Annotated[
    Tristate,
    Query(
        description="whether the ink is put where MNIST has it, in the middle 20 x 20 of 28 x 28 "
        "with its centre of mass in the centre, paper and noise made black: auto = where the model "
        "learnt MNIST and the picture has not its size already; told in X-Picture",
    ),
]

Timeout = Annotated[
    Annotated[int, Field(ge=1), PLAIN] | None,
    Header(
        alias=TIMEOUT_HEADER,
        description="milliseconds in which the answer is of use, counted from the request's "
        "arrival: refused at once with 503 if that cannot be, given up with 504 when they have "
        "passed; none or more than the service's own limit = that limit",
    ),
]
