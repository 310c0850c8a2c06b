"""What is saved comes back bit for bit; every other file is refused, by name, quickly."""

import dataclasses
import errno
import json
import os
import pickle
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as serialise
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from training.networks import build
from training.networks.checkpoint import load, save
from training.networks.configs import CONFIGS as KINDS
from training.networks.configs import Config, GanConfig, VaeConfig
from training.networks.gan import Generator
from training.networks.header import (
    MAX_FILE_BYTES,
    MAX_HEADER_BYTES,
    MAX_NUMBER,
    MAX_NUMBERS,
    MAX_WIDTHS,
    CheckpointError,
    Description,
    digest_of,
)
from training.networks.vae import VAE

CONFIGS: dict[str, tuple[str, Config]] = {
    "gan-compact": ("gan", GanConfig(latent_dim=3, image_size=8, channels=(4, 4))),
    "gan-dcgan": ("gan", GanConfig("dcgan", latent_dim=3, image_size=8, channels=(4, 4))),
    "gan-dense": ("gan", GanConfig("dense", latent_dim=3, image_size=8, channels=(4, 4))),
    "cgan": ("cgan", GanConfig(latent_dim=3, num_classes=2, image_size=8, channels=(4, 4))),
    "vae-conv": ("vae", VaeConfig(latent_dim=3, image_size=8, channels=(4, 4), hidden=4)),
    "vae-dense": ("vae", VaeConfig("dense", latent_dim=3, image_size=8, channels=(4,))),
    "vae-flow": (
        "vae",
        VaeConfig(*("dense", 3), image_size=8, channels=(4, 4), prior_layers=2, prior_hidden=4),
    ),
    "vae-linear-flow": (
        "vae",
        VaeConfig("dense", 3, 1, 8, (4,), prior_layers=2, prior_hidden=4, prior_mixing="linear"),
    ),
}

CURVE = ((0.03125, 0.0), (0.5, 0.625), (1.0, 1.0))
CONFIGS["gan-toned"] = ("gan", dataclasses.replace(CONFIGS["gan-dense"][1], tone=CURVE))
CONFIGS["vae-toned"] = ("vae", dataclasses.replace(CONFIGS["vae-dense"][1], tone=CURVE))

Edit = Callable[[dict[str, Any]], object]


