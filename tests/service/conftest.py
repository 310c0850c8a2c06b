"""A service whose model is slowed to a known rate."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def start_slow(start_server: Any, tiny_store: Path) -> Callable[..., Any]:
    """``with start_slow("--max-n", "4") as server``: one that makes 100 images a second."""

    def start(*arguments: str, faults: tuple[str, ...] = ()) -> Any:
        options = ["--models-dir", str(tiny_store), "--max-batch", "16", "--workers", "1"]
        program = ("-m", "tests.faulty_service", "row_s=0.01", *faults)
        return start_server(*options, *arguments, program=program)

    return start


@pytest.fixture(scope="module")
def slow(start_slow: Any) -> Iterator[str]:
    """The address of a slow service that refuses what would wait for over a second."""
    with start_slow("--max-queue-ms", "1000") as server:
        yield server.url
