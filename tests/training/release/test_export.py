"""An exported network draws what torch draws; a graph that was touched or holds more is refused."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from training.__main__ import main
from training.networks import build
from training.networks.checkpoint import load, save
from training.networks.configs import Config, GanConfig, Operation, VaeConfig
from training.networks.files import CheckpointError
from training.networks.gan import Generator
from training.networks.graph.onnx_file import check_graph, graph_path, read_graph
from training.networks.header import Description, Graph, read
from training.networks.vae import VAE
from training.release import export
from training.release.export import compare, export_checkpoint, export_graph
from training.release.session import session_of

# As fitted: steep and flat pieces, and knots close to each other.
CURVE = ((0.02, 0.0), (0.08, 0.08), (0.92, 0.92), (0.96, 0.986), (0.99, 0.99), (1.04, 1.0))
# Of the operations of a learned prior, "generate" runs all that "decode" runs.
EXPORTED: dict[str, tuple[str, Config, tuple[Operation, ...]]] = {
    "dense": (
        "cgan",
        GanConfig("dense", latent_dim=3, num_classes=2, image_size=7, channels=(4, 5, 6)),
        ("generate",),
    ),
    "dcgan": (
        "gan",
        GanConfig("dcgan", latent_dim=3, image_channels=3, image_size=8, channels=(6, 5, 4)),
        ("generate",),
    ),
    "compact": (
        "cgan",
        GanConfig(latent_dim=3, num_classes=4, image_size=8, channels=(6, 5, 4)),
        ("generate",),
    ),
    "compact-toned": (
        "gan",
        GanConfig(latent_dim=3, image_size=8, channels=(6, 4), tone=CURVE),
        ("generate",),
    ),
    "compact-modes": (
        "gan",
        GanConfig(
            latent_dim=5, image_size=8, channels=(6, 4), modes=3, mode_offsets=(0.5, 0.0, -0.5)
        ),
        ("generate",),
    ),
    "vae-toned": (
        "vae",
        VaeConfig("dense", 3, 1, 5, (6,), prior_layers=2, prior_hidden=4, tone=CURVE),
        ("generate", "decode"),
    ),
    "vae-conv": (
        "vae",
        VaeConfig(latent_dim=3, image_size=8, channels=(4, 6), blocks=(0, 2), hidden=5),
        ("decode", "encode"),
    ),
    "vae-compact": (
        "vae",
        VaeConfig("compact", 3, 3, 8, (4, 5, 6), blocks=(1, 0, 2), hidden=5),
        ("decode", "encode"),
    ),
    "vae-dense-flow": (
        "vae",
        VaeConfig(*("dense", 3), image_size=5, channels=(6,), prior_layers=2, prior_hidden=4),
        ("generate", "encode"),
    ),
    "vae-linear-flow": (
        "vae",
        VaeConfig("dense", 3, 1, 5, (6,), prior_layers=2, prior_hidden=4, prior_mixing="linear"),
        ("generate",),
    ),
}


def make(kind: str, config: Config) -> Generator | VAE:
    """A network that has left its start: weights of some size, batch norms with averages."""
    torch.manual_seed(0)
    network = build(kind, config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    z = torch.randn(16, config.latent_dim)
    labels = torch.arange(16) % config.num_classes if config.num_classes else None
    network.train().generate(z, labels)
    return network.eval()


@pytest.mark.parametrize("name", EXPORTED)
def test_every_architecture_is_repeated_at_every_batch_size(name: str) -> None:
    kind, config, operations = EXPORTED[name]
    network = make(kind, config)
    for operation in operations:
        data = export_graph(network, operation)
        graph = compare(network, operation, data)
        assert graph.max_difference < 2e-5
        assert graph.sha256 == hashlib.sha256(data).hexdigest()
        session = session_of(data)
        inputs = export.named_inputs(network, operation, 33)
        with torch.no_grad():
            expected = export._Operation(network, operation)(*inputs.values())
        theirs = expected if isinstance(expected, tuple) else (expected,)
        assert np.ptp(theirs[0].numpy()) > 0.05  # a constant would be easy to repeat
        for count in (1, 33):
            feed = {key: tensor[:count].numpy() for key, tensor in inputs.items()}
            for one, other in zip(session.run(None, feed), theirs, strict=True):
                np.testing.assert_allclose(one, other[:count].numpy(), atol=2e-5)


def test_folding_leaves_no_norm_and_no_addition_of_the_residual() -> None:
    kind, config, _ = EXPORTED["compact"]
    network = make(kind, config)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    model = onnx.load_from_string(export_graph(network, "generate"))
    operators = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in operators
    assert operators.count("Conv") == 6
    assert operators.count("Add") <= 1  # of the output's scaling
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_a_graph_tells_nothing_of_where_it_was_made() -> None:
    kind, config, _ = EXPORTED["dense"]
    data = export_graph(make(kind, config), "generate")
    assert str(Path(__file__).parents[3]).encode() not in data
    assert b"site-packages" not in data


def test_an_export_that_differs_too_much_is_refused(tiny_store: Path) -> None:
    one, _ = load(tiny_store / "tiny-cgan-v1.safetensors")
    data = graph_path(tiny_store / "tiny-cgan-v1.safetensors", "generate").read_bytes()
    assert compare(one, "generate", data).max_difference < 1e-5
    with torch.no_grad():
        next(one.parameters()).add_(0.1)
    with pytest.raises(CheckpointError, match="exported generate differs from torch by"):
        compare(one, "generate", data)


@pytest.fixture
def checkpoint(tiny_store: Path, tmp_path: Path) -> Path:
    """An exported checkpoint that a test may damage."""
    shutil.copytree(tiny_store, tmp_path / "store")
    return tmp_path / "store" / "tiny-vae-v1.safetensors"


def test_the_header_says_how_well_each_operation_was_repeated(checkpoint: Path) -> None:
    description = read(checkpoint).description
    assert set(description.graphs) == {"generate", "decode", "encode"}
    for operation, graph in description.graphs.items():
        data = read_graph(checkpoint, operation, graph)
        assert compare(load(checkpoint)[0], operation, data) == graph


def test_the_command_copies_a_checkpoint_with_graphs_and_never_over_another(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", "tiny-gan-v1", str(tmp_path / "to"), "--store", str(checkpoint.parent)]
    main(arguments)
    assert "largest difference from torch" in capsys.readouterr().out
    copied = tmp_path / "to" / "tiny-gan-v1.safetensors"
    one, other = load(checkpoint.with_name(copied.name))[0], load(copied)[0]
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])
    assert read_graph(copied, "generate", read(copied).description.graphs["generate"])
    with pytest.raises(SystemExit, match="exists"):
        main(arguments)


def test_an_export_that_is_refused_leaves_no_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "export_graph", lambda network, operation: operation.encode())

    def refuse(network: object, operation: Operation, data: bytes, portable: bool) -> Graph:
        if operation == "encode":
            raise CheckpointError("too far")
        return Graph("0" * 64, 1, 0, 0)

    monkeypatch.setattr(export, "compare", refuse)
    with pytest.raises(CheckpointError, match="too far"):
        export_checkpoint(checkpoint, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_what_is_no_checkpoint_is_not_exported(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        export_checkpoint(tmp_path / "x.safetensors", tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_an_altered_or_missing_graph_is_refused_by_name(checkpoint: Path) -> None:
    graph = read(checkpoint).description.graphs["decode"]
    path = graph_path(checkpoint, "decode")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{path}: its SHA-256 is .*damaged or altered"):
        read_graph(checkpoint, "decode", graph)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{path}: No such file"):
        read_graph(checkpoint, "decode", graph)


@pytest.fixture(scope="module")
def model(tiny_store: Path) -> bytes:
    """An exported graph that is allowed."""
    data = (tiny_store / "tiny-cgan-v1.generate.onnx").read_bytes()
    check_graph(data)
    return data


def _custom_domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"


def _second_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _renamed_domain(model: onnx.ModelProto) -> None:
    model.opset_import[0].domain = "ai.onnx.ml"


def _random(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("RandomNormal", [], ["noise"], shape=[1]))


def _loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["a"], ["b"], body=body))


def _body_in_an_allowed_operator(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", body))


def _external_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def _external_data_in_a_constant(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32))
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"
    model.graph.node.append(helper.make_node("Constant", [], ["x"], value=tensor))


def _function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Relu", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("", "Relu", ["x"], ["y"], body, opsets))


def _sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add()


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add()


def _old(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 7


def _new(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 2**40


def _many_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend([helper.make_node("Identity", ["z"], [f"x{i}"]) for i in range(5000)])


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_custom_domain, "domain 'com.microsoft' are not allowed"),
        (_second_domain, "domain 'com.microsoft' are not allowed"),
        (_renamed_domain, "domain 'ai.onnx.ml' are not allowed"),
        (_random, "operator 'RandomNormal' is not allowed"),
        (_loop, "operator 'Loop' is not allowed"),
        (_body_in_an_allowed_operator, "field 6 of an attribute is not allowed"),
        (_external_data, "of a tensor is not allowed"),
        (_external_data_in_a_constant, "field 13 of a tensor is not allowed"),
        (_function, "field 25 of the model is not allowed"),
        (_sparse, "field 15 of the graph is not allowed"),
        (_training, "field 20 of the model is not allowed"),
        (_old, "operator set 7; accepted: 17 to 23"),
        (_new, "operator set 1099511627776; accepted"),
        (_many_nodes, "more than 4096 nodes"),
    ],
)
def test_a_graph_with_more_than_is_allowed_is_refused(
    model: bytes, edit: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    changed = onnx.load_from_string(model)
    edit(changed)
    with pytest.raises(ValueError, match=reason):
        check_graph(changed.SerializeToString())


def test_a_second_graph_or_operator_set_is_refused(model: bytes) -> None:
    """A parser would join or replace the first; which of them was checked must not matter."""
    for extra in (onnx.ModelProto(graph=onnx.GraphProto(name="x")), onnx.ModelProto()):
        if not extra.graph.name:
            extra.opset_import.append(helper.make_opsetid("", 20))
        with pytest.raises(ValueError, match="one graph and one operator set"):
            check_graph(model + extra.SerializeToString())


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"\xff" * 50, b"\x3a\x05abc", b"\x08" + b"\x80" * 20, b"<!doctype html>", b"\x0b"],
    ids=range(7),
)
def test_what_is_no_graph_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ONNX model|is not allowed|is a number"):
        check_graph(data)


def test_a_cut_off_graph_is_refused(model: bytes) -> None:
    for length in range(0, len(model), 97):
        with pytest.raises(ValueError, match=r"\w"):
            check_graph(model[:length])


def test_a_checkpoint_may_be_without_graphs_but_not_without_some(tiny_store: Path) -> None:
    contents = read(tiny_store / "tiny-vae-v1.safetensors")
    some = {"decode": contents.description.graphs["decode"]}
    path = tiny_store.parent / "some.safetensors"
    network, description = load(tiny_store / "tiny-vae-v1.safetensors")
    save(path, network, dataclasses.replace(description, graphs=some))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="its graphs are not exactly generate"):
        read(path)
    save(path, network, dataclasses.replace(description, graphs={}))
    assert read(path).description.graphs == {}
    path.unlink()
    assert isinstance(description, Description)
