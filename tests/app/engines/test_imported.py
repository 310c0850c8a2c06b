"""Imported graphs: what they take and return, and what a stranger's may not do."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from app.engines.engine import Engine
from app.engines.rows import Point, Row, Sample
from app.engines.store import load_store
from tests import graphs
from tests.app.engines.conftest import warm_engine
from training.networks.configs import Operation
from training.networks.graph.config import GraphConfig, LabelInput, Noise, Pixels
from training.networks.noise import latents_of_seeds


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Every feature of the header, each as a model."""
    store = graphs.write_features(tmp_path_factory.mktemp("features"))
    models, refused = load_store(store)
    assert not refused
    return warm_engine(models)


def rows_of(engine: Engine, name: str, count: int, first: int = 0) -> list[Row]:
    classes = engine.models[name].network.num_classes
    return [Sample(first + i, (first + i) % classes if classes else None) for i in range(count)]


@pytest.mark.parametrize("name", graphs.FEATURES)
def test_a_seed_gives_the_same_pixels_alone_and_among_others(features: Engine, name: str) -> None:
    assert features.reproducibility[name] == "exact"
    rows = rows_of(features, name, 65)
    together = features.run((name, "generate"), rows)
    channels, *sides = features.models[name].network.image_shape
    shape = tuple(sides) if channels == 1 else (*sides, channels)
    for row, image in zip(rows, together, strict=True):
        assert isinstance(image, np.ndarray)
        assert image.shape == shape
        (alone,) = features.run((name, "generate"), [row])
        assert np.array_equal(alone, image)  # type: ignore[arg-type]
    assert len({image.tobytes() for image in together if isinstance(image, np.ndarray)}) > 1


@pytest.mark.parametrize("name", ["plain", "codes", "indexed", "one-hot", "rgba", "wide"])
def test_pixels_are_what_the_graph_computes_of_the_seeds_numbers(
    features: Engine, name: str
) -> None:
    config = graphs.FEATURES[name]
    session = onnxruntime.InferenceSession(graphs.decoder_graph(config))
    z = latents_of_seeds(config, range(8))
    feed: dict[str, Any] = {}
    start = 0
    for part in config.noise:
        feed[part.name] = z[:, start : start + part.size].reshape(8, *part.shape)
        start += part.size
    labels = np.arange(8) % 3
    if config.label:
        one_hot = config.label.form == "one_hot"
        feed[config.label.name] = np.eye(3, dtype=np.float32)[labels] if one_hot else labels
    (raw,) = session.run([config.output.name], feed)
    low, high = {"-1..1": (-1, 1), "0..1": (0, 1), "0..255": (0, 255)}[config.output.range]
    levels = np.rint((raw - low) / (high - low) * 255).clip(0, 255)
    if config.output.layout == "NCHW":
        levels = levels.transpose(0, 2, 3, 1)
    images = features.run((name, "generate"), rows_of(features, name, 8))
    shown = np.stack(images).reshape(levels.shape).astype(int)  # type: ignore[arg-type]
    assert np.abs(shown - levels).max() <= 1  # where a value is half way between two levels
    assert (shown == levels).mean() > 0.99


def test_a_latent_given_equals_the_one_of_its_seed(features: Engine) -> None:
    config = graphs.FEATURES["codes"]
    (z,) = latents_of_seeds(config, [7])
    by_seed, by_point = features.run(("codes", "generate"), [Sample(7), Point(z)])
    assert np.array_equal(by_seed, by_point)  # type: ignore[arg-type]


def test_truncation_moves_the_first_noise_input_to_its_mean_and_no_other(
    features: Engine,
) -> None:
    config = graphs.FEATURES["codes"]
    (z,) = latents_of_seeds(config, [7])
    z[:5] = config.mean_latent
    mean, expected = features.run(("codes", "generate"), [Sample(7, None, 0.0), Point(z)])
    assert np.array_equal(mean, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["vae", "autoencoder", "rgba-autoencoder"])
def test_an_autoencoder_encodes_and_decodes(features: Engine, name: str) -> None:
    images = features.run((name, "generate"), rows_of(features, name, 3))
    posteriors = features.run((name, "encode"), images)  # type: ignore[arg-type]
    size = graphs.FEATURES[name].latent_dim
    for posterior in posteriors:
        assert isinstance(posterior, tuple)
        mu, logvar = posterior
        assert mu.shape == (size,)
        assert (logvar is None) == (name != "vae")
    means = [posterior[0] for posterior in posteriors]  # type: ignore[index]
    decoded = features.run((name, "decode"), means)
    assert [image.shape for image in decoded] == [image.shape for image in images]  # type: ignore[union-attr]


def refusal(folder: Path, config: GraphConfig, data: bytes | None = None) -> str:
    """Why a checkpoint, of this graph if given, is not loaded or does not pass the probe."""
    operation: Operation = config.graphs[0]
    files = None if data is None else {operation: data}
    graphs.write(folder / "good.safetensors", graphs.config())
    graphs.write(folder / "bad.safetensors", config, files)
    models, refused = load_store(folder)
    if refused:
        assert set(models) == {"good"}
        return refused["bad.safetensors"]
    engine = Engine(models, None)
    engine.start_thread()
    failed = engine.warm_up()
    assert set(engine.models) == {"good"}
    return failed["bad"]


def graph(*nodes: tuple[str, str, str], **weights: object) -> bytes:
    """A graph from z (6) to pixels: operator, inputs with spaces between, output."""
    options: dict[str, dict[str, Any]] = {"Concat": {"axis": 0}, "ReduceSum": {"keepdims": 1}}
    made = [
        helper.make_node(kind, given.split(), [to], **options.get(kind, {}))
        for kind, given, to in nodes
    ]
    ends = {"z": (graphs.FLOAT, (6,))}, {"pixels": (graphs.FLOAT, None)}
    return graphs.model(made, *ends, {name: np.array(value) for name, value in weights.items()})


