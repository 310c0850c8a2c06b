"""Images to the bytes of picture files, as one value that can be sent to another process."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.formats.animation import to_animation
from app.formats.media_types import PNG, WEBP
from app.formats.pixels import Image
from app.formats.png import to_png
from app.formats.sheets import Layout, rows_and_columns, sheet
from app.formats.webp import to_webp

# Bytes of memory a pixel of the picture. A lossless WebP takes 22, measured on 12.8 megapixels. The
# frames of an animated PNG are held twice. A PNG takes its pixels, and as much again where they
# cannot be compressed.
_WEBP_BYTES = 22
_FIXED = 16 * 2**20
# What takes up to about 2 ms on one slow core is encoded where it is. A PNG takes 2 ns a pixel, on
# the event loop; a WebP or an animation 30 ns a pixel, and 0.1 ms a frame, in a thread.
_CHEAP_PNG, _CHEAP_OTHER, _FRAME_PIXELS = 2**20, 2**17, 2**12


@dataclass(frozen=True)
class PictureEncoding:
    """Pictures to be written.

    Args:
        media: ``image/png`` or ``image/webp``.
        images: All of one shape, (H, W) or (H, W, 3).
        packets: What goes into the files besides: whole chunks of a PNG, or an XMP packet of a
            WebP or an animation. One = all images are in one file; several = one for each image.
        scale: Each pixel is drawn this many times as wide and high.
        layout: How the images of one file are arranged.
        columns: Of a grid; None = as many as make it square.
        frame_ms: Milliseconds that each frame of an animation is shown.
    """

    media: str
    images: Sequence[Image]
    packets: tuple[bytes, ...]
    scale: int = 1
    layout: Layout = "grid"
    columns: int | None = None
    frame_ms: int = 0

    @property
    def animated(self) -> bool:
        """Whether the file has several frames."""
        return self.layout == "animation" and len(self.images) > 1

    @property
    def pixels(self) -> int:
        """Of all files and frames together."""
        rows, columns = len(self.images), 1
        if len(self.packets) == 1 and not self.animated:  # one sheet
            rows, columns = rows_and_columns(len(self.images), self.layout, self.columns)
        height, width = self.images[0].shape[:2]
        return rows * columns * int(height * width) * self.scale**2

    @property
    def memory(self) -> int:
        """Bytes of memory that it takes at most."""
        if self.media == WEBP:
            each = _WEBP_BYTES
        else:
            channels = self.images[0].size // int(np.prod(self.images[0].shape[:2]))
            each = 8 * channels if self.animated else 2 * channels + 1
        return _FIXED + each * self.pixels

    @property
    def in_line(self) -> bool:
        """Whether it is quick enough for the event loop."""
        return self.media == PNG and not self.animated and self.pixels <= _CHEAP_PNG

    @property
    def cheap(self) -> bool:
        """Whether it is quick enough for a thread of the process that serves."""
        frames = len(self.images) if self.animated else 0
        return self.in_line or self.pixels + frames * _FRAME_PIXELS <= _CHEAP_OTHER

    def files(self) -> list[bytes]:
        """The file, or the file of each image."""
        if len(self.packets) > 1:
            pairs = zip(self.images, self.packets, strict=True)
            return [to_png(image, self.scale, packet) for image, packet in pairs]
        (packet,) = self.packets
        if self.animated:
            return [to_animation(self.images, self.media, self.scale, self.frame_ms, packet)]
        whole = sheet(self.images, self.layout, self.columns)
        return [(to_webp if self.media == WEBP else to_png)(whole, self.scale, packet)]
