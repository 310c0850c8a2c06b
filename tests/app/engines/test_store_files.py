"""What may stand in the store in a file's place: none of it is read, waited for or served."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialise_tensors

from app.engines.store import load_store
from app.formats.png import to_png
from training.networks.header import digest_of, split

PNG = to_png(np.zeros((28, 28), np.uint8))
OUTSIDE = b"\x89PNG\r\n\x1a\nsecret"


@pytest.fixture
def store(tiny_store: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_store, tmp_path / "store"))


def link(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_bytes(OUTSIDE)
    path.symlink_to(outside)


def unix_socket(path: Path) -> None:
    folder = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(folder)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(PNG)
        file.truncate(2**33)


STAND_INS: dict[str, Callable[[Path], Any]] = {
    "link": link,
    "link within": lambda path: path.symlink_to("tiny-gan-v1.safetensors"),
    "broken link": lambda path: path.symlink_to("nothing"),
    "loop": lambda path: path.symlink_to(path.name),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "fifo": os.mkfifo,
    "socket": unix_socket,
    "folder": os.mkdir,
    "huge": sparse,
    "text": lambda path: path.write_text("root:x:0:0"),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("kind", STAND_INS)
@pytest.mark.parametrize("end", [".safetensors", ".generate.onnx", ".png", "-film.webp"])
def test_what_is_no_regular_file_of_its_type_is_left_out_and_the_rest_is_served(
    store: Path, kind: str, end: str
) -> None:
    path = store / f"tiny-cgan-v1{end}"
    path.unlink(missing_ok=True)
    STAND_INS[kind](path)
    models, refused = load_store(store, device="cpu")
    if end in (".png", "-film.webp"):
        assert models["tiny-cgan-v1"].pictures == {}
        return
    assert set(models) == {"tiny-gan-v1", "tiny-vae-v1"}
    assert set(refused) == {"tiny-cgan-v1.safetensors"}
    assert "secret" not in str(refused)


def test_a_picture_is_the_one_that_was_there_when_the_model_was_loaded(store: Path) -> None:
    path = store / "tiny-cgan-v1.png"
    path.write_bytes(PNG)
    models, _ = load_store(store, device="cpu")
    path.unlink()
    link(path)
    assert models["tiny-cgan-v1"].pictures == {"samples": PNG}


Change = Callable[[dict[str, torch.Tensor]], object]
CHANGES: dict[str, Change] = {
    "missing": lambda tensors: tensors.pop("trunk.0.weight"),
    "extra": lambda tensors: tensors.update({"one.more": torch.zeros(1)}),
    "misshapen": lambda tensors: tensors.update({"trunk.0.weight": torch.zeros(3, 3)}),
    "transposed": lambda tensors: tensors.update(
        {"trunk.0.weight": tensors["trunk.0.weight"].T.contiguous()}
    ),
    "other type": lambda tensors: tensors.update({"trunk.0.weight": torch.zeros(3).half()}),
}


@pytest.mark.parametrize("engine", ["onnx", "torch"])
@pytest.mark.parametrize("change", CHANGES)
def test_both_engines_refuse_a_checkpoint_whose_tensors_are_not_its_networks(
    store: Path, engine: Any, change: str
) -> None:
    """Its digest is right, and its graphs are those that were published."""
    path = store / "tiny-gan-v1.safetensors"
    data = path.read_bytes()
    metadata = split(data)[0]["__metadata__"]
    tensors = parse_tensors(data)
    CHANGES[change](tensors)
    metadata["digest"] = digest_of(*split(serialise_tensors(tensors, metadata)))
    path.write_bytes(serialise_tensors(tensors, metadata))
    models, refused = load_store(store, engine, device="cpu")
    assert "tiny-gan-v1" not in models
    assert "tensor " in refused["tiny-gan-v1.safetensors"]
    assert json.dumps(refused)
