"""A header is checked field by field; a checkpoint of another format is refused."""

import dataclasses
import json
import operator
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training.networks.checkpoints import (
    CONFIGS,
    make,
    refusal,
    whole,
    with_metadata,
    with_network,
)
from training.networks.checkpoint import load, save
from training.networks.configs import KINDS, GanConfig
from training.networks.gan import Generator
from training.networks.header import MAX_NUMBER, MAX_NUMBERS, MAX_WIDTHS, Description, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return whole(tmp_path)


@pytest.mark.parametrize("text", ["1", "4", "6", "", "5.0"])
def test_another_format_is_refused_with_the_value_found_and_the_one_accepted(
    path: Path, text: str
) -> None:
    with_metadata(path, lambda metadata: metadata.update(format=text))
    assert refusal(path).startswith(f"format is {text!r}; accepted: '5'. Publish its run again")


@pytest.mark.parametrize(
    ("offsets", "reason"),
    [
        ([0.1, 0.2], "2 mode_offsets for 3 modes"),
        ([0.1, 0.2, 11.0], "mode_offsets are not within -10.0 to 10.0"),
        ([0.1, 0.2, 1], "network field mode_offsets is not a list of floating-point numbers"),
        ("0.1", "network field mode_offsets is not a list of floating-point numbers"),
        ([0.1, 0.2, True], "network field mode_offsets is not a list of floating-point numbers"),
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
    assert again.chosen_modes(z).tolist() == [0]

    def altered(metadata: dict[str, Any]) -> None:
        fields = json.loads(metadata["network"]) | {"mode_offsets": offsets}
        metadata.update(network=json.dumps(fields))

    with_metadata(path, altered)
    assert refusal(path) == reason


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


@pytest.mark.parametrize(
    "key", ["kind", "network", "labels", "data", "training", "metrics", "graphs"]
)
def test_a_missing_field_is_named_and_not_guessed(path: Path, key: str) -> None:
    with_metadata(path, lambda metadata: metadata.pop(key))
    assert refusal(path) == f"its header lacks '{key}'"


_GRAPH = {"sha256": "5e" * 32, "samples": 9, "max_difference": 0.1, "differing_pixels": 0.5}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"golden": "no digest"}, "golden of graph generate is not 64 hex digits"),
        ({"golden": 7}, "golden of graph generate is not 64 hex digits"),
        ({"sha256": ""}, "sha256 of graph generate is missing"),
        ({"mean_difference": -1}, "mean_difference of graph generate is not a number of at least"),
        (
            {"silver": "5e" * 32},
            "fields of graph generate are not exactly differing_pixels, golden",
        ),
    ],
)
def test_a_graph_that_is_not_described_as_it_must_be_is_refused(
    path: Path, fields: dict[str, Any], reason: str
) -> None:
    graphs = json.dumps({"generate": _GRAPH | fields})
    with_metadata(path, lambda metadata: metadata.update(graphs=graphs))
    assert refusal(path).startswith(reason)


def test_a_portable_graph_has_a_golden_digest_and_one_of_earlier_has_none(path: Path) -> None:
    for fields in dict[str, Any](), {"golden": "0a" * 32, "mean_difference": 0.25}:
        graphs = {"graphs": json.dumps({"generate": _GRAPH | fields})}
        with_metadata(path, operator.methodcaller("update", graphs))
        graph = read(path).description.graphs["generate"]
        assert (graph.golden, graph.mean_difference) == (
            fields.get("golden", ""),
            fields.get("mean_difference", 0),
        )


def test_a_missing_format_is_not_guessed(path: Path) -> None:
    with_metadata(path, lambda metadata: metadata.pop("format"))
    assert "format is None" in refusal(path)


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


class TooManyLayersError(BaseException):
    """Stops a test that would go on for minutes; no ``except`` of the loader's catches it."""


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
