"""ONNX files become checkpoints; what keeps one from being served is told in words."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from app.engines.store import load_store
from app.settings import Settings
from tests import graphs
from training.importing import publish, trial
from training.importing.errors import GeneratorError
from training.importing.options import Options
from training.importing.publish import import_onnx
from training.networks.graph.config import GraphConfig, Noise, Pixels
from training.networks.graph.onnx_file import check_graph
from training.networks.header import read

# What a graph does not say of itself.
SAID: dict[str, dict[str, Any]] = {
    "wide": {"layout": "NHWC"},
    "uniform": {"latent": (Noise("", (5,), "uniform"),)},
    "truncated": {"latent": (Noise("", (5,), "truncated_normal"),)},
    "sphere": {"latent": (Noise("", (5,), "sphere"),)},
    "codes": {
        "latent": (Noise("code", (3, 4), "categorical"), Noise("angle", (2,), "uniform")),
        "mean_latent": graphs.FEATURES["codes"].mean_latent,
    },
    "indexed": {"labels": ("class 0", "class 1", "class 2")},
    "one-hot": {"labels": ("class 0", "class 1", "class 2")},
}


def imported(folder: Path, data: bytes, encoder: bytes | None = None, **said: Any) -> Path:
    """The checkpoint of a file."""
    folder.mkdir(exist_ok=True)
    source = folder / "source.onnx"
    source.write_bytes(data)
    other = None
    if encoder is not None:
        other = folder / "encoder.onnx"
        other.write_bytes(encoder)
    options = Options(name="mine", store=folder / "store", **said)
    return import_onnx(source, other, options, say=lambda _: None)


def reason(folder: Path, data: bytes, **said: Any) -> str:
    with pytest.raises(GeneratorError) as caught:
        imported(folder, data, **said)
    assert not list((folder / "store").glob("*"))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", [n for n, c in graphs.FEATURES.items() if c.graphs[0] != "decode"])
def test_a_graph_is_described_as_it_is(tmp_path: Path, name: str) -> None:
    wanted = graphs.FEATURES[name]
    said = {"range": wanted.output.range} | SAID.get(name, {})
    path = imported(tmp_path, graphs.decoder_graph(wanted), **said)
    description = read(path).description
    assert description.network == dataclasses.replace(wanted, max_batch=64)
    graph = path.with_name("mine.generate.onnx").read_bytes()
    check_graph(graph, imported=True)
    assert path.with_suffix(".png").exists()


@pytest.mark.parametrize("name", ["vae", "autoencoder", "rgba-autoencoder", "conditional-vae"])
def test_an_encoder_and_a_decoder_become_one_checkpoint(tmp_path: Path, name: str) -> None:
    wanted = graphs.FEATURES[name]
    files = graphs.graphs_of(wanted)
    said = SAID["indexed"] if wanted.num_classes else {}
    path = imported(
        tmp_path, files["decode"], files["encode"], range="-1..1", input_range="0..1", **said
    )
    assert read(path).description.network == dataclasses.replace(wanted, max_batch=64)


@pytest.mark.parametrize("wanted", ["0..1", "-1..1", "0..255"])
def test_the_range_is_told_from_the_samples(tmp_path: Path, wanted: str) -> None:
    config = graphs.config(output=Pixels("pixels", "NCHW", wanted))
    network = read(imported(tmp_path, graphs.decoder_graph(config))).description.network
    assert isinstance(network, GraphConfig)
    assert network.output.range == wanted


def test_a_range_that_cannot_be_is_refused(tmp_path: Path) -> None:
    config = graphs.config(output=Pixels("pixels", "NCHW", "0..255"))
    message = reason(tmp_path, graphs.decoder_graph(config), range="-1..1")
    assert "of them far outside of -1..1: is another --range meant" in message


def test_a_range_may_be_left_a_little(tmp_path: Path) -> None:
    """As by a network without a sigmoid at its end: a black ground is .01 now above, now below."""
    config = graphs.config(output=Pixels("pixels", "NCHW", "-1..1"))
    made = onnx.load_from_string(graphs.decoder_graph(config))
    made.graph.node[-1].output[0] = "bound"
    made.graph.initializer.append(numpy_helper.from_array(np.array(0.02, np.float32), "little"))
    made.graph.node.append(helper.make_node("Mul", ["bound", "little"], ["pixels"]))
    read(imported(tmp_path, made.SerializeToString(), range="0..1"))


def test_rows_of_pixels_become_images(tmp_path: Path) -> None:
    flat = graphs.config(image_shape=(1, 1, 48), output=Pixels("image", "NCHW", "-1..1"))
    made = onnx.load_from_string(graphs.decoder_graph(flat))
    shape = next(t for t in made.graph.initializer if t.name == "shape")
    shape.CopyFrom(numpy_helper.from_array(np.array([0, -1], np.int64), "shape"))
    del made.graph.output[0].type.tensor_type.shape.dim[2:]
    made.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 48
    cases: list[tuple[dict[str, Any], tuple[int, ...]]]
    cases = [({}, (3, 4, 4)), ({"image": (1, 6, 8)}, (1, 6, 8))]
    for said, wanted in cases:
        folder = tmp_path / str(wanted[0])
        folder.mkdir()
        network = read(imported(folder, made.SerializeToString(), **said)).description.network
        assert network.image_shape == wanted
    for kind in ("FLOAT16", "DOUBLE", "INT64"):
        number = onnx.TensorProto.DataType.Value(kind)
        other = onnx.ModelProto.FromString(made.SerializeToString())
        other.graph.node[-1].output[0] = "floats"
        other.graph.node.append(helper.make_node("Cast", ["floats"], ["image"], to=number))
        other.graph.output[0].type.tensor_type.elem_type = number
        folder = tmp_path / kind
        folder.mkdir()
        network = read(imported(folder, other.SerializeToString())).description.network
        assert network.image_shape == (3, 4, 4)
    message = reason(tmp_path, made.SerializeToString(), image=(1, 5, 5))
    assert "--image is 1x5x5, 25 numbers; the output has 48" in message


def test_an_older_operator_set_is_converted(tmp_path: Path) -> None:
    made = onnx.load_from_string(graphs.decoder_graph(graphs.config()))
    made.opset_import[0].version = 13
    made.ir_version = 8
    path = imported(tmp_path, made.SerializeToString())
    version = onnx.load(path.with_name("mine.generate.onnx")).opset_import[0].version
    assert version == 20


def test_weights_in_a_file_of_their_own_are_read_in(tmp_path: Path) -> None:
    made = onnx.load_from_string(graphs.decoder_graph(graphs.config()))
    source = tmp_path / "source.onnx"
    onnx.save(made, source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    path = import_onnx(source, None, Options("mine", tmp_path / "store"), say=lambda _: None)
    check_graph(path.with_name("mine.generate.onnx").read_bytes(), imported=True)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(GeneratorError, match=r"weights\.bin"):
        import_onnx(source, None, Options("other", tmp_path / "store"), say=lambda _: None)


def chain(*kinds: str, **attributes: Any) -> bytes:
    """A graph that applies operators to z one after the other."""
    nodes, last = [], "z"
    for index, kind in enumerate(kinds):
        nodes.append(helper.make_node(kind, [last], [f"v{index}"], **attributes))
        last = f"v{index}"
    nodes.append(helper.make_node("Reshape", [last, "shape"], ["pixels"]))
    return graphs.model(
        nodes,
        {"z": (graphs.FLOAT, (6,))},
        {"pixels": (graphs.FLOAT, ("c", "h", "w"))},
        {"shape": np.array([0, 1, 2, 3], np.int64)},
    )


def loop() -> bytes:
    """A graph that repeats a part of itself 10^12 times."""
    i = helper.make_tensor_value_info("i", graphs.INT64, [])
    c = helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])
    v = helper.make_tensor_value_info("v", graphs.FLOAT, ["batch", 6])
    copies = [helper.make_node("Identity", [name], [f"{name}.next"]) for name in ("c", "v")]
    ends = [helper.make_tensor_value_info("c.next", onnx.TensorProto.BOOL, [])]
    ends += [helper.make_tensor_value_info("v.next", graphs.FLOAT, ["batch", 6])]
    body = helper.make_graph(copies, "body", [i, c, v], ends)
    nodes = [
        helper.make_node("Loop", ["trips", "", "z"], ["last"], body=body),
        helper.make_node("Reshape", ["last", "shape"], ["pixels"]),
    ]
    weights = {"trips": np.array(10**12, np.int64), "shape": np.array([0, 1, 2, 3], np.int64)}
    ends_of = {"z": (graphs.FLOAT, (6,))}, {"pixels": (graphs.FLOAT, ("c", "h", "w"))}
    return graphs.model(nodes, *ends_of, weights)


def doubling_functions() -> bytes:
    """A graph of one node, a function that calls another twice, and so on: 2^40 nodes."""
    made = onnx.load_from_string(chain("Tanh"))
    made.opset_import.append(helper.make_opsetid("f", 1))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    for depth in range(40):
        domain, name = ("f", f"f{depth + 1}") if depth < 39 else ("", "Neg")
        nodes = [
            helper.make_node(name, [x], [y], domain=domain) for x, y in (("a", "b"), ("b", "c"))
        ]
        made.functions.append(helper.make_function("f", f"f{depth}", ["a"], ["c"], nodes, opsets))
    made.graph.node[0].domain, made.graph.node[0].op_type = "f", "f0"
    return bytes(made.SerializeToString())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (loop(), "the operator Loop: control flow cannot be served"),
        (graphs.of_a_million_nodes(), "it has more than 16384 nodes; no more are served"),
        (doubling_functions(), "it has more than 16384 nodes; no more are served"),
        (chain("Tanh")[:90], "is not a whole ONNX file"),
        (chain("RandomNormalLike"), "RandomNormalLike: it draws noise inside: make the noise an"),
        (chain("Dropout"), "dropout is left on: export in eval mode"),
        (chain("NonZero"), "the size of its result depends on values"),
        (chain("Log"), "sample 0 has values that are not finite"),
        (b"PK\x03\x04 not a graph", "is not a whole ONNX file"),
    ],
)
def test_what_cannot_be_served_is_told_with_what_to_do(
    tmp_path: Path, data: bytes, message: str
) -> None:
    assert message in reason(tmp_path, data)


@pytest.mark.parametrize("kind", ["FLOAT16", "DOUBLE", "INT64"])
def test_numbers_of_another_type_are_cast_at_the_ends(tmp_path: Path, kind: str) -> None:
    made = onnx.load_from_string(graphs.decoder_graph(graphs.FEATURES["indexed"]))
    number = onnx.TensorProto.DataType.Value(kind)
    z, label = made.graph.input
    label.type.tensor_type.elem_type = onnx.TensorProto.INT32
    if kind != "INT64":
        z.type.tensor_type.elem_type = number
        first = next(node for node in made.graph.node if "z" in node.input)
        first.input[0] = "z32"
        made.graph.node.insert(0, helper.make_node("Cast", ["z"], ["z32"], to=graphs.FLOAT))
    made.graph.node[-1].output[0] = "floats"
    made.graph.node.append(helper.make_node("Cast", ["floats"], ["pixels"], to=number))
    made.graph.output[0].type.tensor_type.elem_type = number
    path = imported(tmp_path, graphs.checked(made.SerializeToString()), labels=("a", "b", "c"))
    models, refused = load_store(path.parent)
    assert refused == {}
    assert models["mine"].network.num_classes == 3


@pytest.mark.parametrize("end", ["input", "output"])
def test_what_is_no_number_is_refused(tmp_path: Path, end: str) -> None:
    made = onnx.load_from_string(chain("Tanh"))
    getattr(made.graph, end)[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    assert "is of type STRING" in reason(tmp_path, made.SerializeToString())


def test_a_path_that_is_no_file_is_told(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "x.onnx", "does not exist"), (tmp_path, "is no file")):
        with pytest.raises(GeneratorError, match=f"{path} {message}"):
            import_onnx(path, None, Options("mine", tmp_path), say=lambda _: None)


def test_operators_of_another_domain_are_refused(tmp_path: Path) -> None:
    made = onnx.load_from_string(chain("Tanh"))
    made.graph.node[0].domain = "com.microsoft"
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert "has operators of com.microsoft; only the standard ones are served" in reason(
        tmp_path, made.SerializeToString()
    )


def test_a_fixed_batch_is_told(tmp_path: Path) -> None:
    made = onnx.load_from_string(graphs.decoder_graph(graphs.config()))
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    message = reason(tmp_path, made.SerializeToString())
    assert "input z has a fixed batch of 1. Export it with a dynamic one" in message
    # The input claims any batch, but a number of rows is written in the graph.
    made = onnx.load_from_string(chain("Tanh"))
    shape = next(t for t in made.graph.initializer if t.name == "shape")
    shape.CopyFrom(numpy_helper.from_array(np.array([2, 1, 2, 3], np.int64), "shape"))
    assert "the batch is fixed inside the graph" in reason(tmp_path, made.SerializeToString())


def test_a_slow_generator_is_told_and_one_that_is_too_slow_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    source = tmp_path / "source.onnx"
    source.write_bytes(graphs.decoder_graph(graphs.config()))
    for name in ("usual", "slow"):
        said.clear()
        import_onnx(source, None, Options(name, tmp_path / "store"), said.append)
        assert any(line.startswith("slow: about ") for line in said) == (name == "slow")
        monkeypatch.setattr(publish, "SLOW_S", 0.0)
    assert f"GENSERVE_MAX_QUEUE_MS = {Settings().max_queue_ms:g}" in "\n".join(said)
    monkeypatch.setattr(trial, "MOST_S", 0.0)
    message = reason(tmp_path / "none", source.read_bytes())
    assert re.search(r"one image takes .* s; at most 0 s can be served", message)


def test_rows_that_depend_on_each_other_are_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["z", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["z", "mean"], ["centred"]),
        helper.make_node("Tanh", ["centred"], ["squashed"]),
        helper.make_node("Reshape", ["squashed", "shape"], ["pixels"]),
    ]
    data = graphs.model(
        nodes,
        {"z": (graphs.FLOAT, (6,))},
        {"pixels": (graphs.FLOAT, ("c", "h", "w"))},
        {"shape": np.array([0, 1, 2, 3], np.int64), "axes": np.array([0], np.int64)},
    )
    assert "rows depend on each other: an image changes by" in reason(tmp_path, data)


def test_a_graph_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Expand", ["z", "size"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("Add", ["z", "sum"], ["moved"]),
        helper.make_node("Reshape", ["moved", "shape"], ["pixels"]),
    ]
    data = graphs.model(
        nodes,
        {"z": (graphs.FLOAT, (6,))},
        {"pixels": (graphs.FLOAT, ("c", "h", "w"))},
        {
            "shape": np.array([0, 1, 2, 3], np.int64),
            "size": np.array([10**5, 10**5, 1, 6], np.int64),
        },
    )
    assert "takes over 512 MiB; it cannot be served" in reason(tmp_path, data)


@pytest.mark.parametrize(
    ("name", "said", "message"),
    [
        ("indexed", {}, "takes the integers label: name the classes with --labels"),
        ("plain", {"labels": ("a", "b")}, "takes z (float [6]): none of them is a label"),
        ("plain", {"latent": (Noise("", (7,)),)}, "input z has rows of [6], not [7]"),
        ("plain", {"latent": (Noise("w", (6,)),)}, "has no input w; it takes z (float [6])"),
        ("plain", {"latent": (Noise("", (6,)), Noise("", (3,)))}, "--latent is given 2 times"),
        ("indexed", {"labels": tuple("abcde")}, "are there fewer classes than --labels or --clas"),
        ("sphere", {"latent": SAID["sphere"]["latent"], "truncation": True}, "cannot be truncated"),
    ],
)
def test_what_is_said_has_to_agree_with_the_graph(
    tmp_path: Path, name: str, said: dict[str, Any], message: str
) -> None:
    assert message in reason(tmp_path, graphs.decoder_graph(graphs.FEATURES[name]), **said)


def test_classes_that_are_not_named_are_asked_about(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "x.onnx").write_bytes(graphs.decoder_graph(graphs.FEATURES["indexed"]))
    for labels, asked in ((("a", "b"), True), (("a", "b", "c"), False)):
        said.clear()
        options = Options("mine", tmp_path / "store", labels=labels, replace=True)
        import_onnx(tmp_path / "x.onnx", None, options, said.append)
        assert ("label 2 gives an image too: are there more classes than 2?" in said) == asked
