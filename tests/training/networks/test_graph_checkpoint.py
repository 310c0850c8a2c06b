"""A checkpoint of graphs alone: its header is parsed strictly, and says all that serving needs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from tests import graphs
from tests.training.networks.checkpoints import refusal, with_metadata, with_network
from training.networks.files import CheckpointError
from training.networks.graph.onnx_file import MAX_IMPORTED_NODES, check_graph
from training.networks.header import read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return graphs.write(tmp_path / "x.safetensors", graphs.FEATURES["codes"], licence="MIT")


def reason_of(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", graphs.FEATURES)
def test_every_feature_survives_a_round_trip(tmp_path: Path, name: str) -> None:
    config = graphs.FEATURES[name]
    description = read(graphs.write(tmp_path / "x.safetensors", config)).description
    assert description.network == config
    assert description.kind == "graph"
    assert description.operations == config.operations
    assert set(description.graphs) == set(config.graphs)
    for operation, data in graphs.graphs_of(config).items():
        check_graph(graphs.checked(data), imported=True)
        assert description.graphs[operation].samples == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"architecture": "dense"}, "architecture is 'dense'; a graph's is 'graph'"),
        ({"graphs": ["encode"]}, "graphs are encode; allowed: generate; decode; decode and encode"),
        ({"graphs": []}, "graphs are ; allowed"),
        ({"noise": []}, "0 noise inputs; allowed: 1 to 64"),
        ({"noise": [{"name": "z"}]}, "fields of network noise are not exactly name, shape,"),
        (
            {"noise": [{"name": "z", "shape": [0], "distribution": "normal"}], "mean_latent": []},
            "noise z has the shape [0]",
        ),
        (
            {"noise": [{"name": "z", "shape": [4096, 4096], "distribution": "normal"}]},
            "the noise of an image has 16777216 numbers; at most 262144",
        ),
        (
            {"noise": [{"name": "z", "shape": [2.5], "distribution": "normal"}]},
            "network noise shape is not of type int",
        ),
        (
            {"noise": [{"name": "z", "shape": [5], "distribution": "cauchy"}]},
            "noise z is 'cauchy'; allowed: normal, uniform",
        ),
        ({"label": {"name": "y", "form": "index"}}, "0 classes and label"),
        ({"num_classes": True}, "network num_classes is not of type int"),
        ({"image_shape": [2, 4, 4]}, "image_shape is [2, 4, 4]; allowed: 1, 3 or 4 channels"),
        ({"image_shape": [1, 4, 1025]}, "sides of 1 to 1024 pixels"),
        ({"image_shape": [1, 4]}, "network image_shape has 2 values, not 3"),
        (
            {"output": {"name": "pixels", "layout": "CHWN", "range": "0..1"}},
            "pixels is CHWN 0..1; allowed: NCHW, NHWC",
        ),
        (
            {"output": {"name": "pixels", "layout": "NCHW", "range": "-2..2"}},
            "allowed: NCHW, NHWC; 0..1, -1..1, 0..255",
        ),
        ({"posterior": ["mu"]}, "encode has an input and one or two outputs; other graphs none"),
        ({"mean_latent": [0.0]}, "mean_latent has 1 numbers; the first noise input has 5"),
        ({"mean_latent": [0, 0, 0, 0, 1001.0]}, "mean_latent is over 8192 numbers, or not within"),
        ({"truncation": 1}, "network truncation is not of type bool"),
        ({"max_batch": 128}, "max_batch is 128; allowed: a power of 2 to 64"),
        ({"max_batch": 3}, "max_batch is 3"),
        ({"more": 1}, "fields of network are not exactly architecture, graphs, noise"),
    ],
)
def test_a_field_that_cannot_be_is_refused(path: Path, fields: Any, reason: str) -> None:
    with_network(path, **fields)
    assert reason in reason_of(path)


def test_a_tensor_name_that_is_no_name_is_refused(path: Path) -> None:
    with_network(path, output={"name": "<b>", "layout": "NCHW", "range": "0..1"})
    assert "a tensor's name is '<b>'" in reason_of(path)


def test_sphere_noise_cannot_be_truncated() -> None:
    with pytest.raises(ValueError, match="sphere noise cannot be truncated"):
        dataclasses.replace(graphs.FEATURES["sphere"], truncation=True)


def test_a_checkpoint_of_this_kind_without_graphs_is_refused(path: Path) -> None:
    with_metadata(path, lambda metadata: metadata.update(graphs="{}"))
    assert reason_of(path) == "it has no graphs, and its kind has nothing else"


def test_another_number_of_labels_than_classes_is_refused(path: Path) -> None:
    with_metadata(path, lambda metadata: metadata.update(labels=json.dumps(["one"])))
    assert reason_of(path) == "1 labels (distinct ones) do not name 0 classes"


def test_torch_has_no_network_of_it(path: Path) -> None:
    assert refusal(path) == (
        "it has graphs alone, which ONNX Runtime runs; torch has no network of it"
    )


def test_operators_of_imported_graphs_are_refused_in_our_own_networks() -> None:
    nodes = [
        helper.make_node("Sin", ["z"], ["pixels"]),
    ]
    data = graphs.model(nodes, {"z": (graphs.FLOAT, (6,))}, {"pixels": (graphs.FLOAT, (6,))}, {})
    check_graph(data, imported=True)
    with pytest.raises(ValueError, match="operator 'Sin' is not allowed"):
        check_graph(data)


@pytest.mark.parametrize(
    "operator", ["RandomNormal", "RandomUniformLike", "Multinomial", "Dropout", "NonZero"]
)
def test_operators_that_draw_or_count_are_refused(operator: str) -> None:
    data = graphs.model(
        [helper.make_node(operator, ["z"], ["y"])],
        {"z": (graphs.FLOAT, (6,))},
        {"y": (graphs.FLOAT, None)},
        {},
    )
    with pytest.raises(ValueError, match=f"operator '{operator}' is not allowed in a graph"):
        check_graph(data, imported=True)


def test_a_graph_of_a_million_nodes_is_refused_before_all_are_read() -> None:
    data = graphs.of_a_million_nodes()
    with pytest.raises(ValueError, match=f"it has more than {MAX_IMPORTED_NODES} nodes"):
        check_graph(data, imported=True)
