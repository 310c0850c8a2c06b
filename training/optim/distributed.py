"""Several processes that train as one: start them, join them, average over them.

Plain ``torch.distributed``: gloo between CPUs, NCCL between GPUs. Lightning Fabric was tried and
left: its DDP wrapper averages gradients, but batch statistics and R1 still need the layers below,
and with them averaging the gradients is one more reduction.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.networks.gan import MinibatchStddev

# While rank 0 measures and draws, the others wait for it in their next reduction.
TIMEOUT = timedelta(minutes=30)


def is_worker() -> bool:
    """Whether a launcher (``launch`` below, torchrun) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(device: torch.device) -> tuple[int, int]:
    """Join the other processes that the environment names; returns (rank, number of processes).

    (0, 1) if it names none. Each process of a machine uses the GPU of its local rank.
    """
    if not is_worker():
        return 0, 1
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                                timeout=TIMEOUT)  # fmt: skip
    return dist.get_rank(), dist.get_world_size()


def leave() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def launch(processes: int, argv: Sequence[str]) -> int:
    """Run ``python -m training ARGV`` in several processes of this machine; the exit status.

    The first failure ends the others. Ctrl-C and SIGTERM go to rank 0, which stops with all others.
    """
    # This process hosts the rendezvous store, on a port that the system chooses.
    store = dist.TCPStore(  # type: ignore[attr-defined]  # public, but not in torch's __all__
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )
    common = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the master's port is served already
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    command = [sys.executable, "-m", "training", *argv]
    workers = [
        subprocess.Popen(  # noqa: S603
            command,
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            start_new_session=True,  # a terminal's Ctrl-C reaches this process only
        )
        for rank in range(processes)
    ]

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if workers[0].poll() is None:
            workers[0].send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while True:
            found = [worker.poll() for worker in workers]
            failed = [status for status in found if status]
            if failed or None not in found:
                break
            time.sleep(0.1)
        if failed:  # give them a moment to end by themselves: all stop together after a Ctrl-C
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline and any(w.poll() is None for w in workers):
                time.sleep(0.05)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    # The first failure counts: later ones are processes that lost their peer.
    return next(iter(failed), 0)


class _AllSum(torch.autograd.Function):
    """Sum over the processes; its gradient, to any order, is the sum of theirs."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Any:
        return _AllSum.apply(gradient)  # type: ignore[no-untyped-call]


def all_mean(x: Tensor) -> Tensor:
    """Mean of a tensor over the processes; differentiable twice."""
    total: Tensor = _AllSum.apply(x)  # type: ignore[no-untyped-call]
    return total / dist.get_world_size()


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    value = torch.tensor(int(flag))
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return bool(value)


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over the processes, in one reduction."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, mean in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(mean.view(gradient.shape))


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics in training are those of all processes' rows together.

    In eval mode it is ``nn.BatchNorm2d``. torch's SyncBatchNorm refuses CPUs. Every process must
    have the same number of rows.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()  # (B, C, H, W)
        mean = all_mean(values.mean(dim=(0, 2, 3)))  # (C,)
        centred = values - mean[:, None, None]
        variance = all_mean(centred.square().mean(dim=(0, 2, 3)))  # (C,)
        count = values[:, 0].numel() * dist.get_world_size()
        self._move_averages(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _move_averages(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1


class GlobalMinibatchStddev(MinibatchStddev):
    """The discriminator's minibatch standard deviation, over all processes' rows."""

    def batch_mean(self, x: Tensor) -> Tensor:
        return all_mean(super().batch_mean(x))


def use_global_statistics(network: nn.Module) -> None:
    """Give the layers that mix a batch's rows their forms over all processes, in place.

    Names, parameters and buffers do not change, so a state fits one process and several.
    """
    for module in network.modules():
        # Only the class changes: same attributes, another forward.
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm2d
        elif type(module) is MinibatchStddev:
            module.__class__ = GlobalMinibatchStddev
