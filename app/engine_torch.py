"""Networks on torch: the reference, and the engine of GPUs. Only this module here imports it."""

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.errors import StartupError
from app.runner import EngineName, Floats, Levels, Runner
from training.networks.checkpoint import network_of
from training.networks.configs import Operation
from training.networks.header import Contents
from training.networks.vae import VAE


def pick_device(name: str) -> str:
    """cpu or cuda; ``auto`` is the GPU where torch finds one, else the CPU.

    Raises:
        StartupError: cuda is asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise StartupError("device is 'cuda', but torch finds no GPU; use auto or cpu")
    return name


class TorchRunner(Runner):
    """See ``Runner``.

    Args:
        contents: A checkpoint that has been read.
        device: Where the network runs, cpu or cuda.
        threads: CPU threads of one pass.

    Raises:
        ValueError: the tensors are not those of the network that the header describes.
    """

    engine: ClassVar[EngineName] = "torch"
    # Powers of two and the halves between them: padding wastes at most a third.
    sizes: ClassVar[tuple[int, ...]] = (
        *(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768),
        *(1024, 1536, 2048, 3072, 4096),
    )

    def __init__(self, contents: Contents, device: str, threads: int) -> None:
        self.device = device
        self._network = network_of(contents).to(device)
        self.threads = threads
        # In training mode batch norm would mix the rows of strangers' requests.
        assert not any(module.training for module in self._network.modules())

    def start_thread(self) -> None:
        torch.set_num_threads(self.threads)
        torch.set_flush_denormal(True)

    @torch.inference_mode()
    def run(
        self, operation: Operation, batch: Floats, labels: NDArray[np.int64] | None
    ) -> tuple[Floats, ...]:
        return tuple(output.cpu().numpy() for output in self._pass(operation, batch, labels))

    @torch.inference_mode()
    def levels(
        self, operation: Operation, batch: Floats, labels: NDArray[np.int64] | None
    ) -> tuple[Levels, NDArray[np.bool_]]:
        if self.device == "cpu":
            return super().levels(operation, batch, labels)
        # On the device, for a quarter of the bytes then crosses the bus.
        (pixels,) = self._pass(operation, batch, labels)
        finite = pixels.flatten(1).isfinite().all(dim=1)
        levels = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        if levels.shape[-1] == 1:
            levels = levels[..., 0]
        return levels.cpu().numpy(), finite.cpu().numpy()

    def _pass(
        self, operation: Operation, batch: Floats, labels: NDArray[np.int64] | None
    ) -> tuple[Tensor, ...]:
        rows = torch.from_numpy(batch).to(self.device)
        if operation == "generate":
            classes = None if labels is None else torch.from_numpy(labels).to(self.device)
            return (self._network.generate(rows, classes),)
        assert isinstance(self._network, VAE)
        return (
            self._network.encode(rows) if operation == "encode" else (self._network.decode(rows),)
        )
