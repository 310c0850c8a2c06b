"""The parameters of the query, described once: for validation, for the OpenAPI, for suggestions."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from fastapi import Header, Query, Request
from fastapi.routing import APIRoute
from pydantic import BeforeValidator, Field

from app import seeds
from app.core.interpolation import Method
from app.core.service import TIMEOUT_HEADER
from app.errors import FieldError, InvalidParameterError, shown
from app.formats.images import Layout
from app.formats.provenance import Metadata
from app.formats.uploads import Choice
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


def seeds_in(request: Request, text: str | None, most: int) -> tuple[int, ...] | None:
    """The seeds of the parameter ``seeds``; None = it is not given.

    Raises:
        InvalidParameterError: it is no such list, or ``seed`` or ``n`` is given too.
    """
    if text is None:
        return None
    if others := [name for name in ("seed", "n") if name in request.query_params]:
        told = " and ".join(others)
        detail = f"seeds is given with {told}; it takes their place: give either"
        refuse([{"pointer": "?seeds", "detail": detail}])
    try:
        return seeds.parse_list(text, most)
    except ValueError as error:
        detail = f"seeds is {shown(text)}; it {error}"
        raise InvalidParameterError(
            detail, errors=[{"pointer": "?seeds", "detail": detail}]
        ) from error


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


def path_seeds_in(text: str | None) -> tuple[int, ...]:
    """The seeds of a path's ends.

    Raises:
        InvalidParameterError: there are none, or it is no list of 2 to MAX_ENDS.
    """
    if text is None:
        detail = "a path has two ends or more: give seeds=3,17, or ends in the body of a POST"
        raise InvalidParameterError(detail, errors=[{"pointer": "?seeds", "detail": detail}])
    try:
        numbers = seeds.parse_list(text, MAX_ENDS)
        if len(numbers) < 2:
            raise ValueError("must name two seeds at least")
    except ValueError as error:
        detail = f"seeds is {shown(text)}; it {error}"
        raise InvalidParameterError(
            detail, errors=[{"pointer": "?seeds", "detail": detail}]
        ) from error
    return numbers


def check_traversal(low: float, high: float, steps: int, axes: int, most: int) -> None:
    """Refuse a range that is none, and more images than one request may have.

    Raises:
        InvalidParameterError
    """
    if low >= high and steps > 1:
        detail = f"low is {low:g} and high {high:g}; low must be the smaller one"
        refuse([{"pointer": "?low", "detail": detail}])
    if axes * steps > most:
        detail = (
            f"{axes} axes with {steps} steps are {axes * steps} images; at most {most} are made"
        )
        refuse([{"pointer": "?steps", "detail": detail}])


def axes_in(text: str, size: int) -> tuple[int, ...]:
    """The axes that the parameter names.

    Raises:
        InvalidParameterError: it is no list, one comes twice, or the latent has not so many.
    """
    try:
        axes = seeds.parse_list(text, size)
        if len(set(axes)) < len(axes):
            raise ValueError("must name an axis once")
        if max(axes) >= size:
            raise ValueError(f"must name axes of this model, 0 to {size - 1}")
    except ValueError as error:
        detail = f"axes is {shown(text)}; it {str(error).replace('seeds', 'axes')}"
        raise InvalidParameterError(
            detail, errors=[{"pointer": "?axes", "detail": detail}]
        ) from error
    return axes


MetadataOf = Annotated[
    Metadata,
    Query(
        description="what a PNG or WebP says of itself: full = the mark that a model made it (IPTC "
        "digital source type, in XMP) and, of what /generate and /dataset make and is no "
        "animation, the recipe that makes it again and that /verify reads; mark = the mark alone; "
        "none = nothing",
    ),
]

Invert = Annotated[
    Choice,
    Query(
        description="whether a picture's light and dark change places, as the model knows only "
        "light on dark: auto = where its edge is light, or it is dark ink on transparent ground "
        "(models of MNIST and its kin; photos are left as they are); told in X-Picture",
    ),
]
Center = Annotated[
    Choice,
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


async def check_query(request: Request) -> None:
    """Refuse a parameter that the operation does not have, and one that is given twice.

    A dependency of every route; the known names are those of the route's own signature. Async,
    because FastAPI runs a plain function in a thread: that cost more than the check.

    Raises:
        InvalidParameterError: with the nearest known name.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = [field.alias for field in route.dependant.query_params]
    errors: list[FieldError] = []
    given = [name for name, _ in request.query_params.multi_items()]
    for name in dict.fromkeys(given):
        if name not in known:
            detail = unknown_parameter(name, known)
            errors.append({"pointer": f"?{shown(name)[1:-1]}", "detail": detail})
        elif given.count(name) > 1:
            detail = f"{name} is given {given.count(name)} times; once is allowed"
            errors.append({"pointer": f"?{name}", "detail": detail})
    for field in route.dependant.header_params:
        count = len(request.headers.getlist(field.alias))
        if count > 1:
            detail = f"{field.alias} is given {count} times; once is allowed"
            errors.append({"pointer": field.alias, "detail": detail})
    refuse(errors)


def unknown_parameter(name: str, known: Sequence[str]) -> str:
    """What is said of a parameter that an operation does not have; it has the ``known`` ones."""
    near = difflib.get_close_matches(name.lower()[:40], known, 1)
    listed = f"known: {', '.join(known)}" if known else "this operation has none"
    hint = f"did you mean {near[0]}?" if near else listed
    return f"unknown parameter {shown(name)}; {hint}"


def refuse(errors: list[FieldError]) -> None:
    """Raise one InvalidParameterError for the findings, if there are any."""
    if errors:
        detail = "; ".join(error["detail"] for error in errors[:4])
        raise InvalidParameterError(detail, errors=errors[:16])


def query_errors(found: Iterable[dict[str, Any]]) -> list[FieldError]:
    """FastAPI's findings about the query and the headers as pointers and sentences."""
    errors: list[FieldError] = []
    for error in found:
        name = str(error["loc"][1]) if len(error["loc"]) > 1 else "query"
        what = str(error["msg"]).removeprefix("Value error, ")
        what = re.sub(r"^(Input|String) should", "must", what)
        pointer = name if error["loc"][0] == "header" else f"?{name}"
        errors.append(
            {"pointer": pointer, "detail": f"{name} is {shown(error.get('input'))}; it {what}"}
        )
    return errors
