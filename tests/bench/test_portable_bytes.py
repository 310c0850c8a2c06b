"""Portable checkpoints on other processors, emulated, and the command that proves it."""

import shutil
from pathlib import Path

import pytest

from bench.portable import EMULATOR, digests
from tests.conftest import STORE
from training.networks.header import read

IMAGES = 192  # an operation; python -m bench.portable compares 10,000
# SSE alone; AVX2 without VNNI, which adds products of bytes in pairs of 16 bits.
PROCESSORS = ("Nehalem", "Haswell")

Digests = dict[tuple[str, str], str]


def by_operation(rows: object) -> Digests:
    return {(row["model"], row["operation"]): row["digest"] for row in rows}  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def checkpoints(portable_store: Path) -> list[Path]:
    """The shipped portable generators, and a tiny network of each kind."""
    shipped = [
        path for path in sorted(STORE.glob("*gan*.safetensors")) if read(path).description.portable
    ]
    return [*shipped, *sorted(portable_store.glob("*.safetensors"))]


@pytest.fixture(scope="module")
def here(checkpoints: list[Path]) -> Digests:
    """Of this processor, in batches of 64."""
    return by_operation(digests(checkpoints, IMAGES, "64"))


@pytest.mark.slow
def test_single_images_have_the_bytes_of_batches(checkpoints: list[Path], here: Digests) -> None:
    assert by_operation(digests(checkpoints, IMAGES, "1")) == here
    assert by_operation(digests(checkpoints, IMAGES, "7")) == here


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(EMULATOR), reason=f"{EMULATOR} is not installed")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_another_processor_gives_the_same_bytes(
    checkpoints: list[Path], here: Digests, processor: str
) -> None:
    emulator = [EMULATOR, "-cpu", processor]
    assert by_operation(digests(checkpoints, IMAGES, "64", emulator)) == here
