"""A quantised network draws what its network draws, and the same bytes on either engine."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch

from tests.training.release.test_export import EXPORTED, make
from training.networks import with_config
from training.networks.configs import GanConfig, Operation
from training.networks.gan import Generator
from training.networks.golden import golden_inputs, output_digest
from training.networks.graph.network import with_graphs
from training.networks.graph.onnx_file import check_graph
from training.networks.graph.reader import parse_graph
from training.networks.graph.runner import GraphRunner
from training.networks.vae import VAE
from training.release.export import compare
from training.release.portable import quantise as module
from training.release.portable.quantise import quantise
from training.release.session import session_of

# Rounded one way by IEEE 754, or whole numbers; Conv and MatMul have exact sums.
EXACT = {
    *("Add", "Cast", "Clip", "Concat", "Conv", "DepthToSpace", "Div", "Gather", "Identity"),
    *("LeakyRelu", "MatMul", "MatMulInteger", "Mul", "QLinearConv", "QuantizeLinear", "ReduceMax"),
    *("ReduceSum", "Relu", "Reshape", "Split", "Sub", "Transpose"),
}


@pytest.fixture(scope="module", params=list(EXPORTED))
def quantised(request: pytest.FixtureRequest) -> tuple[Generator | VAE, dict[Operation, bytes]]:
    """An untrained network of each architecture, and its graphs."""
    kind, config, _ = EXPORTED[str(request.param)]
    network = make(kind, config)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module, "TABLE", 1024)
        return network, quantise(network)


Quantised = tuple[Generator | VAE, dict[Operation, bytes]]


def test_it_is_the_same_on_either_engine_and_in_every_batch(quantised: Quantised) -> None:
    network, graphs = quantised
    for operation, data in graphs.items():
        check_graph(data)
        batch, labels = golden_inputs(network.config, operation, 33)
        inputs = [batch] if labels is None else [batch, labels]
        runner = GraphRunner(data)
        session = session_of(data)
        whole = session.run(None, dict(zip(runner.inputs, inputs, strict=True)))
        assert output_digest(whole) == output_digest(
            [output.numpy() for output in runner(*map(torch.from_numpy, inputs))]
        )
        for start, count in ((0, 1), (7, 1), (3, 5), (1, 32)):
            chosen = slice(start, start + count)
            rows = [batch[chosen]] if labels is None else [batch[chosen], labels[chosen]]
            part = session.run(None, dict(zip(runner.inputs, rows, strict=True)))
            for one, other in zip(part, whole, strict=True):
                np.testing.assert_array_equal(one, other[start : start + count])


def test_it_draws_what_its_network_draws(quantised: Quantised) -> None:
    network, graphs = quantised
    for operation, data in graphs.items():
        graph = compare(network, operation, data, portable=True)
        # Levels; of an encoding, whose numbers are of order 1, their unit. These networks are
        # untrained and steep: a trained one differs by less.
        assert graph.mean_difference < (0.1 if operation == "encode" else 6)
        assert len(graph.golden) == 64


def test_its_histogram_is_that_of_its_network(quantised: Quantised) -> None:
    network, graphs = quantised
    random = torch.Generator().manual_seed(1)
    z = torch.randn(2000, network.latent_dim, generator=random)
    labels = torch.arange(2000) % network.num_classes if network.num_classes else None
    served = with_graphs(network, graphs)
    with torch.no_grad():
        ours, theirs = (
            torch.bincount((n.generate(z, labels) * 255).round().int().flatten(), minlength=256)
            for n in (served, network)
        )
    total = theirs.sum()
    assert float((ours.cumsum(0) - theirs.cumsum(0)).abs().max() / total) < 0.03


def test_nothing_in_it_is_left_to_a_library(quantised: Quantised) -> None:
    for data in quantised[1].values():
        graph = parse_graph(data)
        assert {node.operator for node in graph.nodes} <= EXACT
        model = onnx.load_from_string(data)
        assert [node.op_type for node in model.graph.node] == [n.operator for n in graph.nodes]
        for tensor in model.graph.initializer:
            np.testing.assert_array_equal(
                graph.constants[tensor.name], onnx.numpy_helper.to_array(tensor)
            )


def test_sums_are_exact_in_any_order(quantised: Quantised) -> None:
    """With each layer's inputs and weights in another order, its sums keep every bit."""
    network, graphs = quantised
    for operation, data in graphs.items():
        model = onnx.load_from_string(data)
        given = {tensor.name: tensor for tensor in model.graph.initializer}
        batch, labels = golden_inputs(network.config, operation, 9)
        session = session_of(data)
        feed = dict(zip((i.name for i in session.get_inputs()), (batch, labels), strict=False))
        expected = session.run(None, feed)
        products = [node for node in model.graph.node if node.op_type == "MatMul"]
        for place, node in enumerate(products):
            size = _rows(model, given, node.input[1])
            order = np.random.default_rng(place).permutation(size)
            name = f"order{place}"
            model.graph.initializer.append(onnx.numpy_helper.from_array(order, name))
            for side, axis in ((0, 1), (1, 0)):
                shuffled = f"shuffled{place}.{side}"
                gather = onnx.helper.make_node(
                    "Gather", [node.input[side], name], [shuffled], axis=axis
                )
                model.graph.node.insert(list(model.graph.node).index(node), gather)
                node.input[side] = shuffled
        session = session_of(model.SerializeToString())
        assert output_digest(session.run(None, feed)) == output_digest(expected)


def _rows(model: onnx.ModelProto, given: dict[str, onnx.TensorProto], name: str) -> int:
    """First size of a weight, which is cast and scaled from a stored one."""
    makers = {output: node for node in model.graph.node for output in node.output}
    while name not in given:
        name = makers[name].input[0]
    return int(given[name].dims[0])


def test_numbers_that_are_not_finite_stay_in_their_row(quantised: Quantised) -> None:
    network, graphs = quantised
    for operation, data in graphs.items():
        batch, labels = golden_inputs(network.config, operation, 4)
        session = session_of(data)
        names = [value.name for value in session.get_inputs()]
        expected = session.run(None, dict(zip(names, (batch, labels), strict=False)))
        for bad in (np.nan, np.inf, -np.inf):
            batch[1] = bad
            got = session.run(None, dict(zip(names, (batch, labels), strict=False)))
            for one, other in zip(got, expected, strict=True):
                np.testing.assert_array_equal(one[[0, 2, 3]], other[[0, 2, 3]])


def test_a_trained_tone_curve_is_kept() -> None:
    kind, config, _ = EXPORTED["compact"]
    network = make(kind, config)
    assert isinstance(network, Generator)
    tone = ((0.05, 0.0), (0.3, 0.3), (0.7, 0.7), (0.9, 1.0))
    toned = with_config(network, dataclasses.replace(network.config, tone=tone))
    graph = compare(toned, "generate", quantise(toned)["generate"], portable=True)
    assert graph.mean_difference < 6


def test_a_network_too_wide_for_exact_sums_is_refused() -> None:
    network = make("gan", GanConfig("dense", latent_dim=2, image_size=4, channels=(4,)))
    assert isinstance(network, Generator)
    first = network.trunk[0]
    first.weight = torch.nn.Parameter(torch.ones(4, 25_000))
    wide = dataclasses.replace(network.config, latent_dim=25_000)
    network.config, network.latent_dim = wide, wide.latent_dim
    with pytest.raises(ValueError, match="sums 25000 products: too many to be exact"):
        quantise(network)
