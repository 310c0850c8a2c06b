"""Pictures like no other, as files."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image as PillowImage


def file_of(picture: PillowImage.Image, format: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def noise(seed: int, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> PillowImage.Image:
    """A picture like no other."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return PillowImage.fromarray(
        np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode
    )