def make(name: str) -> tuple[Generator | VAE, Description]:
    """A tiny network, its batch-norm averages no longer at their start, and its description."""
    kind, config = CONFIGS[name]
    torch.manual_seed(0)
    network = build(kind, config)
    z = torch.randn(8, 3)
    network.train()
    network.generate(z, torch.arange(8) % 2 if network.num_classes else None)
    if isinstance(network, VAE):
        for parameter in network.prior.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    labels = ("nought", "one")[: network.num_classes]
    return network.eval(), Description(
        kind,
        config,
        labels,
        data={"name": "made-up", "licence": "été ☂"},
        training={"seed": 3, "run": {"loss": "hinge"}},
        metrics={"frechet_test": 1.25, "samples": 10},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole checkpoint of an unconditional dense GAN."""
    path = tmp_path / "made-up-gan-v1.safetensors"
    save(path, *make("gan-dense"))
    return path


def taken_apart(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensor bytes of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def put_together(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def redigested(header: dict[str, Any], body: bytes) -> bytes:
    """A file whose digest is right, whatever else is wrong with it."""
    header["__metadata__"]["digest"] = digest_of(header, body)
    return put_together(header, body)


def with_tensors(path: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    """Rewrite a checkpoint with other tensors and a right digest."""
    header, _ = taken_apart(path.read_bytes())
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    edit(tensors)
    path.write_bytes(redigested(*taken_apart(serialise(tensors, header["__metadata__"]))))


def with_metadata(path: Path, edit: Edit) -> None:
    """Rewrite a checkpoint with other metadata and a right digest."""
    header, body = taken_apart(path.read_bytes())
    edit(header["__metadata__"])
    path.write_bytes(redigested(header, body))


def with_network(path: Path, **fields: Any) -> None:
    """Rewrite the config in a checkpoint's header."""

    def edit(metadata: dict[str, Any]) -> None:
        metadata["network"] = json.dumps(json.loads(metadata["network"]) | fields)

    with_metadata(path, edit)


def refusal(path: Path) -> str:
    """Why a file is refused. The message is one line and begins with the file's name."""
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    reason = message.removeprefix(f"{path}: ")
    assert reason.strip()
    return reason


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


@pytest.mark.parametrize(("text", "found"), [("6", "'6'"), ("", "''"), ("1.0", "'1.0'")])
def test_an_unknown_format_is_refused_with_the_value_and_the_accepted(
    path: Path, text: str, found: str
) -> None:
    with_metadata(path, lambda metadata: metadata.update(format=text))
    assert refusal(path) == f"format is {found}; accepted: '1', '2', '3', '4', '5'"


def test_format_1_has_no_fields_for_what_could_not_be_chosen_then(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    network, description = make("vae-conv")
    save(path, network, description)

    def as_format_1(metadata: dict[str, Any]) -> None:
        fields = json.loads(metadata["network"])
        assert fields.pop("blocks") == [1, 1]
        assert fields.pop("prior_mixing") == "reverse"
        assert fields.pop("tone") == []
        metadata.update(format="1", network=json.dumps(fields))

    with_metadata(path, as_format_1)
    again, found = load(path)
    assert found.network == description.network
    assert torch.equal(again.generate(torch.ones(1, 3)), network.generate(torch.ones(1, 3)))
    with_metadata(path, lambda metadata: metadata.update(format="5"))
    assert refusal(path).startswith("fields of network are not exactly architecture, ")
    save(path, network, description)
    with_metadata(path, lambda metadata: metadata.update(format="1"))
    assert refusal(path).startswith("fields of network are not exactly architecture, ")


@pytest.mark.parametrize("name", ["gan-compact", "cgan"])
def test_generators_of_format_4_have_modes_in_equal_shares(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.safetensors"
    network, description = make(name)
    save(path, network, description)

    def as_format_4(metadata: dict[str, Any]) -> None:
        fields = json.loads(metadata["network"])
        assert fields.pop("mode_offsets") == []
        metadata.update(format="4", network=json.dumps(fields))

    with_metadata(path, as_format_4)
    assert load(path)[1].network == description.network
    save(path, network, description)
    with_metadata(path, lambda metadata: metadata.update(format="4"))
    assert refusal(path).startswith("fields of network are not exactly architecture, ")


@pytest.mark.parametrize(
    ("offsets", "reason"),
    [
        ([0.1, 0.2], "2 mode_offsets for 3 modes"),
        ([0.1, 0.2, 11.0], "mode_offsets are not within -10.0 to 10.0"),
        ([0.1, 0.2, 1], "network field mode_offsets is not a list of numbers with a fraction"),
        ("0.1", "network field mode_offsets is not a list of numbers with a fraction"),
        ([0.1, 0.2, True], "network field mode_offsets is not a list of numbers with a fraction"),
    ],
)
def test_offsets_of_modes_that_cannot_be_are_refused(
    tmp_path: Path, offsets: Any, reason: str
) -> None:
    path = tmp_path / "x.safetensors"
    config = GanConfig(latent_dim=5, image_size=8, channels=(4, 4), modes=3)
    network = Generator(dataclasses.replace(config, mode_offsets=(0.5, 0.0, -0.5))).eval()
    save(path, network, Description("gan", network.config))
    again, found = load(path)
    assert found.network == network.config
    assert isinstance(again, Generator)
    z = torch.zeros(1, 5)
    assert torch.equal(again.generate(z), network.generate(z))
    assert again.modes_of(z).tolist() == [0]

    def altered(metadata: dict[str, Any]) -> None:
        fields = json.loads(metadata["network"]) | {"mode_offsets": offsets}
        metadata.update(network=json.dumps(fields))

    with_metadata(path, altered)
    assert refusal(path) == reason


@pytest.mark.parametrize("name", ["gan-compact", "cgan"])
def test_generators_of_format_3_have_no_modes(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.safetensors"
    network, description = make(name)
    save(path, network, description)

    def as_format_3(metadata: dict[str, Any]) -> None:
        fields = json.loads(metadata["network"])
        assert fields.pop("modes") == 0
        assert fields.pop("mode_offsets") == []
        metadata.update(format="3", network=json.dumps(fields))

    with_metadata(path, as_format_3)
    again, found = load(path)
    assert found.network == description.network
    z, labels = torch.ones(1, 3), torch.tensor([1]) if network.num_classes else None
    assert torch.equal(again.generate(z, labels), network.generate(z, labels))
    save(path, network, description)
    with_metadata(path, lambda metadata: metadata.update(format="3"))
    assert refusal(path).startswith("fields of network are not exactly architecture, ")


@pytest.mark.parametrize("name", ["gan-compact", "cgan", "vae-conv"])
def test_networks_of_format_2_have_no_tone_curve(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.safetensors"
    network, description = make(name)
    save(path, network, description)

    def as_format_2(metadata: dict[str, Any]) -> None:
        fields = json.loads(metadata["network"])
        assert fields.pop("tone") == []
        fields.pop("modes", None)
        fields.pop("mode_offsets", None)
        metadata.update(format="2", network=json.dumps(fields))

    with_metadata(path, as_format_2)
    again, found = load(path)
    assert found.network == description.network
    z, labels = torch.ones(1, 3), torch.tensor([1]) if network.num_classes else None
    assert torch.equal(again.generate(z, labels), network.generate(z, labels))
    save(path, network, description)
    with_metadata(path, lambda metadata: metadata.update(format="2"))
    assert refusal(path).startswith("fields of network are not exactly architecture, ")


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (0.5, "network field tone is not a list of pairs of numbers"),
        ([0.0, 1.0], "network field tone is not a list of pairs of numbers"),
        ([[0.0, 0.0], [1.0]], "network field tone is not a list of pairs of numbers"),
        ([[0.0, 0.0], [1.0, "1"]], "network field tone is not a list of pairs of numbers"),
        ([[0.0, 0.0], [1.0, True]], "network field tone is not a list of pairs of numbers"),
        ([[0.0, 0.0], [float("nan"), 1.0]], "its network has a number or character that JSON"),
        ([[0.0, 0.0], [1.0, 2.0]], "a knot of the tone curve is not within -1 to 2 and 0 to 1"),
        ([[0.0, 0.0], [1e-300, 1.0]], "the tone curve's slope from 0.0 to 1e-300 is not within"),
        ([[k / 99, k / 99] for k in range(99)], "the tone curve has 99 knots; allowed: 2 to 16"),
    ],
)
def test_a_curve_that_is_none_is_refused(tmp_path: Path, curve: object, reason: str) -> None:
    path = tmp_path / "x.safetensors"
    save(path, *make("gan-toned"))
    with_metadata(
        path,
        lambda metadata: metadata.update(
            network=json.dumps(json.loads(metadata["network"]) | {"tone": curve})
        ),
    )
    assert refusal(path).startswith(reason)


def test_an_unknown_kind_is_refused_with_the_value_and_the_accepted(path: Path) -> None:
    with_metadata(path, lambda metadata: metadata.update(kind="diffusion"))
    assert refusal(path) == f"kind is 'diffusion'; accepted: {', '.join(KINDS)}"


@pytest.mark.parametrize("key", ["kind", "network", "labels", "data", "training", "metrics"])
def test_a_missing_field_is_named_and_not_guessed(path: Path, key: str) -> None:
    with_metadata(path, lambda metadata: metadata.pop(key))
    assert refusal(path) == f"its header lacks '{key}'"


def test_a_missing_format_is_not_guessed(path: Path) -> None:
    with_metadata(path, lambda metadata: metadata.pop("format"))
    assert "format is None" in refusal(path)


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


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.bool]
)
def test_tensors_of_another_dtype_are_refused_by_name(path: Path, dtype: torch.dtype) -> None:
    with_tensors(path, lambda t: t.update({"trunk.0.weight": torch.zeros(4, 3, dtype=dtype)}))
    reason = refusal(path)
    assert "tensor trunk.0.weight is " in reason
    assert f"{dtype})" in reason.partition("expected")[0]
    assert "torch.float32" in reason.partition("expected")[2]


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


class LargestTensor(TorchDispatchMode):
    """Remembers the bytes of the largest tensor made in memory while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                self.nbytes = max(self.nbytes, tensor.nbytes)
        return result


@pytest.mark.parametrize("width", [2**12, 2**20])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_lies_about_sizes_is_refused_without_making_them(
    tmp_path: Path, name: str, width: int
) -> None:
    path = tmp_path / "x.safetensors"
    save(path, *make(name))
    fields: dict[str, Any] = {"channels": [width] * (1 if name == "vae-dense" else 2)}
    with_network(path, **fields, latent_dim=width)
    if width > MAX_NUMBER:
        assert "is not within" in refusal(path)
    started = time.monotonic()
    with LargestTensor() as largest:
        reason = refusal(path)
    assert time.monotonic() - started < 10  # milliseconds; the machine may be busy
    assert largest.nbytes <= path.stat().st_size
    assert "alloc" not in reason


def test_the_largest_numbers_that_a_config_may_hold_are_refused_too(tmp_path: Path) -> None:
    for name in CONFIGS:
        path = tmp_path / f"{name}.safetensors"
        save(path, *make(name))
        most = MAX_NUMBERS["blocks"]
        sizes = {"latent_dim": MAX_NUMBER, **MAX_NUMBERS, "blocks": [most, most]}
        sizes = {k: v for k, v in sizes.items() if v and k in CONFIGS[name][1].__dataclass_fields__}
        with_network(path, **sizes)
        with LargestTensor() as largest:
            assert "tensor " in refusal(path)  # those that are there do not fit the config
        assert largest.nbytes <= path.stat().st_size


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"latent_dim": MAX_NUMBER + 1}, "network field latent_dim is not within 1 to"),
        ({"latent_dim": 10**4000}, "network field latent_dim is not within"),
        ({"latent_dim": 0}, "network field latent_dim is not within"),
        ({"image_channels": 2}, "network field image_channels is 2; allowed: 1 (grey) or 3 (RGB)"),
        ({"image_size": 0}, "network field image_size is not within"),
        ({"latent_dim": -3}, "network field latent_dim is not within"),
        ({"latent_dim": 3.0}, "network field latent_dim has the wrong type"),
        ({"latent_dim": "3"}, "network field latent_dim has the wrong type"),
        ({"latent_dim": True}, "network field latent_dim has the wrong type"),
        ({"latent_dim": None}, "network field latent_dim has the wrong type"),
        ({"latent_dim": [3]}, "network field latent_dim has the wrong type"),
        ({"channels": [4, "4"]}, "network field channels has the wrong type"),
        ({"channels": [4, [4]]}, "network field channels has the wrong type"),
        ({"channels": {"0": 4}}, "network field channels is not a list of 1 to"),
        ({"channels": [4, -4]}, "network field channels is not within 1 to"),
        ({"architecture": 1}, "network field architecture has the wrong type"),
        ({"architecture": "u-net"}, "unknown architecture 'u-net'"),
        ({"hidden": 4}, "fields of network are not exactly architecture, latent_dim"),
        ({"num_classes": 10}, "kind is 'gan', but the network has 10 classes"),
    ],
)
def test_a_bad_config_is_refused_with_the_field(
    path: Path, fields: dict[str, Any], reason: str
) -> None:
    with_network(path, **fields)
    assert reason in refusal(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"gan"', "{}", "[" * 100_000])
def test_a_config_that_is_no_table_of_its_fields_is_refused(path: Path, text: str) -> None:
    with_metadata(path, lambda metadata: metadata.update(network=text))
    refusal(path)


@pytest.mark.parametrize(
    "labels",
    [
        *([], ["nought"], ["nought", "one", "two"], ["one", "one"], ["one", 1], "ab", {"a": 0}),
        *(None, ["", "one"], ["one", "x" * 65], ["one", "a\nb"], ["one", "\ud800"]),
    ],
)
def test_labels_must_be_one_distinct_name_a_class(tmp_path: Path, labels: object) -> None:
    path = tmp_path / "x.safetensors"
    save(path, *make("cgan"))
    with_metadata(path, lambda metadata: metadata.update(labels=json.dumps(labels)))
    assert "labels" in refusal(path)


@pytest.mark.parametrize("value", [1, None, True, {"a": 1}, ["x"]])
def test_metadata_that_are_not_text_are_refused(path: Path, value: object) -> None:
    with_metadata(path, lambda metadata: metadata.update(training=value))
    assert "not all text" in refusal(path)


@pytest.mark.parametrize("name", ["trunk.0.weight", "__metadata__"])
def test_a_header_that_names_something_twice_is_refused(path: Path, name: str) -> None:
    """Two parsers may take one or the other; the digest would be of one alone."""
    header, body = taken_apart(path.read_bytes())
    text = json.dumps(header)
    twice = f'{text[:-1]}, "{name}": {json.dumps(header[name])}}}'.encode()
    assert json.loads(twice) == header
    path.write_bytes(struct.pack("<Q", len(twice)) + twice + body)
    refusal(path)


@pytest.mark.parametrize("key", ["data", "training", "metrics"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (r'{"a": "\ud800"}', "JSON cannot hold"),
        (r'{"\udfff": 1}', "JSON cannot hold"),
        (f'{{"a": {"[" * 20}{"]" * 20}}}', "nested more than"),
        (f'{{"a": {"[" * 50_000}{"]" * 50_000}}}', ""),
    ],
    ids=range(4),
)
def test_tables_that_a_reply_could_not_hold_are_refused(
    path: Path, key: str, text: str, reason: str
) -> None:
    with_metadata(path, lambda metadata: metadata.update({key: text}))
    assert reason in refusal(path)


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


class TooManyLayersError(BaseException):
    """Stops a test that would go on for minutes; no ``except`` of the loader's catches it."""


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
    ("name", "fields"),
    [
        ("gan-compact", {"channels": 4}),
        ("gan-dense", {"channels": 4}),
        ("vae-dense", {"channels": []}),
    ],
)
def test_a_bare_number_or_no_number_for_channels_is_refused(
    tmp_path: Path, name: str, fields: dict[str, Any]
) -> None:
    path = tmp_path / "x.safetensors"
    save(path, *make(name))
    with_network(path, **fields)
    assert "channels" in refusal(path)


