"""What is saved comes back bit for bit; every other file is refused, by name, quickly."""

import errno
import json
import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.training.networks.checkpoints import (
    CONFIGS,
    Edit,
    make,
    put_together,
    redigested,
    refusal,
    taken_apart,
    whole,
    with_network,
    with_tensors,
)
from training.networks.checkpoint import load, save
from training.networks.files import MAX_FILE_BYTES
from training.networks.header import MAX_HEADER_BYTES, Description
from training.networks.vae import VAE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return whole(tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_and_loaded_networks_draw_the_same_bits(tmp_path: Path, name: str) -> None:
    network, description = make(name)
    save(tmp_path / "x.safetensors", network, description)
    loaded, _ = load(tmp_path / "x.safetensors")
    assert type(loaded) is type(network)
    random = torch.Generator().manual_seed(1)
    z = torch.randn(5, 3, generator=random)
    labels = torch.tensor([0, 1, 1, 0, 1]) if network.num_classes else None
    with torch.no_grad():
        assert torch.equal(loaded.generate(z, labels), network.generate(z, labels))
        if isinstance(network, VAE):
            assert isinstance(loaded, VAE)
            images = torch.rand(5, 1, 8, 8, generator=random)
            for one, other in zip(loaded.encode(images), network.encode(images), strict=True):
                assert torch.equal(one, other)
    before, after = network.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", CONFIGS)
def test_loaded_networks_are_in_eval_mode_on_the_cpu_without_gradients(
    tmp_path: Path, name: str
) -> None:
    network, description = make(name)
    save(tmp_path / "x.safetensors", network.train(), description)
    loaded, _ = load(tmp_path / "x.safetensors")
    assert not any(module.training for module in loaded.modules())
    for tensor in [*loaded.parameters(), *loaded.buffers()]:
        assert tensor.device.type == "cpu"
        assert not tensor.requires_grad


@pytest.mark.parametrize("name", CONFIGS)
def test_the_description_comes_back_with_the_digest(tmp_path: Path, name: str) -> None:
    network, description = make(name)
    digest = save(tmp_path / "x.safetensors", network, description)
    _, found = load(tmp_path / "x.safetensors")
    assert found.digest == digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert found == Description(**{**vars(description), "digest": digest})


def test_the_file_is_plain_safetensors_with_text_metadata(path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert set(metadata) == {
        *("format", "kind", "network", "labels", "data", "training", "metrics", "graphs"),
        "digest",
    }
    assert metadata["format"] == "5"
    assert json.loads(metadata["network"])["architecture"] == "dense"


def test_loading_again_gives_networks_that_share_no_memory(path: Path) -> None:
    one, other = load(path)[0], load(path)[0]
    next(one.parameters()).fill_(0)
    assert next(other.parameters()).any()


def test_saving_leaves_one_readable_file_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.safetensors"
    save(path, *make("cgan"))
    assert [entry.name for entry in path.parent.iterdir()] == ["x.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("failing", ["replace", "fsync", "chmod"])
def test_a_failing_write_leaves_the_old_file_whole_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    old = path.read_bytes()

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        save(path, *make("cgan"))
    monkeypatch.undo()
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_the_new_file_is_whole_before_it_takes_the_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    replace = os.replace

    def look(source: str, target: Path) -> None:
        assert target == path
        assert Path(source).parent == path.parent  # a rename across file systems is no rename
        seen.append((load(path)[1].kind, load(Path(source))[1].kind))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    save(path, *make("cgan"))
    assert seen == [("gan", "cgan")]
    assert load(path)[1].kind == "cgan"


def test_every_truncation_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for length in [*range(24), *range(24, len(data), 61), len(data) - 4, len(data) - 1]:
        path.write_bytes(data[:length])
        refusal(path)


def test_bytes_after_the_end_are_refused(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0\0\0\0")
    assert "damaged or altered" in refusal(path)


def test_one_flipped_bit_anywhere_is_refused(path: Path) -> None:
    data = path.read_bytes()
    header_end = 8 + struct.unpack("<Q", data[:8])[0]
    assert 500 < header_end < len(data) - 500  # bytes of both parts are flipped below
    # Every 5th byte, with every bit of a byte in its turn: a second on a busy machine.
    for position in [*range(8), *range(8, len(data), 5)]:
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        refusal(path)


def test_a_flipped_weight_is_reported_as_damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert re.search("digest [0-9a-f]{12}….*header says [0-9a-f]{12}….*damaged", refusal(path))


@pytest.mark.parametrize("key", ["kind", "labels", "data", "training", "metrics"])
def test_altered_metadata_are_reported_as_damage(path: Path, key: str) -> None:
    header, body = taken_apart(path.read_bytes())
    header["__metadata__"][key] += " "
    path.write_bytes(put_together(header, body))
    assert "damaged or altered" in refusal(path)


def test_two_tensors_that_changed_places_are_reported_as_damage(path: Path) -> None:
    header, body = taken_apart(path.read_bytes())
    one, other = header["trunk.0.bias"], header["trunk.2.bias"]
    assert one["shape"] == other["shape"]
    header["trunk.0.bias"], header["trunk.2.bias"] = other, one
    path.write_bytes(put_together(header, body))
    assert "damaged or altered" in refusal(path)


def test_a_missing_digest_is_refused(path: Path) -> None:
    header, body = taken_apart(path.read_bytes())
    del header["__metadata__"]["digest"]
    path.write_bytes(put_together(header, body))
    assert "digest" in refusal(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["trunk.0.weight", "trunk.4.bias"])
def test_one_weight_that_is_not_finite_is_refused_by_name(
    path: Path, name: str, value: float
) -> None:
    with_tensors(path, lambda tensors: tensors[name].view(-1)[-1:].fill_(value))
    assert refusal(path) == f"tensor {name} has values that are not finite"


def test_batch_norm_buffers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save(path, *make("gan-compact"))
    with_tensors(path, lambda tensors: tensors["trunk.2.running_var"].fill_(float("nan")))
    assert "trunk.2.running_var" in refusal(path)


def test_extra_and_missing_tensors_are_refused(path: Path) -> None:
    whole = path.read_bytes()
    with_tensors(path, lambda tensors: tensors.update({"optimizer.0": torch.zeros(2)}))
    refusal(path)
    path.write_bytes(whole)
    with_tensors(path, lambda tensors: tensors.pop("trunk.2.bias"))
    refusal(path)


@pytest.mark.parametrize("shape", [(1, 12), (3, 4), (4, 3, 1), (4, 2)])
def test_tensors_of_another_shape_are_refused(path: Path, shape: tuple[int, ...]) -> None:
    with_tensors(path, lambda tensors: tensors.update({"trunk.0.weight": torch.zeros(shape)}))
    refusal(path)


DTYPES = {
    "F64": torch.float64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@pytest.mark.parametrize(("name", "dtype"), DTYPES.items())
def test_tensors_of_another_dtype_are_refused_by_name(
    path: Path, name: str, dtype: torch.dtype
) -> None:
    with_tensors(path, lambda t: t.update({"trunk.0.weight": torch.zeros(4, 3, dtype=dtype)}))
    reason = refusal(path)
    assert "tensor trunk.0.weight is " in reason
    assert f"'{name}'" in reason.partition("expected")[0]
    assert "'F32'" in reason.partition("expected")[2]


def test_weights_of_another_architecture_are_refused(path: Path) -> None:
    with_network(path, architecture="compact")
    refusal(path)


def _lying_shape(header: dict[str, Any]) -> None:
    header["trunk.0.weight"]["shape"] = [2**40, 2**20]


def _offsets_beyond_the_end(header: dict[str, Any]) -> None:
    begin, end = header["trunk.0.weight"]["data_offsets"]
    header["trunk.0.weight"]["data_offsets"] = [begin + 2**40, end + 2**40]


def _overlapping_offsets(header: dict[str, Any]) -> None:
    header["trunk.0.weight"]["data_offsets"] = [0, 48]
    header["trunk.0.bias"]["data_offsets"] = [0, 16]


def _negative_offsets(header: dict[str, Any]) -> None:
    header["trunk.0.weight"]["data_offsets"] = [-48, 0]


def _unknown_dtype(header: dict[str, Any]) -> None:
    header["trunk.0.weight"]["dtype"] = "F1024"


def _not_a_table(header: dict[str, Any]) -> None:
    header["trunk.0.weight"] = [1, 2, 3]


def _no_tensors(header: dict[str, Any]) -> None:
    for name in list(header):
        if name != "__metadata__":
            del header[name]


@pytest.mark.parametrize(
    "edit",
    [
        *(_lying_shape, _offsets_beyond_the_end, _overlapping_offsets, _negative_offsets),
        *(_unknown_dtype, _not_a_table, _no_tensors),
    ],
)
def test_a_header_that_lies_about_its_tensors_is_refused(path: Path, edit: Edit) -> None:
    header, body = taken_apart(path.read_bytes())
    edit(header)
    path.write_bytes(redigested(header, body))
    assert "damaged or altered" not in refusal(path)  # it got past the digest


@pytest.mark.parametrize("name", ["trunk.0.weight", "__metadata__"])
def test_a_header_that_names_something_twice_is_refused(path: Path, name: str) -> None:
    """Two parsers may take one or the other; the digest would be of one alone."""
    header, body = taken_apart(path.read_bytes())
    text = json.dumps(header)
    twice = f'{text[:-1]}, "{name}": {json.dumps(header[name])}}}'.encode()
    assert json.loads(twice) == header
    path.write_bytes(struct.pack("<Q", len(twice)) + twice + body)
    refusal(path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, MAX_HEADER_BYTES + 1])
def test_a_huge_claimed_header_is_refused_with_its_size(path: Path, length: int) -> None:
    path.write_bytes(struct.pack("<Q", length) + b"{}" + b" " * MAX_HEADER_BYTES)
    assert f"header claims {length} bytes" in refusal(path)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\0", b"\0" * 7, b"\0" * 8, b"\0" * 1000, b"\xff" * 1000),
        *(put_together([], b""), put_together({}, b""), put_together({"__metadata__": 1}, b"")),
        struct.pack("<Q", 4) + b"{}  ",
        struct.pack("<Q", 3) + b"{\xff}",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        b"<!doctype html><title>404 Not Found</title>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    ],
    ids=range(14),
)
def test_files_of_other_kinds_are_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    refusal(path)


def test_a_file_over_the_limit_is_refused_unread(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse
    assert refusal(path) == f"{MAX_FILE_BYTES + 1} bytes is over the limit of {MAX_FILE_BYTES}"


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent.safetensors")
    assert "not a regular file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")


def test_the_bytes_that_are_hashed_are_the_bytes_that_are_parsed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is replaced right after its first reading: what was read is what is loaded."""
    other = path.with_name("other.safetensors")
    save(other, *make("vae-conv"))
    expected = load(path)
    read = Path.read_bytes

    def read_then_replace(self: Path) -> bytes:
        data = read(self)
        os.replace(other, path)
        return data

    monkeypatch.setattr(Path, "read_bytes", read_then_replace)
    network, description = load(path)
    assert description == expected[1]
    torch.testing.assert_close(network.state_dict(), expected[0].state_dict(), rtol=0, atol=0)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_a_pickle_is_refused_and_not_run(path: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = Trap(sprung)
    pickled = pickle.dumps(trap)
    path.write_bytes(pickled)
    refusal(path)
    torch.save({"trunk.0.weight": trap}, path)
    refusal(path)
    torch.save({"trunk.0.weight": trap}, path, _use_new_zipfile_serialization=False)
    refusal(path)
    header, body = taken_apart(redigested({"__metadata__": {"format": "2", "kind": "gan"}}, b""))
    header["__metadata__"]["network"] = pickled.decode("latin-1")
    path.write_bytes(redigested(header, body))
    refusal(path)
    assert not sprung.exists()
    pickle.loads(pickled)
    assert sprung.exists()  # the trap works


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (lambda tensors: tensors.update(surplus=torch.zeros(2)), "surplus"),
        (lambda tensors: tensors.pop("trunk.2.bias"), "trunk.2.bias"),
        (lambda tensors: tensors.update({"trunk.0.bias": torch.zeros(5)}), "trunk.0.bias"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    path: Path, edit: Callable[[dict[str, Tensor]], object], name: str
) -> None:
    with_tensors(path, edit)
    assert name in refusal(path)
