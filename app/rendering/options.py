"""How images are to be returned: format, size, layout and metadata."""

from typing import NamedTuple

from app.errors import InvalidParameterError
from app.formats.media_types import JSON, NPY, PNG, WEBP, ZIP
from app.formats.provenance import MetadataLevel
from app.formats.sheets import Layout, rows_and_columns
from app.formats.webp import MAX_WEBP_SIDE

ANIMATION: Layout = "animation"
FRAME_MS = 100
OFFERS = (PNG, JSON, NPY, ZIP, WEBP)  # best first, where Accept likes several alike


class Rendering(NamedTuple):
    """How images are to be returned."""

    media: str = PNG  # one of OFFERS: PNG and WebP hold one sheet, the others the single images
    scale: int = 1  # each pixel is drawn this many times as wide and high; not in npy
    layout: Layout = "grid"
    metadata: MetadataLevel = "full"
    frame_ms: int = FRAME_MS  # of an animation


AS_PNG = Rendering()


def check_size(
    rendering: Rendering, shape: tuple[int, int, int], count: int, columns: int | None = None
) -> None:
    """Refuse a picture that its format cannot hold.

    Args:
        rendering: As requested.
        shape: (C, H, W) of one image.
        count: Images in the picture.
        columns: Of a grid; None = as many as make it square.

    Raises:
        InvalidParameterError: a WebP with too long a side.
    """
    if rendering.media != WEBP:
        return
    rows, columns = rows_and_columns(count, rendering.layout, columns)
    side = max(rows * shape[1], columns * shape[2]) * rendering.scale
    if side > MAX_WEBP_SIDE:
        raise InvalidParameterError(
            f"the picture would have {side} pixels on a side; WebP holds {MAX_WEBP_SIDE}: ask for "
            "fewer images, a smaller scale, layout=grid or format=png",
            errors=[{"pointer": "?format", "detail": f"webp: at most {MAX_WEBP_SIDE} pixels"}],
        )