SMALL = graphs.config(image_shape=(1, 2, 3))


def summing(*nodes: tuple[str, str, str], **weights: object) -> bytes:
    """A graph of SMALL that adds up a value called huge, and adds that to z."""
    return graph(
        *nodes,
        ("ReduceSum", "huge", "sum"),
        ("Squeeze", "sum", "one"),
        ("Add", "z one", "moved"),
        ("Reshape", "moved shape", "pixels"),
        shape=np.array([0, 1, 2, 3], np.int64),
        **weights,
    )


def doublings(start: str) -> list[tuple[str, str, str]]:
    chain = [("Concat", f"{start} {start}", "c1")]
    chain += [("Concat", f"c{i} c{i}", f"c{i + 1}") for i in range(1, 40)]
    return [*chain, ("Identity", "c40", "huge")]


def integers(*numbers: int) -> object:
    return np.array(numbers, np.int64)


BOMBS = {
    "doubling": summing(*doublings("z")),
    "doubled constant": summing(*doublings("c0"), c0=np.ones((1, 6), np.float32)),
    "fill": summing(("ConstantOfShape", "size", "huge"), size=integers(10**5, 10**5)),
    "range": summing(
        ("Range", "start stop step", "huge"),
        **{k: np.float32(v) for k, v in {"start": 0, "stop": 1e12, "step": 1}.items()},
    ),
    "pad": summing(("Pad", "z pads", "huge"), pads=integers(0, 0, 0, 10**11)),
    "tile": summing(("Tile", "z repeats", "huge"), repeats=integers(1000, 15_000)),
    "expand": summing(("Expand", "z size", "huge"), size=integers(10**6, 10**6, 1, 6)),
    "outer product": summing(
        ("Reshape", "c column", "tall"),
        ("MatMul", "tall c", "huge"),
        column=integers(-1, 1),
        c=np.ones((1, 200_000), np.float32),
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_graph_that_asks_for_all_memory_is_refused_and_the_others_are_served(
    tmp_path: Path, kind: str
) -> None:
    assert refusal(tmp_path, SMALL, BOMBS[kind]) == (
        "generate needs more than the 2048 MiB that imported graphs have for a batch of 8"
    )


def test_a_graph_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.engines.imported_backend.FIRST_PASS_S", 0.05)
    chain = [("MatMul", "square square", "m1")]
    chain += [("MatMul", f"m{i} square", f"m{i + 1}") for i in range(1, 2000)]
    square = np.eye(500, dtype=np.float32)
    data = summing(*chain, ("Identity", "m2000", "huge"), square=square)
    assert refusal(tmp_path, SMALL, data) == "generate of 8 rows takes over 0.05 s"


def test_outputs_that_are_not_images_are_refused(tmp_path: Path) -> None:
    assert "output pixels has rows of [6], the header says [1, 2, 3]" in refusal(
        tmp_path / "told", SMALL, graph(("Tanh", "z", "pixels"))
    )
    # ONNX Runtime cannot tell the shape before it runs this.
    turned = graph(
        ("Shape", "z", "size"),
        ("Slice", "size one two", "six"),
        ("Concat", "minus six ones", "shape"),
        ("Reshape", "z shape", "pixels"),
        minus=integers(-1),
        one=integers(1),
        two=integers(2),
        ones=integers(1, 1),
    )
    assert refusal(tmp_path / "untold", SMALL, turned) == (
        "output pixels has the shape [8, 6, 1, 1]; its header says [8, 1, 2, 3]"
    )


def test_an_output_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    data = graph(
        ("Sub", "z z", "zero"),
        ("Log", "zero", "minus_infinity"),
        ("Reshape", "minus_infinity shape", "pixels"),
        shape=np.array([0, 1, 2, 3], np.int64),
    )
    assert refusal(tmp_path, SMALL, data) == (
        "the network failed its first passes (FloatingPointError)"
    )


@pytest.mark.parametrize(
    ("written", "said", "reason"),
    [
        (
            graphs.config(),
            graphs.config(noise=(Noise("z", (7,)),)),
            "input z has rows of [6], the header says [7]",
        ),
        (
            graphs.config(),
            graphs.config(noise=(Noise("noise", (6,)),)),
            "its inputs are z; the header has noise",
        ),
        (
            graphs.config(),
            graphs.config(output=Pixels("image")),
            "it has no output image; it has pixels",
        ),
        (
            graphs.config(),
            graphs.config(image_shape=(3, 4, 4)),
            "output pixels has rows of [1, 4, 4], the header says [3, 4, 4]",
        ),
        (
            graphs.FEATURES["indexed"],
            graphs.config(label=LabelInput("label", "one_hot"), num_classes=3),
            "input label is a tensor(int64), not a tensor(float)",
        ),
    ],
)
def test_a_graph_that_is_not_what_the_header_says_is_refused(
    tmp_path: Path, written: GraphConfig, said: GraphConfig, reason: str
) -> None:
    assert reason in refusal(tmp_path, said, graphs.decoder_graph(written))


def test_a_graph_of_one_batch_size_is_refused(tmp_path: Path) -> None:
    made = onnx.load_from_string(graphs.decoder_graph(graphs.config()))
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    reason = refusal(tmp_path, graphs.config(), made.SerializeToString())
    assert "takes a batch of 1 only" in reason


def test_forced_onto_torch_it_is_refused_with_the_way_out(tmp_path: Path) -> None:
    graphs.write(tmp_path / "x.safetensors", graphs.config())
    with pytest.raises(Exception, match="it has graphs alone, which ONNX Runtime runs on the CPU"):
        load_store(tmp_path, "torch")
