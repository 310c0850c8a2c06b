"""What a run computes on: device, number format, compiler, and its share of several processes.

Several processes split each global batch. Each draws the noise of the whole batch and uses its own
rows; batch statistics and gradients are averaged over all of them, so that the run equals that of a
single process up to rounding (``training.optim.distributed``).
"""

import importlib.util
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from training.optim import distributed

CPU = torch.device("cpu")
PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# First scale of fp16's loss; it doubles every 2,000 steps. torch's default of 65,536 overflows with
# a loss of some hundred nats, and a VAE would skip its first steps.
FIRST_SCALE = 1024.0

Network = TypeVar("Network", bound=nn.Module)


class HardwareError(Exception):
    """The device or compiler is not available; the message says what to do."""


def _channels_last(_module: nn.Module, _inputs: Any, maps: Tensor) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last) if maps.dim() == 4 else maps


@dataclass(frozen=True)
class Hardware:
    """Where one process computes, and how."""

    device: torch.device = CPU
    compile_networks: bool = False  # by torch.compile
    rank: int = 0  # of this process; 0 alone writes files
    processes: int = 1  # that share the run

    def place(self, network: Network) -> Network:
        """The network on the device, with global batch statistics where processes share a batch.

        Weights and maps of convolutions are in channels-last layout, which is faster on CPUs with
        AVX-512 and on tensor cores.
        """
        for module in network.modules():
            if isinstance(module, nn.Unflatten):  # where rows become maps
                module.register_forward_hook(_channels_last)
        if self.processes > 1:
            distributed.use_global_statistics(network)
        network.to(self.device)
        # Module.to has no overload for the layout alone in torch's annotations.
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def compiled(self, network: Callable[..., Any]) -> Callable[..., Any]:
        """The network, or a method of one, compiled if requested."""
        return torch.compile(network) if self.compile_networks else network

    def rows(self, batch: int) -> slice:
        """This process's rows of a global batch.

        Raises:
            ValueError: the batch does not split evenly.
        """
        if batch % self.processes:
            raise ValueError(
                f"a batch of {batch} images does not split over {self.processes} processes; "
                "choose a --batch-size that is a multiple of their number"
            )
        share = batch // self.processes
        return slice(self.rank * share, (self.rank + 1) * share)

    def autocast(self, precision: str, enabled: bool = True) -> torch.autocast:
        """Convolutions and matrix products in ``precision``; the rest as torch's lists say."""
        return torch.autocast(
            self.device.type,
            PRECISIONS[precision] if precision != "32" else None,
            enabled=enabled and precision != "32",
        )

    def seed_dropout(self, seed: int, step: int) -> None:
        """Give each of several processes dropout masks of its own, the same ones on resuming.

        A single process draws them from torch's global generator, which its state carries.
        """
        if self.processes > 1:
            torch.manual_seed((seed << 31) + step * self.processes + self.rank)

    def average(self, value: Tensor) -> Tensor:
        """Mean of a tensor over the processes."""
        return distributed.all_mean(value) if self.processes > 1 else value

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Values of the global batch from those of each process's rows."""
        stacked = self.average(torch.stack([value.detach().float() for value in values.values()]))
        return dict(zip(values, stacked.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; the same result in all."""
        return distributed.any_of(flag) if self.processes > 1 else flag


class Update:
    """An optimiser's step on a loss: gradients, averaged over the processes; fp16's loss scaling.

    fp16 loses small gradients, so its loss is scaled up before the backward pass, and the step is
    skipped if that overflows (Micikevicius et al. 2018, arXiv:1710.03740). bf16 has the range of
    fp32 and needs none.

    Args:
        optimizer: Of all parameters that the loss trains.
        hardware: Of the run.
        precision: As of the run.
        limit: Largest norm of the gradient, which is clipped to it; 0 = off.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        hardware: Hardware,
        precision: str,
        limit: float = 0.0,
    ) -> None:
        self.optimizer = optimizer
        self.hardware = hardware
        self.limit = limit
        self.scaler = torch.amp.GradScaler(
            hardware.device.type, FIRST_SCALE, enabled=precision == "fp16"
        )

    def learning_rate(self, value: float) -> None:
        self.optimizer.param_groups[0]["lr"] = value

    def minimise(self, loss: Tensor) -> None:
        """Gradients of ``loss``, the mean over this process's rows, then one step."""
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if self.hardware.processes > 1:
            distributed.average_gradients(self._parameters())
        if self.limit:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._parameters(), self.limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _parameters(self) -> Iterable[Tensor]:
        return (p for group in self.optimizer.param_groups for p in group["params"])


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA if there is a GPU, else the CPU.

    Raises:
        HardwareError: the device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise HardwareError("device is cuda, but torch finds no GPU; use --device cpu or auto")
    return torch.device(name)


def pick_hardware(device_name: str, compile_networks: bool = False) -> Hardware:
    """The hardware of this process: the only one, or one of several that a launcher started.

    Raises:
        HardwareError: the device or a compiler is missing.
    """
    device = pick_device(device_name)
    if compile_networks:
        _check_compiler(device)
    rank, processes = distributed.join(device)
    if processes > 1 and device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    return Hardware(device, compile_networks, rank, processes)


def check_devices(device_name: str, count: int) -> None:
    """Refuse more processes than this machine has GPUs, if they compute on GPUs.

    Raises:
        HardwareError: there are fewer.
    """
    if pick_device(device_name).type == "cuda" and count > torch.cuda.device_count():
        raise HardwareError(
            f"--devices {count}, but torch finds {torch.cuda.device_count()} GPUs; ask for no "
            "more, or use --device cpu"
        )


def _check_compiler(device: torch.device) -> None:
    """torch.compile generates C++ for a CPU and Triton for a GPU.

    Raises:
        HardwareError: what it needs is not installed.
    """
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise HardwareError(
            "--compile needs a C++ compiler on a CPU, and there is no g++ or clang++ on the PATH; "
            "install one (apt-get install g++), or leave --compile out"
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise HardwareError(
            "--compile needs the package triton on a GPU: pip install triton, or leave --compile "
            "out"
        )