@pytest.mark.parametrize("key", ["data", "training", "metrics"])
@pytest.mark.parametrize("value", [[1], 3, "text", None])
def test_data_training_and_metrics_must_be_tables(path: Path, key: str, value: object) -> None:
    with_metadata(path, lambda metadata: metadata.update({key: json.dumps(value)}))
    assert key in refusal(path)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": Infinity}', '{"a": [1e999]}'])
def test_figures_that_are_not_finite_are_refused(path: Path, text: str) -> None:
    with_metadata(path, lambda metadata: metadata.update(metrics=text))
    assert "metrics" in refusal(path)


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


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("gan-dense", {"channels": [1] * (MAX_WIDTHS + 1)}),
        ("gan-dense", {"channels": [1] * 100_000}),
        ("vae-dense", {"channels": [1] * 100_000}),
        ("vae-conv", {"blocks": [1, 17]}),
        ("vae-dense", {"blocks": [MAX_NUMBER, 1]}),
        ("vae-dense", {"prior_layers": 65}),
        ("vae-dense", {"prior_layers": MAX_NUMBER}),
    ],
    ids=range(7),
)
def test_a_config_of_very_many_layers_is_refused_before_they_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fields: dict[str, Any]
) -> None:
    path = tmp_path / "x.safetensors"
    save(path, *make(name))
    with_network(path, **fields)
    built = []
    linear = torch.nn.Linear.__init__

    def count(self: torch.nn.Linear, *arguments: Any, **options: Any) -> None:
        built.append(self)
        if len(built) > 10:
            raise TooManyLayersError
        linear(self, *arguments, **options)

    monkeypatch.setattr(torch.nn.Linear, "__init__", count)
    refusal(path)


def test_a_kind_that_does_not_fit_its_classes_is_refused(path: Path) -> None:
    with_metadata(path, lambda metadata: metadata.update(kind="cgan"))
    assert refusal(path) == "kind is 'cgan', but the network has 0 classes"
