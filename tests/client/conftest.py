"""A service of the tiny store on a socket, and both clients of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.tests.conftest import Call, call
from tests.conftest import ROOT, Server, running_server

__all__ = ["CLIENT", "Call", "call", "served"]  # call is a fixture

CLIENT = ROOT / "client/src"


@pytest.fixture(scope="session")
def served(tiny_store: Path) -> Iterator[Server]:
    """Read it: other tests use it too."""
    with running_server("--models-dir", str(tiny_store), "--workers", "1") as server:
        yield server
