"""A moving average of a network's weights; the average is published, not the last step."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Network = TypeVar("Network", bound=nn.Module)


class Ema(Generic[Network]):
    """Exponential moving average of a network's parameters and of its float buffers.

    Batch-norm averages are averaged alike, on purpose: the running statistics of the last step
    belong to the last step's weights, not to the averaged ones. Integer buffers are copied.

    Args:
        network: The network being trained.
        halflife_images: Images after which a step's weight has halved; 0 = no averaging. Early
            on the half-life is at most a twentieth of the images seen, so that the random
            initialisation is forgotten (Karras et al. 2022, arXiv:2206.00364, reference code's
            warm-up).
    """

    WARMUP = 0.05

    def __init__(self, network: Network, halflife_images: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.halflife_images = halflife_images

    @torch.no_grad()
    def update(self, source: Network, batch_images: int, images_seen: int) -> None:
        """Move the average towards ``source`` after a step on ``batch_images`` images.

        Raises:
            ValueError: the networks' tensors differ in name.
        """
        halflife = min(self.halflife_images, images_seen * self.WARMUP)
        decay = 0.5 ** (batch_images / halflife) if halflife > 0 else 0.0
        averaged, current = self.network.state_dict(), source.state_dict()
        if averaged.keys() != current.keys():
            raise ValueError(f"tensors differ: {sorted(averaged.keys() ^ current.keys())}")
        floats = [name for name, tensor in averaged.items() if tensor.is_floating_point()]
        # One call for all: on a GPU, one kernel in place of one a tensor.
        lerp = get_ema_multi_avg_fn(decay)
        lerp([averaged[name] for name in floats], [current[name] for name in floats], 0)
        for name in averaged.keys() - floats:
            averaged[name].copy_(current[name])
