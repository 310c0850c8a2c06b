"""Images to an animated PNG or WebP."""

from collections.abc import Sequence
from io import BytesIO

from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from app.formats.media_types import WEBP
from app.formats.pixels import Image, enlarged


def to_animation(
    images: Sequence[Image], media: str, scale: int, frame_ms: int, xmp: bytes = b""
) -> bytes:
    """An animated PNG or a lossless animated WebP that repeats for ever.

    Args:
        images: The frames, all of one shape.
        media: ``image/png`` or ``image/webp``.
        scale: Each pixel is drawn this many times as wide and high.
        frame_ms: Milliseconds that each frame is shown.
        xmp: An XMP packet to embed; empty = none.
    """
    first, *others = (PillowImage.fromarray(enlarged(image, scale)) for image in images)
    frames = {"save_all": True, "append_images": others, "duration": frame_ms, "loop": 0}
    out = BytesIO()
    if media == WEBP:
        first.save(out, "WEBP", lossless=True, exact=True, method=0, xmp=xmp, **frames)
    else:
        chunks = PngInfo()
        if xmp:
            chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
        first.save(out, "PNG", compress_level=1, pnginfo=chunks, **frames)
    return out.getvalue()
