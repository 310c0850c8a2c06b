"""Portable checkpoints on other processors, emulated, and the command that proves it."""

import os
import shutil
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from bench import arm64
from bench.portable import EMULATOR, digests, drawn_on_arm64
from bench.portable import arm64 as on_arm64
from tests.shipped import SIGNS, STORE
from training.networks.header import read

IMAGES = 192  # an operation; python -m bench.portable compares 10,000
DEAR = 12  # images of the signs, each of which costs as much as 16 digits
# SSE alone; AVX2 without VNNI, which adds products of bytes in pairs of 16 bits.
PROCESSORS = ("Nehalem", "Haswell")

ARM64 = Path(os.environ.get("ARM64_FOLDER") or "none").resolve()
needs_arm64 = pytest.mark.skipif(
    not (ARM64.is_dir() and shutil.which(arm64.EMULATOR)),
    reason=f"needs {arm64.EMULATOR}, and ARM64_FOLDER, made by python -m bench.arm64 FOLDER",
)

Digests = dict[tuple[str, str], str]


def by_operation(rows: object) -> Digests:
    return {(row["model"], row["operation"]): row["digest"] for row in rows}  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def checkpoints(portable_store: Path) -> dict[Path, int]:
    """The shipped portable generators, and a tiny network of each kind; how many images of each."""
    shipped = [
        path for path in sorted(STORE.glob("*gan*.safetensors")) if read(path).description.portable
    ]
    counts = {path: DEAR if path.stem == SIGNS else IMAGES for path in shipped}
    return counts | dict.fromkeys(sorted(portable_store.glob("*.safetensors")), IMAGES)


@pytest.fixture(scope="module")
def here(checkpoints: dict[Path, int]) -> Digests:
    """Of this processor, in batches of 64."""
    return by_operation(digests(checkpoints, "64"))


@pytest.mark.slow
def test_single_images_have_the_bytes_of_batches(
    checkpoints: dict[Path, int], here: Digests
) -> None:
    assert by_operation(digests(checkpoints, "1")) == here
    assert by_operation(digests(checkpoints, "7")) == here


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(EMULATOR), reason=f"{EMULATOR} is not installed")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_another_processor_gives_the_same_bytes(
    checkpoints: dict[Path, int], here: Digests, processor: str
) -> None:
    emulator = [EMULATOR, "-cpu", processor]
    assert by_operation(digests(checkpoints, "64", emulator)) == here


@pytest.mark.slow
@needs_arm64
def test_arm64_and_another_engine_give_the_same_bytes(
    checkpoints: dict[Path, int], here: Digests
) -> None:
    rows = list(digests(checkpoints, "64", **on_arm64(ARM64)))
    assert by_operation(rows) == here


@pytest.mark.slow
@needs_arm64
async def test_a_picture_drawn_on_arm64_verifies_here_as_the_same(tmp_path: Path) -> None:
    for file in STORE.glob("mnist-cgan-v7.*"):
        shutil.copy(file, tmp_path)
    picture = drawn_on_arm64(ARM64, tmp_path, "/generate?label=7&seed=42")
    app = create_app(Settings(models_dir=tmp_path, max_batch=8))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post(
                "/verify", content=picture, headers={"content-type": "image/png"}
            )
    verdict = answer.json()
    assert (verdict["verdict"], verdict["reproducibility"]) == ("same", "portable")
