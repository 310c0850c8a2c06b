"""An untrusted PNG, JPEG or WebP to pixels, within bounds.

What a decoder could be led to unfold besides the pixels is taken out of the file first: of a PNG's
and a JPEG's metadata the orientation alone is left. The rest is Pillow's, in the codec's processes
(``app.codec``) where it could take long.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image as PillowImage

from app.errors import BodyTooLargeError, UnreadableImageError
from app.formats.reading.chunks import (
    APP0,
    APP1,
    APP14,
    COM,
    EOI,
    PNG_SIGNATURE,
    SOI,
    SOS,
    jpeg_segments,
    png_chunks,
    webp_chunks,
)
from app.formats.reading.picture_header import DecodingLimits, PictureHeader, unreadable

# Pillow's own limits are others; ours are checked before it sees a picture.
PillowImage.MAX_IMAGE_PIXELS = None

_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112  # its tag
_MAX_ENTRIES = 500  # of EXIF's first directory; cameras write about 15
_BAND_BYTES = 4 * 2**20  # of pixels that are converted and reduced at a time
_TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}


class DecodedPicture(NamedTuple):
    """A picture as it was drawn, perhaps reduced."""

    # RGB; RGBa (colours multiplied by their opacity); or RGBA where that was asked for. Not turned.
    picture: PillowImage.Image
    sixteen_bits: bool  # a grey level of 16 bits, scaled to 8
    turn: PillowImage.Transpose | None  # what makes it upright; None = it is


@contextmanager
def opened(
    data: bytes, header: PictureHeader, limits: DecodingLimits
) -> Iterator[tuple[PillowImage.Image, PillowImage.Transpose | None]]:
    """A checked picture, and what makes it upright; whatever makes Pillow decode it belongs into
    this context.

    Args:
        data: The file.
        header: Its header, which ``check_header`` passed.
        limits: What it may be.

    Raises:
        UnreadableImageError: it is not whole, or of another kind than its header says.
        BodyTooLargeError: too many frames or scans.
    """
    try:
        cleaned, turn = _cleaned(data, header, limits)
        with PillowImage.open(BytesIO(cleaned), formats=(header.kind,)) as picture:
            if picture.size != (header.width, header.height):
                raise unreadable(data)
            yield picture, _TURNS.get(turn)
    except (BodyTooLargeError, UnreadableImageError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many classes for bad files, OSError but one
        raise unreadable(data) from error


class Needed(NamedTuple):
    """How many pixels a picture has to keep when it is reduced."""

    jpeg_side: int  # of each side, of a JPEG that is decoded at a fraction of its size
    side: int  # of the longer side, of any picture
    shorter: bool = False  # ``side`` is of the shorter side instead
    at_most: bool = False  # more than ``side`` are of no use: reduce to no more than that


def decode(
    data: bytes,
    header: PictureHeader,
    limits: DecodingLimits,
    needed: Needed,
    alpha: bool = False,
) -> DecodedPicture:
    """A picture's pixels, reduced where it has more than are needed.

    A JPEG is decoded at a fraction of its size. Every picture that is still large is averaged over
    squares, in bands: only a band is held more than once.

    Args:
        data, header, limits: As in ``opened``.
        needed: What it has to keep.
        alpha: Return RGBA, whatever it is.

    Raises:
        UnreadableImageError, BodyTooLargeError: as ``opened``.
    """
    with opened(data, header, limits) as (picture, turn):
        picture.draft(None, (needed.jpeg_side, needed.jpeg_side))
        picture.load()
        sixteen_bits = picture.mode.startswith("I")
        side = min(picture.size) if needed.shorter else max(picture.size)
        factor = -(-side // needed.side) if needed.at_most else max(1, side // needed.side)
        small = _reduced(picture, factor, alpha)
    return DecodedPicture(small, sixteen_bits, turn)


def _reduced(picture: PillowImage.Image, factor: int, alpha: bool) -> PillowImage.Image:
    """The picture in 8 bits a channel, each square of ``factor`` pixels as their mean."""
    width, height = picture.size
    rows = height
    if factor > 1:
        rows = factor * max(1, _BAND_BYTES // (4 * width * factor))
    bands = []
    for top in range(0, height, rows):
        band = picture if rows >= height else picture.crop((0, top, width, min(height, top + rows)))
        eight = _as_eight_bits(band, alpha)
        bands.append(eight.reduce(factor) if factor > 1 else eight)
    if len(bands) == 1:
        return bands[0]
    result = PillowImage.new(bands[0].mode, (bands[0].width, sum(band.height for band in bands)))
    top = 0
    for band in bands:
        result.paste(band, (0, top))
        top += band.height
    return result


def _as_eight_bits(picture: PillowImage.Image, alpha: bool) -> PillowImage.Image:
    """Any picture as RGB, as RGBa if anything of it can be transparent, or as RGBA (``alpha``)."""
    clear = picture.info.get("transparency")
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).clip(0, 65535).astype(np.uint32)
        grey = ((levels + 128) // 257).astype(np.uint8)
        if not isinstance(clear, int):
            return PillowImage.fromarray(grey).convert("RGBA" if alpha else "RGB")
        opaque = np.uint8(255) * (levels != clear).astype(np.uint8)
        black = PillowImage.fromarray(grey & opaque)
        return PillowImage.merge(
            "RGBA" if alpha else "RGBa", [black] * 3 + [PillowImage.fromarray(opaque)]
        )
    if picture.mode in ("LA", "PA", "RGBA") or clear is not None:
        straight = picture.convert("RGBA")
        return straight if alpha else straight.convert("RGBa")
    return picture.convert("RGBA" if alpha else "RGB")


def _cleaned(data: bytes, header: PictureHeader, limits: DecodingLimits) -> tuple[bytes, int]:
    """The file without what is not read, and its orientation by EXIF; its frames, scans and chunks
    are counted."""
    if header.kind == "PNG":
        return _cleaned_png(data, limits)
    if header.kind == "JPEG":
        return _cleaned_jpeg(data, limits)
    turn, frames = 1, 0
    for kind, content in webp_chunks(data, limits.max_chunks):
        frames += kind == b"ANMF"
        if kind == b"EXIF":
            turn = orientation(content)
    _check_frames(frames, limits)
    return data, turn


def _cleaned_png(data: bytes, limits: DecodingLimits) -> tuple[bytes, int]:
    kept, turn, frames, left = [PNG_SIGNATURE], 1, 0, limits.max_metadata_bytes
    for kind, content, whole in png_chunks(data, limits.max_chunks):
        if kind in _PIXEL_CHUNKS:
            kept.append(whole)
        elif kind == b"eXIf":
            turn = orientation(content)
        elif kind == b"fcTL":
            frames += 1
        elif kind in (b"zTXt", b"iCCP", b"iTXt"):
            left -= _inflated_size(kind, content, left)
            if left < 0:
                raise UnreadableImageError(
                    f"the compressed texts and profiles of the PNG inflate to over "
                    f"{limits.max_metadata_bytes} bytes: save it without metadata"
                )
    _check_frames(frames, limits)
    return b"".join(kept), turn


def _inflated_size(kind: bytes, content: bytes, most: int) -> int:
    """Bytes of a compressed text or profile of a PNG, or ``most`` + 1 if there are more.

    They are not used. But a file that hides hundreds of megabytes there was made to do harm.
    """
    _, _, rest = content.partition(b"\0")
    if kind == b"iTXt":
        if rest[:1] != b"\1":
            return 0
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # language, translated keyword
    else:
        rest = rest[1:]
    try:
        return len(zlib.decompressobj().decompress(rest, most + 1))
    except zlib.error:
        return 0


def _cleaned_jpeg(data: bytes, limits: DecodingLimits) -> tuple[bytes, int]:
    kept: list[bytes | memoryview] = [bytes((0xFF, SOI))]
    turn, scans = 1, 0
    for marker, content, whole in jpeg_segments(data, limits.max_chunks):
        if marker == SOS:
            scans += 1
            if scans > limits.max_scans:
                raise BodyTooLargeError(
                    f"the JPEG has over {limits.max_scans} scans, which is the most that are read: "
                    "save it anew, or as baseline JPEG"
                )
        elif marker == APP1 and content[: len(_EXIF)] == _EXIF:
            turn = orientation(bytes(content))
        if marker == COM or (APP0 < marker <= APP0 + 15 and marker != APP14):
            continue  # profiles, texts, previews
        kept.append(whole)
    kept.append(bytes((0xFF, EOI)))
    return b"".join(kept), turn


def orientation(exif: bytes) -> int:
    """The orientation that EXIF states in its first directory, 1 to 8; 1 if it states none.

    Source: TIFF 6.0, section 2.
    """
    tiff = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack(f"{order}I", tiff[4:8])
    entries = tiff[start : start + 2 + 12 * _MAX_ENTRIES]
    count = struct.unpack(f"{order}H", entries[:2])[0] if len(entries) >= 2 else 0
    for at in range(2, min(2 + 12 * count, len(entries) - 11), 12):
        tag, _, _, value = struct.unpack(f"{order}HHIH", entries[at : at + 10])
        if tag == _ORIENTATION:
            return int(value) if value in _TURNS else 1
    return 1


def _check_frames(frames: int, limits: DecodingLimits) -> None:
    if frames > limits.max_frames:
        raise BodyTooLargeError(
            f"the animation has {frames} frames; at most {limits.max_frames} are allowed, of which "
            "the first is read: send that alone"
        )
