"""Networks on torch: the reference, and the engine of GPUs. Only this
module and ``cuda_graphs`` import it here."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.engines.backend import DeviceLostError, EngineName, Floats, Levels, Runner
from app.engines.cuda_graphs import Function, Recorder
from app.errors import StartupError
from training.networks.checkpoint import network_of
from training.networks.configs import Operation
from training.networks.gan import Generator
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
        network = network_of(contents).to(device)
        self.threads = threads
        # In training mode batch norm would mix the rows of strangers' requests.
        assert not any(module.training for module in network.modules())
        self._functions = _functions(network)
        self._recorder: Recorder | None = None
        if device != "cpu":
            self._recorder = Recorder(
                {
                    name: function if name == "encode" else _with_levels(function)
                    for name, function in self._functions.items()
                }
            )

    def start_thread(self) -> None:
        torch.set_num_threads(self.threads)
        torch.set_flush_denormal(True)

    @torch.inference_mode()
    def run(
        self, operation: Operation, batch: Floats, labels: NDArray[np.int64] | None
    ) -> tuple[Floats, ...]:
        with self._watched():
            outputs = self._pass(operation, batch, labels)
            return tuple(
                output.cpu().numpy() for output in outputs[: 2 if operation == "encode" else 1]
            )

    @torch.inference_mode()
    def levels(
        self, operation: Operation, batch: Floats, labels: NDArray[np.int64] | None
    ) -> tuple[Levels, NDArray[np.bool_] | None]:
        if self._recorder is None:
            return super().levels(operation, batch, labels)
        with self._watched():
            _, levels, finite = self._pass(operation, batch, labels)
            return levels.cpu().numpy(), finite.cpu().numpy()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Tell a GPU that is lost from one that has failed once.

        After some errors (an access out of bounds, a GPU that fell off the bus) each call of CUDA
        fails until the process is started anew.
        """
        try:
            yield
        except torch.OutOfMemoryError as error:
            # The half-made results first, which its traceback holds; then what is kept for passes
            # of other sizes. Fewer rows may fit.
            traceback.clear_frames(error.__traceback__)
            torch.cuda.empty_cache()
            raise MemoryError("the GPU's memory has no room for this pass") from None
        except RuntimeError as error:
            if self.device != "cpu":
                try:
                    torch.cuda.synchronize()
                except RuntimeError:
                    raise DeviceLostError("the GPU fails whatever it is asked for") from error
            raise

    def _pass(
        self, operation: Operation, batch: Floats, labels: NDArray[np.int64] | None
    ) -> tuple[Tensor, ...]:
        arrays = (batch,) if labels is None else (batch, labels)
        inputs = tuple(map(torch.from_numpy, arrays))
        if self._recorder:
            return self._recorder(operation, *inputs)
        return self._functions[operation](*inputs)


def _functions(network: Generator | VAE) -> dict[str, Function]:
    """What a network can do, each a function of tensors."""

    def generate(z: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        return (network.generate(z, labels),)

    if not isinstance(network, VAE):
        return {"generate": generate}
    return {
        "generate": generate,
        "encode": network.encode,
        "decode": lambda z: (network.decode(z),),
    }


def _with_levels(function: Function) -> Function:
    """Pixels (B, C, H, W), then what ``levels`` tells of them: made on the GPU, a quarter of the
    bytes cross the bus."""

    def extended(*inputs: Tensor) -> tuple[Tensor, ...]:
        (pixels,) = function(*inputs)
        finite = pixels.flatten(1).isfinite().all(dim=1)
        levels = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return pixels, levels[..., 0] if levels.shape[-1] == 1 else levels, finite

    return extended
