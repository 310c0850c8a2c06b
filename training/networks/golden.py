"""Golden inputs of each operation, always the same, and the digest of what comes out.

A checkpoint's header holds the digests of its portable graphs. A machine on which the same bytes
come out gives the published images for every seed.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.networks.configs import Config, Operation
from training.networks.latents import normals
from training.networks.noise import latents_of_seeds

ROWS = 64  # seeds 0 to 63


def golden_inputs(
    config: Config, operation: Operation, count: int = ROWS, first: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """The latents of the seeds ``first``, ... with labels in turn; to encode: images of noise.

    Returns:
        z (B, Z), or images (B, C, H, W) in [0, 1]; and labels (B,) where the network takes some.
    """
    numbers = range(first, first + count)
    labels = np.array(numbers) % config.num_classes if config.num_classes else None
    if operation == "encode":
        places = np.array(numbers, dtype=np.uint64)
        noise = normals(places, int(np.prod(config.image_shape))) * 64 + 128
        levels = noise.clip(0, 255).astype(np.uint8).astype(np.float32)
        return (levels / np.float32(255)).reshape(count, *config.image_shape), labels
    return latents_of_seeds(config, numbers), labels


def output_digest(outputs: Sequence[NDArray[Any]]) -> str:
    """SHA-256 of an operation's outputs, 64 hex digits."""
    sha = hashlib.sha256()
    for output in outputs:
        sha.update(output.astype(output.dtype.newbyteorder("<"), copy=False).tobytes())
    return sha.hexdigest()
