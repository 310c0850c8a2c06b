"""Parses the lists that a query can have: seeds of images, seeds of ends, axes of a latent."""

from collections.abc import Callable, Container
from typing import NoReturn

from app import seeds
from app.errors import InvalidParameterError, shown
from app.rendering.schemas import MAX_ENDS


def parse_seeds(text: str | None, given: Container[str], max_seeds: int) -> tuple[int, ...] | None:
    """The parameter ``seeds`` of /generate; None = it is absent.

    Args:
        text: The parameter's value.
        given: Names of all parameters of the request.
        max_seeds: Most seeds in one request.

    Raises:
        InvalidParameterError: it is not such a list, or ``seed`` or ``n`` is given too.
    """
    if text is None:
        return None
    if others := [name for name in ("seed", "n") if name in given]:
        listed = " and ".join(others)
        _refuse("seeds", f"seeds is given with {listed}; it replaces them: give either")
    return _parse("seeds", text, lambda: seeds.parse_list(text, max_seeds))


def parse_end_seeds(text: str | None) -> tuple[int, ...]:
    """The parameter ``seeds`` of /interpolate.

    Raises:
        InvalidParameterError: it is absent, or not a list of 2 to MAX_ENDS seeds.
    """
    if text is None:
        _refuse(
            "seeds",
            "interpolation needs two or more ends: give seeds=3,17, or ends in the body of a POST",
        )

    def parse() -> tuple[int, ...]:
        numbers = seeds.parse_list(text, MAX_ENDS)
        if len(numbers) < 2:
            raise ValueError("must name at least two seeds")
        return numbers

    return _parse("seeds", text, parse)


def parse_axes(text: str, latent_dim: int) -> tuple[int, ...]:
    """The parameter ``axes`` of /traverse.

    Raises:
        InvalidParameterError: it is not a list of axes, repeats one, or names one that the latent
            does not have.
    """

    def parse() -> tuple[int, ...]:
        axes = seeds.parse_list(text, latent_dim)
        if len(set(axes)) < len(axes):
            raise ValueError("must name each axis once")
        if max(axes) >= latent_dim:
            raise ValueError(f"must name axes of this model, 0 to {latent_dim - 1}")
        return axes

    return _parse("axes", text, parse)


def check_traversal(low: float, high: float, steps: int, axes: int, max_images: int) -> None:
    """Check the size of a traversal and the order of its bounds.

    Raises:
        InvalidParameterError: ``low`` is not below ``high``, or there are more than ``max_images``
            images.
    """
    if low >= high and steps > 1:
        _refuse("low", f"low is {low:g} and high is {high:g}; low must be smaller")
    if axes * steps > max_images:
        _refuse(
            "steps",
            f"{axes} axes with {steps} steps are {axes * steps} images; the maximum is "
            f"{max_images}",
        )


def _parse(name: str, text: str, parse: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    """What ``parse`` returns; its ValueError as the parameter's error."""
    try:
        return parse()
    except ValueError as error:
        reason = str(error).replace("seeds", name)
        _refuse(name, f"{name} is {shown(text)}; it {reason}", error)


def _refuse(name: str, detail: str, cause: Exception | None = None) -> NoReturn:
    errors = [{"pointer": f"?{name}", "detail": detail}]
    raise InvalidParameterError(detail, errors=errors) from cause
