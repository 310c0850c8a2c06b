"""``import --portable``: a chain of layers gets the same bytes everywhere, near those it had."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.engines.loading import load_and_probe
from app.settings import Settings
from training.importing.errors import GeneratorError
from training.importing.options import Options
from training.importing.publish import import_onnx
from training.networks.graph.onnx_file import read_graph
from training.networks.header import read
from training.release.portable.imported import portable_graph

LABELS = ("a", "b", "c")


def chain(*more: Any, last: str = "Sigmoid") -> Any:
    """Latents (5,) and labels to pictures of 1 x 4 x 4, by what small generators are made of."""
    rng = np.random.default_rng(3)

    def numbers(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32) * np.float32(0.6)

    constants = {
        "table": numbers(3, 4),
        "w": numbers(48, 9),
        "b": numbers(48),
        "scale": numbers(48) + 1,
        "shift": numbers(48),
        "mean": numbers(48),
        "variance": numbers(48) ** 2 + np.float32(0.5),
        "shape": np.array([-1, 3, 4, 4]),
        "kernel": numbers(1, 3, 3, 3),
        "bias": numbers(1),
    }
    nodes = [
        helper.make_node("Gather", ["table", "label"], ["code"]),
        helper.make_node("Concat", ["z", "code"], ["both"], axis=1),
        helper.make_node("Gemm", ["both", "w", "b"], ["h"], transB=1),
        helper.make_node("BatchNormalization", ["h", "scale", "shift", "mean", "variance"], ["n"]),
        helper.make_node("LeakyRelu", ["n"], ["a"], alpha=0.2),
        helper.make_node("Reshape", ["a", "shape"], ["maps"]),
        *more,
        helper.make_node("Conv", ["maps", "kernel", "bias"], ["sums"], pads=[1, 1, 1, 1]),
        helper.make_node(last, ["sums"], ["image"]),
    ]
    ends = [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 5]),
        helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 4, 4])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "chain", ends, [image], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def imported(folder: Path, model: Any, name: str, **more: Any) -> tuple[Path, list[str]]:
    source, said = folder / f"{name}.onnx", list[str]()
    onnx.save(model, source)
    options = Options(name=name, store=folder / "store", labels=LABELS)
    return import_onnx(source, None, options, said.append, **more), said


@pytest.mark.parametrize("last", ["Sigmoid", "Tanh"])
def test_a_chain_is_graded_portable_and_says_what_it_costs(tmp_path: Path, last: str) -> None:
    plain, _ = imported(tmp_path, chain(last=last), "plain")
    quantised, said = imported(tmp_path, chain(last=last), "quantised", quantise=portable_graph)
    assert any(line.startswith("portable: of 256 images the pixels differ by") for line in said)
    described = read(quantised).description
    assert described.portable
    assert not read(plain).description.portable
    assert 0 < described.graphs["generate"].mean_difference < 2
    assert "the same bytes (portable)" in quantised.with_suffix(".md").read_text()
    engine = load_and_probe(Settings(models_dir=tmp_path / "store")).engine
    assert engine.reproducibility == {"plain": "exact", "quantised": "portable"}


def test_only_whole_numbers_are_summed_so_no_row_depends_on_its_batch(tmp_path: Path) -> None:
    path, _ = imported(tmp_path, chain(), "mine", quantise=portable_graph)
    data = read_graph(path, "generate", read(path).description.graphs["generate"], imported=True)
    kinds = {node.op_type for node in onnx.load_from_string(data).graph.node}
    assert kinds.isdisjoint({"Sigmoid", "BatchNormalization", "Gemm"})
    session = onnxruntime.InferenceSession(data)
    z = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    labels = np.arange(64) % 3
    (together,) = session.run(None, {"z": z, "label": labels})
    assert together.dtype == np.uint8
    for row in range(64):
        one = slice(row, row + 1)
        (alone,) = session.run(None, {"z": z[one], "label": labels[one]})
        assert np.array_equal(alone, together[one])


def test_a_layer_without_an_exact_form_is_refused_by_name(tmp_path: Path) -> None:
    softmax = helper.make_node("Softmax", ["maps"], ["soft"], name="attention")
    model = chain(softmax)
    model.graph.node[-2].input[0] = "soft"
    with pytest.raises(GeneratorError, match=r"--portable: Softmax \(attention\) has no exact"):
        imported(tmp_path, model, "mine", quantise=portable_graph)
    model = chain()
    del model.graph.node[-1]
    model.graph.node[-1].output[0] = "image"
    with pytest.raises(GeneratorError, match="it ends with Conv"):
        portable_graph(model.SerializeToString(), read_config(tmp_path))
    assert not (tmp_path / "store/mine.safetensors").exists()


def with_sum(shape: tuple[int, ...], constant_first: bool = False) -> Any:
    """A chain whose last convolution is followed by the sum with a constant."""
    model = chain()
    constant = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(np.array(constant), "more"))
    model.graph.node[-2].output[0] = "apart"
    inputs = ["more", "apart"] if constant_first else ["apart", "more"]
    model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Add", inputs, ["sums"]))
    return model


@pytest.mark.parametrize(
    ("shape", "constant_first"),
    [((), False), ((1,), True), ((1, 1, 1), False), ((1, 1, 1, 1), True)],
)
def test_what_is_added_to_a_map_is_its_bias(
    tmp_path: Path, shape: tuple[int, ...], constant_first: bool
) -> None:
    model = with_sum(shape, constant_first)
    path, _ = imported(tmp_path, model, "mine", quantise=portable_graph)
    assert 0 < read(path).description.graphs["generate"].mean_difference < 2


def test_what_is_added_to_a_pixel_is_none(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="--portable: Add has no exact form"):
        imported(tmp_path, with_sum((4,)), "mine", quantise=portable_graph)


def test_a_layer_may_be_read_twice(tmp_path: Path) -> None:
    model = chain()
    model.graph.node[4].output[0] = "rest"
    model.graph.node.insert(5, helper.make_node("LeakyRelu", ["h"], ["raw"], alpha=0.5))
    model.graph.node.insert(6, helper.make_node("Concat", ["rest", "raw"], ["wide"], axis=1))
    fold = numpy_helper.from_array(np.tile(np.eye(48, dtype=np.float32) / 2, (2, 1)), "fold")
    model.graph.initializer.append(fold)
    model.graph.node.insert(7, helper.make_node("MatMul", ["wide", "fold"], ["a"]))
    path, _ = imported(tmp_path, model, "mine", quantise=portable_graph)
    assert 0 < read(path).description.graphs["generate"].mean_difference < 2


def read_config(folder: Path) -> Any:
    path, _ = imported(folder, chain(), "plain")
    return read(path).description.network
