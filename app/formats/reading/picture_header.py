"""What an uploaded picture's first bytes say, and whether that is within bounds.

Read on the event loop, in some ten microseconds, before anything is decoded.
"""

from typing import Literal, NamedTuple

from app.errors import BodyTooLargeError, UnreadableImageError, shown
from app.formats.reading.chunks import FRAMES, PNG_SIGNATURE, PROGRESSIVE, SOS, jpeg_segments
from app.formats.reading.file_kinds import kind_of

Kind = Literal["PNG", "JPEG", "WEBP"]

# Bytes a pixel that Pillow holds of a decoded picture. Measured on 16 megapixels: PNG 1 or 4 as its
# modes say; JPEG 1, 3 or 4 at the reduced size; WebP 16, two canvases and two copies.
_PNG_BYTES = {0: 1, 2: 4, 3: 1, 4: 4, 6: 4}  # by colour type
_WEBP_BYTES = 16
_COEFFICIENTS = 128  # bytes of a JPEG's block of 8 x 8, where all scans have to be held
_FIXED = 16 * 2**20  # bytes besides: the file's copies, bands of pixels, tables
FREE_RATIO_BYTES = 16 * 2**20  # of pixels, which a file may unfold to however small it is
# Markers before the first scan. Cameras write about 20 segments; a depth map or a long XMP packet
# takes one for each 64 KB.
_HEAD_SEGMENTS = 512


class DecodingLimits(NamedTuple):
    """What an upload may be; the settings of the same names."""

    max_side: int = 20_000  # pixels
    max_pixels: int = 100_000_000  # of all pictures of one request
    max_frames: int = 100  # of an animation, of which the first is read
    max_scans: int = 32  # of a progressive JPEG
    max_chunks: int = 8192  # chunks of a PNG or WebP, segments of a JPEG
    max_metadata_bytes: int = 2**20  # inflated texts and profiles of a PNG
    max_expansion: int = 10_000  # bytes of pixels to bytes of the file
    job_bytes: int = 320 * 2**20  # of memory for one picture


class PictureHeader(NamedTuple):
    """What a picture's first bytes say."""

    kind: Kind
    width: int
    height: int
    bytes_per_pixel: int  # while it is decoded
    coefficients: int = 0  # bytes that a JPEG of several scans holds besides
    progressive: bool = False

    def reduction(self, enough: int) -> int:
        """By how much a JPEG is reduced while it is decoded: 1, 2, 4 or 8, as long as each side
        keeps ``enough`` pixels."""
        if self.kind != "JPEG":
            return 1
        possible = min(self.width, self.height) // max(1, enough)
        return next(factor for factor in (8, 4, 2, 1) if factor <= possible or factor == 1)

    def memory(self, enough: int) -> int:
        """Bytes of memory that decoding takes at most, with sides of ``enough`` pixels."""
        pixels = self.width * self.height // self.reduction(enough) ** 2
        return _FIXED + pixels * self.bytes_per_pixel + self.coefficients

    @property
    def megapixels(self) -> str:
        """The size for an error."""
        return f"{self.width} x {self.height} = {megapixels(self.width * self.height)}"


def megapixels(pixels: float) -> str:
    """Pixels as a person reads them: ``24.5 megapixels``."""
    if pixels < 1e5:
        return f"{pixels:.0f} pixels"
    return f"{pixels / 1e6:.0f} megapixels" if pixels >= 1e8 else f"{pixels / 1e6:.3g} megapixels"


def unreadable(data: bytes) -> UnreadableImageError:
    """For bytes that are not a whole picture."""
    if kind := kind_of(data):
        return UnreadableImageError(f"{kind}; send PNG, JPEG or WebP")
    begin = shown(data[:8].decode("latin-1"))
    return UnreadableImageError(
        f"the {len(data)} bytes, which begin with {begin}, are not a whole PNG, JPEG or WebP "
        "picture"
    )


