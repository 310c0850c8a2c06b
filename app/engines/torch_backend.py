"""Networks on torch: the reference engine, and the one for GPUs. Only this module imports torch."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.engines.backend import Backend, DeviceLostError, EngineName, Floats, Labels, Output
from app.errors import StartupError
from training.networks.checkpoint import network_of
from training.networks.configs import Operation
from training.networks.gan import Generator
from training.networks.graph.runner import GraphRunner
from training.networks.header import Contents
from training.networks.vae import VAE


def pick_device(name: str) -> str:
    """cpu or cuda for the setting ``device``; auto = the GPU where torch finds one, else the CPU.

    Raises:
        StartupError: the setting is cuda, and torch finds no GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise StartupError("device is 'cuda', but torch finds no GPU; use auto or cpu")
    return name


class TorchBackend(Backend):
    """See ``Backend``.

    Args:
        contents: Of a checkpoint.
        device: Where the network runs, cpu or cuda.
        threads: CPU threads of one pass.
        graphs: Of a portable checkpoint: they run instead of the network.

    Raises:
        ValueError: a graph is not portable, or the tensors are not those of the network that the
            header describes.
    """

    engine: ClassVar[EngineName] = "torch"
    # Powers of two, and the sizes halfway between: padding wastes at most a third.
    sizes = (
        *(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768),
        *(1024, 1536, 2048, 3072, 4096),
    )

    def __init__(
        self, contents: Contents, device: str, threads: int, graphs: Mapping[Operation, bytes]
    ) -> None:
        self.device, self.threads = device, threads
        self._functions: Mapping[Operation, Callable[..., tuple[Tensor, ...]]]
        if graphs:
            self._functions = {name: GraphRunner(graph, device) for name, graph in graphs.items()}
            return
        network = network_of(contents).to(device)
        # In training mode batch norm would mix the rows of strangers' requests.
        assert not any(module.training for module in network.modules())
        self._functions = _functions(network)

    def start_thread(self) -> None:
        torch.set_num_threads(self.threads)
        torch.set_flush_denormal(True)

    @torch.inference_mode()
    def run(self, operation: Operation, batch: Floats, labels: Labels | None) -> tuple[Output, ...]:
        with device_errors(self.device):
            return self._pass(operation, (batch,) if labels is None else (batch, labels))

    def _pass(
        self, operation: Operation, arrays: tuple[NDArray[np.generic], ...]
    ) -> tuple[Output, ...]:
        inputs = (torch.from_numpy(array).to(self.device) for array in arrays)
        return tuple(output.cpu().numpy() for output in self._functions[operation](*inputs))


@contextmanager
def device_errors(device: str) -> Iterator[None]:
    """Around a pass: tells a GPU that is lost or short of memory from a pass that failed.

    After some errors (an access out of bounds, a GPU that fell off the bus) every call of CUDA
    fails until the process is started again.

    Args:
        device: Where the pass runs, cpu or cuda.

    Raises:
        MemoryError: the pass does not fit into the GPU's memory; one of fewer rows may.
        DeviceLostError: the GPU answers nothing any more.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        # Free the half-made results, which the traceback holds, before the allocator's cache.
        traceback.clear_frames(error.__traceback__)
        torch.cuda.empty_cache()
        raise MemoryError("the GPU's memory has no room for this pass") from None
    except RuntimeError as error:
        if device != "cpu":
            try:
                torch.cuda.synchronize()
            except RuntimeError:
                raise DeviceLostError("the GPU fails on every call") from error
        raise


def _functions(network: Generator | VAE) -> dict[Operation, Callable[..., tuple[Tensor, ...]]]:
    """A network's operations, each a function of tensors."""

    def generate(z: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        return (network.generate(z, labels),)

    if not isinstance(network, VAE):
        return {"generate": generate}
    return {
        "generate": generate,
        "encode": network.encode,
        "decode": lambda z: (network.decode(z),),
    }
