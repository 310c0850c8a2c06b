"""Made-up digits, as tensors and as files in MNIST's own format."""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.data.dataset import Dataset
from training.loops import heldout
from training.networks.checkpoint import save
from training.release import publish, release_files, tone_curve
from training.runs import reporting
from training.runs.curves import save_curves

os.environ.setdefault("TQDM_DISABLE", "1")  # a bar cut off by a test would end the output

WriteMnist = Callable[[Path], Path]
WriteIdx = Callable[[Path, NDArray[np.uint8]], None]


@pytest.fixture(autouse=True)
def _torch_as_it_was() -> Iterator[None]:
    """One thread, which is all that tiny networks use; and undo what the command line sets."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples at the end of an epoch and for a tone curve; curves only with ``curves``."""
    monkeypatch.setattr(heldout, "SAMPLES", 60)
    monkeypatch.setattr(tone_curve, "SAMPLES", 200)
    monkeypatch.setattr(reporting, "save_curves", lambda path, log: None)


@pytest.fixture
def curves(_few_samples: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw curves after all, which takes 0.1 s each."""
    monkeypatch.setattr(reporting, "save_curves", save_curves)


@pytest.fixture
def no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish without quantising or exporting, which takes seconds for each graph."""
    monkeypatch.setattr(publish, "quantise", lambda network: {})
    monkeypatch.setattr(release_files, "save_with_graphs", lambda *given: save(*given[:3]))


@pytest.fixture
def digits() -> Dataset:
    """40 images of 8 x 8, ten classes in turn; each class lights its own pixels."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 64, (40, 1, 8, 8), generator=random, dtype=torch.uint8)
    labels = torch.arange(40) % 10
    for image, label in zip(images, labels, strict=True):
        image.flatten()[6 * int(label) : 6 * int(label) + 6] += 190
    return Dataset("made-up", "none", images, labels, tuple("abcdefghij"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder beside the data, so that no test writes into the checkout."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "500")  # help and errors in one line each
    return folder


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """One file as on MNIST's page: magic number, sizes, bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def write_mnist(root: Path) -> Path:
    """40 training and 30 test images of noise in MNIST's files under ``root``."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("t10k", 30)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(raw / f"{split}-images-idx3-ubyte", images)
        write_idx(raw / f"{split}-labels-idx1-ubyte", labels)
    return root


@pytest.fixture
def made_up_mnist(tmp_path: Path) -> Path:
    """A data root with 40 training and 30 test images."""
    return write_mnist(tmp_path / "data")


@pytest.fixture(scope="session")
def mnist_writer() -> WriteMnist:
    """Writes such a data root where it is told to."""
    return write_mnist


@pytest.fixture(scope="session")
def idx_writer() -> WriteIdx:
    """Writes an array as a file of MNIST's format."""
    return write_idx