def read_header(data: bytes) -> PictureHeader:
    """The header of a PNG, JPEG or WebP.

    Raises:
        UnreadableImageError: it is none of these.
    """
    if data.startswith(PNG_SIGNATURE) and data[12:16] == b"IHDR" and len(data) > 33:
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        deep = data[24] == 16 and data[25] == 0
        size = 4 if deep else _PNG_BYTES.get(data[25], 4)
        header = PictureHeader("PNG", width, height, size)
    elif data.startswith(b"\xff\xd8\xff"):
        header = _jpeg_header(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        header = _webp_header(data)
    else:
        raise unreadable(data)
    if header.width < 1 or header.height < 1:
        raise unreadable(data)
    return header


def _jpeg_header(data: bytes) -> PictureHeader:
    header = None
    components = 0
    for segment in jpeg_segments(data, _HEAD_SEGMENTS, head=True):
        content = segment.content
        if segment.marker in FRAMES and len(content) >= 6 and header is None:
            height, width = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
            components = content[5]
            sampling = [content[at] for at in range(7, min(len(content), 6 + 3 * components), 3)]
            progressive = segment.marker in PROGRESSIVE
            header = PictureHeader(
                *("JPEG", width, height, 1 if components == 1 else 4),
                _coefficients(width, height, sampling),
                progressive,
            )
        elif segment.marker == SOS and header is not None and content:
            if not header.progressive and content[0] >= components:
                return header._replace(coefficients=0)  # one scan has all: read row by row
            return header
    raise unreadable(data)


def _coefficients(width: int, height: int, sampling: list[int]) -> int:
    """Bytes of all coefficients of a JPEG.

    Args:
        width, height: Pixels.
        sampling: Of each component, the horizontal factor in the upper four bits and the vertical
            one in the lower.
    """
    factors = [(max(1, pair >> 4), max(1, pair & 15)) for pair in sampling] or [(1, 1)]
    most_h, most_v = max(h for h, _ in factors), max(v for _, v in factors)
    across, down = -(-width // (8 * most_h)), -(-height // (8 * most_v))
    return sum(across * h * down * v for h, v in factors) * _COEFFICIENTS


def _webp_header(data: bytes) -> PictureHeader:
    kind = data[12:16]
    if kind == b"VP8X":  # the canvas
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    else:
        raise unreadable(data)
    return PictureHeader("WEBP", width, height, _WEBP_BYTES)


def check_header(header: PictureHeader, size: int, limits: DecodingLimits, enough: int) -> None:
    """Refuse what takes too much to decode, before anything is decoded.

    Args:
        header: Of the picture.
        size: Bytes of its file.
        limits: What is allowed.
        enough: As in ``PictureHeader.memory``.

    Raises:
        BodyTooLargeError: the message has the limit, in pixels or megapixels.
    """
    pixels = header.width * header.height
    if pixels > limits.max_pixels:
        raise too_many_pixels(f"the picture has {header.megapixels}", limits.max_pixels)
    if max(header.width, header.height) > limits.max_side:
        raise BodyTooLargeError(
            f"the picture has {header.width} x {header.height} pixels; a side may have "
            f"{limits.max_side}: send it smaller"
        )
    unfolded = pixels * min(4, header.bytes_per_pixel)
    if unfolded > max(FREE_RATIO_BYTES, limits.max_expansion * size):
        raise BodyTooLargeError(
            f"the picture has {header.megapixels} in {size} bytes; a file may unfold to "
            f"{limits.max_expansion} times its size, or to {FREE_RATIO_BYTES >> 20} MiB: send it "
            "smaller"
        )
    memory = header.memory(enough)
    if memory > limits.job_bytes:
        fitting = pixels * max(0, limits.job_bytes - _FIXED) / (memory - _FIXED)
        coding = f"progressive {header.kind}" if header.coefficients else header.kind
        raise BodyTooLargeError(
            f"the picture has {header.megapixels}; the memory for one picture, "
            f"{limits.job_bytes >> 20} MiB, holds {megapixels(fitting)} of such a "
            f"{coding}: send it smaller"
        )


def too_many_pixels(what: str, allowed: int) -> BodyTooLargeError:
    """More than ``max_pixels``; ``what`` says how many there are."""
    return BodyTooLargeError(f"{what}; at most {megapixels(allowed)} are read: send it smaller")
