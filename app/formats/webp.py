"""Pixels to lossless WebP."""

from io import BytesIO

from PIL import Image as PillowImage

from app.formats.pixels import Image, enlarged

MAX_WEBP_SIDE = 16383  # pixels: the format has 14 bits for a side


def to_webp(image: Image, scale: int = 1, xmp: bytes = b"") -> bytes:
    """A lossless WebP.

    Args:
        image: (H, W), (H, W, 3), or with alpha (H, W, 4).
        scale: Each pixel is drawn this many times as wide and high; a side of the result has at
            most ``MAX_WEBP_SIDE`` pixels.
        xmp: An XMP packet to embed; empty = none.
    """
    out = BytesIO()
    # Method 0 is the fastest; grey becomes RGB, the only colour format of WebP besides RGBA. Exact
    # keeps the colours of clear pixels.
    picture = PillowImage.fromarray(enlarged(image, scale))
    colour = picture if picture.mode == "RGBA" else picture.convert("RGB")
    colour.save(out, "WEBP", lossless=True, exact=True, method=0, xmp=xmp)
    return out.getvalue()
