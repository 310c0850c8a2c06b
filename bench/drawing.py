"""A digit's strokes on paper, what blurs and shades them, and the files they become."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.float32]
Sheet = Callable[[Array, np.random.Generator], bytes]

WIDTH, HEIGHT = 600, 800
SIDE = 320  # pixels of a digit's 28
PAPER, INK = (232, 228, 220), (40, 40, 60)


def coverage(
    digit: Array,
    at: tuple[float, float] = (0.5, 0.5),
    side: int = SIDE,
    pen: float = 0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Array:
    """How much of each pixel of a sheet a digit's strokes cover, (H, W), with sharp edges.

    Args:
        at: Where its middle is, as shares of width and height.
        side: Of its 28 pixels, on the sheet.
        pen: Moves the strokes' edges: above 0 a thicker pen, below a thinner one; within -.4 to .4.
        size: Of the sheet: width, height.
    """
    small = Image.fromarray((digit * 255).astype(np.uint8))
    large = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    sharp = ((large - (0.5 - pen)) * max(1.0, side / 28 / 2) + 0.5).clip(0, 1)
    result = Image.new("F", size)
    result.paste(
        Image.fromarray(sharp),
        (int(at[0] * size[0] - side / 2), int(at[1] * size[1] - side / 2)),
    )
    return np.asarray(result)


def drawn(covered: Array, paper: Any = PAPER, ink: Any = INK) -> Array:
    """Ink on paper: (H, W, 3) of 0 to 255. Colours are (3,), or an image of their own."""
    share = covered[..., None]
    result: Array = (
        np.asarray(paper, np.float32) * (1 - share) + np.asarray(ink, np.float32) * share
    )
    return result


def image(pixels: NDArray[Any]) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def png(pixels: NDArray[Any] | Image.Image) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else image(pixels)
    file = BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def jpeg(pixels: NDArray[Any] | Image.Image, quality: int = 85) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else image(pixels)
    file = BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def grid(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Rows and columns of each pixel, -1 to 1."""
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    return rows.astype(np.float32), columns.astype(np.float32)


def smooth(random: np.random.Generator, cells: int, shape: tuple[int, int]) -> Array:
    """Smooth noise, -1 to 1, with about ``cells`` bumps a side."""
    coarse = random.uniform(-1, 1, (cells, cells)).astype(np.float32)
    wide = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(wide).clip(-1, 1)


def blurred(values: NDArray[np.floating[Any]], radius: float) -> Array:
    """A plane of 0 to 1, blurred."""
    levels = Image.fromarray((values * 255).clip(0, 255).astype(np.uint8))
    soft = np.asarray(levels.filter(ImageFilter.GaussianBlur(radius)), np.float32)
    return soft / np.float32(255)
