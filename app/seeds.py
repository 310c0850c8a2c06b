"""Lists of seeds: ``0-3,17`` in requests and recipes; and seeds drawn for requests without one."""

import random
import re
from collections.abc import Sequence

MAX_SEED = 2**53 - 1  # the largest whole number that every JSON reader holds exactly

_NUMBER = "(?:0|[1-9][0-9]{0,15})"
LIST_PATTERN = f"{_NUMBER}(?:-{_NUMBER})?(?:,{_NUMBER}(?:-{_NUMBER})?)*"
_RUN = re.compile(f"({_NUMBER})(?:-({_NUMBER}))?")


def random_seed(count: int = 1) -> int:
    """The first of ``count`` consecutive seeds, for a request that names none."""
    if count == 1:
        return random.getrandbits(53)  # the same range, in a tenth of the time
    return random.randrange(MAX_SEED + 2 - count)  # noqa: S311


def parse_list(text: str, most: int) -> tuple[int, ...]:
    """The seeds of a list, in its order; one may come twice.

    Args:
        text: Such as ``0-3,17``; a run includes both ends.
        most: Seeds allowed; a longer run is refused before it is expanded.

    Raises:
        ValueError: the text is no such list, or has too many or too large seeds; the message
            continues a sentence that begins with "it".
    """
    numbers: list[int] = []
    for part in text.split(","):
        run = _RUN.fullmatch(part)
        if run is None:
            raise ValueError("must have seeds in plain digits and runs of them, such as 0-3,17")
        first, last = int(run[1]), int(run[2] or run[1])
        if max(first, last) > MAX_SEED:
            raise ValueError(f"must have seeds of at most {MAX_SEED}")
        if last < first:
            raise ValueError(f"must have runs that go upwards; {first}-{last} does not")
        if len(numbers) + last - first >= most:
            raise ValueError(f"must name {most} seeds at most")
        numbers += range(first, last + 1)
    return tuple(numbers)


def list_text(numbers: Sequence[int]) -> str:
    """Seeds as the one canonical list: with runs as long as possible."""
    parts: list[str] = []
    first = last = numbers[0]
    for number in (*numbers[1:], None):
        if number == last + 1:
            last += 1
            continue
        parts.append(str(first) if first == last else f"{first}-{last}")
        if number is not None:
            first = last = number
    return ",".join(parts)
