"""Lists in the query: seeds, and axes of a latent."""

from fastapi import Request

from app import seeds
from app.api.parameters.checks import refuse_all
from app.errors import InvalidParameterError, shown
from app.rendering.schemas import MAX_ENDS


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
        refuse_all([{"pointer": "?seeds", "detail": detail}])
    try:
        return seeds.parse_list(text, most)
    except ValueError as error:
        detail = f"seeds is {shown(text)}; it {error}"
        raise InvalidParameterError(
            detail, errors=[{"pointer": "?seeds", "detail": detail}]
        ) from error


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
        refuse_all([{"pointer": "?low", "detail": detail}])
    if axes * steps > most:
        detail = (
            f"{axes} axes with {steps} steps are {axes * steps} images; at most {most} are made"
        )
        refuse_all([{"pointer": "?steps", "detail": detail}])


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
