"""Networks that generate, encode and decode by portable graphs: what is served, to be measured."""

from collections.abc import Mapping

import torch
from torch import Tensor

from training.networks.configs import Operation
from training.networks.gan import Generator
from training.networks.graph.runner import GraphRunner
from training.networks.vae import VAE

Graphs = Mapping[Operation, bytes]


def with_graphs(network: Generator | VAE, graphs: Graphs) -> Generator | VAE:
    """A copy whose operations are those of graphs; all else, as a likelihood, stays as it was.

    Args:
        network: In eval mode.
        graphs: One an operation; {} = none, and the network itself is returned.
    """
    if not graphs:
        return network
    copy = _Vae(network) if isinstance(network, VAE) else _Generator(network)
    copy.runners = _Runners(graphs)
    device = next(network.parameters()).device
    return copy.to(device).eval().requires_grad_(False)


class _Runners:
    """Graphs, ready to run on the devices where they were used."""

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self._ready: dict[tuple[Operation, torch.device], GraphRunner] = {}

    def run(self, operation: Operation, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """Outputs on the inputs' device; levels become pixels in [0, 1]."""
        given = [value for value in inputs if value is not None]
        key = operation, given[0].device
        if key not in self._ready:
            self._ready[key] = GraphRunner(self._graphs[operation], str(given[0].device))
        outputs = self._ready[key](*given)
        return tuple(x.float() / 255 if x.dtype == torch.uint8 else x for x in outputs)


class _Generator(Generator):
    runners: _Runners

    def __init__(self, network: Generator) -> None:
        super().__init__(network.config)
        self.load_state_dict(network.state_dict())

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.runners.run("generate", z, labels)[0]


class _Vae(VAE):
    runners: _Runners

    def __init__(self, network: VAE) -> None:
        super().__init__(network.config)
        self.load_state_dict(network.state_dict())

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.runners.run("generate", z, labels)[0]

    def decode(self, z: Tensor) -> Tensor:
        return self.runners.run("decode", z)[0]

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.runners.run("encode", images)
        return mu, logvar
