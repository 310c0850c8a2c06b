"""The seam between the service and the library that computes: one network, run by one library.

Each library has one file that implements ``Backend`` (``onnx_backend``, ``torch_backend``). Arrays
go in and out as numpy's, so nothing above knows which it is.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from training.networks.configs import Operation

EngineName = Literal["onnx", "torch"]
Floats = NDArray[np.float32]
Levels = NDArray[np.uint8]  # 0..255: (B, H, W), or (B, H, W, C) with C = 3 or 4
Labels = NDArray[np.int64]  # class indices (B,)
Output = NDArray[Any]  # of a pass: float32 or uint8


REFERENCE = 64


class DeviceLostError(Exception):
    """The device computes nothing more in this process; only a restart helps."""


class GraphError(Exception):
    """An imported graph does what none may, or other than its header says. Clients may read the
    message."""


class Backend(ABC):
    """A network, ready to run. Used by one thread at a time."""

    engine: ClassVar[EngineName]
    device: str  # "cpu" or "cuda"
    threads: int  # CPU threads of one pass
    # Batch sizes to probe. Few where a larger batch saves little, since each takes a while.
    sizes: tuple[int, ...]
    # Whether nothing in a pass waits for a device, a thread or a lock, so that it always ends.
    bounded_time: bool = False
    # Batch size whose rows are the right ones: the probe compares all others with it. Part of the
    # contract "same seed, same bytes": a number of the network alone, so that neither settings nor
    # the machine change an image. No pass is larger where the network is imported.
    reference: int = REFERENCE

    def start_thread(self) -> None:  # noqa: B027, not every library has some
        """Make thread-local settings; called in each thread before it runs the network."""

    @abstractmethod
    def run(self, operation: Operation, batch: Floats, labels: Labels | None) -> tuple[Output, ...]:
        """One pass.

        Args:
            operation: generate, encode or decode.
            batch: z (B, Z), or to encode: images (B, C, H, W) in [0, 1]. C order.
            labels: (B,), of a conditional network.

        Returns:
            Pixels (B, C, H, W), in [0, 1] or, of a portable graph, as 8-bit levels; or mu and
            logvar, each (B, Z), float32, of some imported models mu alone. The caller may change
            them.

        Raises:
            DeviceLostError: no pass can succeed any more.
            MemoryError: this pass does not fit into memory; one of fewer rows may.
        """


def finite_rows(batch: Floats) -> NDArray[np.bool_]:
    """(B, ...) -> (B,): whether all of a row is finite."""
    return np.asarray(np.isfinite(batch.reshape(len(batch), -1)).all(axis=1))


def to_levels(pixels: Output) -> tuple[Levels, NDArray[np.bool_] | None]:
    """Pixels as 8-bit images.

    Args:
        pixels: (B, C, H, W), in [0, 1] or levels already; overwritten.

    Returns:
        The images, rounded to 0..255; and which of them (B,) were finite, None = all.
    """
    count, channels, height, width = pixels.shape
    finite = None
    if pixels.dtype == np.uint8:
        levels: Levels = pixels
    else:
        with np.errstate(invalid="ignore"):
            total = np.add.reduce(pixels, axis=None)
        if not math.isfinite(total):
            finite = finite_rows(pixels)
            pixels[~finite] = 0  # no standard says what NaN is as an integer
        pixels *= 255
        levels = np.rint(pixels, out=pixels).astype(np.uint8)
    if channels == 1:
        return levels.reshape(count, height, width), finite
    return np.ascontiguousarray(levels.transpose(0, 2, 3, 1)), finite


def from_levels(images: Levels) -> Floats:
    """8-bit images as the pixels that a network reads: (B, C, H, W) in [0, 1], C order."""
    # Strides matter: torch takes a transposed (B, 1, H, W) for another memory format, and convolves
    # it with another algorithm at some sizes.
    if images.ndim == 3:
        planes = images.reshape(len(images), 1, *images.shape[1:])
    else:
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return planes.astype(np.float32) / np.float32(255)
