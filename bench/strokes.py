"""Digits whose strokes are no even lines: dots, dashes, outlines, reflections, cut paper.

Part of ``bench.sheets``.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from bench.drawing import (
    HEIGHT,
    PAPER,
    SIDE,
    WIDTH,
    Array,
    Sheet,
    blurred,
    coverage,
    drawn,
    grid,
    image,
    jpeg,
    smooth,
)

_FINE = 140  # pixels of a digit's 28 in which its middle line is sought


def _middle_line(digit: Array) -> Array:
    """Points (x, y) of a sheet along the middle of a digit's strokes, (N, 2).

    Source: Zhang & Suen 1984, "A fast parallel algorithm for thinning digital patterns", CACM 27.
    """
    mask = np.pad(coverage(digit, side=_FINE, size=(_FINE, _FINE)) > 0.5, 1)
    around = [(1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)]
    changed = True
    while changed:
        changed = False
        for first in (True, False):
            ring = [np.roll(mask, shift, (0, 1)) for shift in around]  # clockwise, from above
            up, _, right, _, down, _, left, _ = ring
            count = np.sum(ring, axis=0)
            turns = np.sum([~a & b for a, b in zip(ring, ring[1:] + ring[:1], strict=True)], axis=0)
            if first:
                outer = ~(up & right & down) & ~(right & down & left)
            else:
                outer = ~(up & right & left) & ~(up & down & left)
            gone = mask & (count >= 2) & (count <= 6) & (turns == 1) & outer
            mask &= ~gone
            changed |= bool(gone.any())
    rows, columns = np.nonzero(mask)
    scale, corner = SIDE / _FINE, ((WIDTH - SIDE) / 2, (HEIGHT - SIDE) / 2)
    return np.stack([columns - 0.5, rows - 0.5], axis=1).astype(np.float32) * scale + corner


def _spaced(points: Array, apart: float) -> list[tuple[float, float]]:
    """Points of a line, each the nearest to the one before that keeps its distance from all."""
    free = np.ones(len(points), np.bool_)
    last, result = points[0], []
    while free.any():
        last = points[np.argmin(np.where(free, np.hypot(*(points - last).T), np.inf))]
        result.append((float(last[0]), float(last[1])))
        free &= np.hypot(*(points - last).T) >= apart
    return result


def _share(picture: Image.Image) -> Array:
    return np.asarray(picture, np.float32) / np.float32(255)


def _dotted(size: float, apart: float, uneven: float = 0) -> Sheet:
    """As a book for children has digits to trace, or a hand dabs them.

    Args:
        size: Of a dot, pixels.
        apart: From middle to middle.
        uneven: Of both, the share by which they differ.
    """

    def made(digit: Array, random: np.random.Generator) -> bytes:
        covered = Image.new("L", (WIDTH * 2, HEIGHT * 2))
        pen = ImageDraw.Draw(covered)
        for point in _spaced(_middle_line(digit), apart):
            x, y = (2 * value + random.uniform(-1, 1) * uneven * apart for value in point)
            reach = size * (1 + random.uniform(-1, 1) * uneven)
            pen.ellipse([x - reach, y - reach, x + reach, y + reach], fill=255)
        return jpeg(drawn(_share(covered.reduce(2))))

    return made


def _dashed(digit: Array, _random: np.random.Generator) -> bytes:
    """Dashes of 26 pixels, 16 apart."""
    covered = Image.new("L", (WIDTH, HEIGHT))
    pen = ImageDraw.Draw(covered)
    for place, (x, y) in enumerate(_spaced(_middle_line(digit), 3)):
        if place % 14 < 5:
            pen.ellipse([x - 7, y - 7, x + 7, y + 7], fill=255)
    return jpeg(drawn(_share(covered)))


def _lamps(digit: Array, random: np.random.Generator) -> bytes:
    """A display of round lamps in rows, 20 pixels apart."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] % 20 - 9.5
    lamp = (np.hypot(rows, columns) < 7).astype(np.float32)
    cells = Image.fromarray(coverage(digit)).reduce(20)
    lit = (np.asarray(cells) > 0.5).repeat(20, 0).repeat(20, 1) * lamp
    display = drawn(lamp, (14, 14, 16), (30, 26, 26))
    pixels = drawn(np.maximum(lit, blurred(lit, 3)), display, (250, 70, 50))
    return jpeg(pixels + random.normal(0, 3, pixels.shape).astype(np.float32))


def _on_dots(digit: Array, _random: np.random.Generator) -> bytes:
    """Paper with a grid of grey dots, as notebooks have."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] % 30
    dots = ((rows < 4) & (columns < 4)).astype(np.float32)
    return jpeg(drawn(coverage(digit), drawn(dots, PAPER, (150, 150, 160))))


def _outlined(width: int, pen: float = 0.2) -> Sheet:
    """A hollow digit: its contour alone, of a line so wide."""

    def made(digit: Array, _random: np.random.Generator) -> bytes:
        whole = image(coverage(digit, pen=pen) * 255)
        outer = whole.filter(ImageFilter.MaxFilter(width // 2 * 2 + 1))
        inner = whole.filter(ImageFilter.MinFilter((width - 1) // 2 * 2 + 1))
        return jpeg(drawn(_share(outer) - _share(inner)))

    return made


def _reflected(added: bool) -> Sheet:
    """A lamp's reflection on the ink, of whose contrast a quarter is left in its middle.

    Args:
        added: Light is added until the camera's white; else all colours come nearer to white.
    """

    def made(digit: Array, random: np.random.Generator) -> bytes:
        covered = coverage(digit)
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        inked = np.argwhere(covered > 0.5)
        y, x = inked[random.integers(len(inked))]
        far = np.hypot(rows - y, (columns - x) * random.uniform(0.8, 1.25))
        lamp = 0.75 * np.exp(-((far / 70) ** 4))[..., None].astype(np.float32)
        pixels = drawn(covered)
        return jpeg(pixels + 195 * lamp if added else pixels + (255 - pixels) * lamp)

    return made


def _cut_out(digit: Array, _random: np.random.Generator) -> bytes:
    """Coloured paper glued on white, with the shadow that it throws."""
    covered = coverage(digit, pen=0.3)
    shade = 0.45 * blurred(np.roll(covered, (12, 10), (0, 1)), 5)
    paper = np.array([240, 240, 236], np.float32) * (1 - shade[..., None])
    return jpeg(drawn(covered, paper, (60, 140, 80)))


def _on_patch(digit: Array, random: np.random.Generator) -> bytes:
    """Written on correction fluid, which is whiter than the paper and covers a pencilled word."""
    paper = np.full((HEIGHT, WIDTH, 3), (214, 206, 188), np.float32)
    rows, columns = grid((HEIGHT, WIDTH))
    edge = 0.62 + 0.08 * smooth(random, 8, (HEIGHT, WIDTH))
    patch = blurred(((rows * 1.2) ** 2 + columns**2 < edge**2) * 1.0, 2)
    return jpeg(drawn(coverage(digit), drawn(patch, paper, (248, 248, 246))))


def _on_cloth(colour: tuple[int, int, int]) -> Sheet:
    """Gingham: white stripes and those of a colour, across and down."""

    def made(digit: Array, _random: np.random.Generator) -> bytes:
        bands = np.arange(HEIGHT) // 30 % 2
        dyed = ((bands[:, None] + bands[None, :WIDTH]) / 2).astype(np.float32)
        return jpeg(drawn(coverage(digit), drawn(dyed, (245, 240, 238), colour), (25, 25, 35)))

    return made


def _on_sticker(digit: Array, _random: np.random.Generator) -> bytes:
    """A yellow label with a rounded, dark border, on a blue box."""
    photo = Image.new("RGB", (WIDTH, HEIGHT), (70, 100, 150))
    box = [WIDTH // 2 - 200, HEIGHT // 2 - 210, WIDTH // 2 + 200, HEIGHT // 2 + 210]
    ImageDraw.Draw(photo).rounded_rectangle(box, 50, (240, 215, 90), (40, 40, 40), 8)
    return jpeg(drawn(coverage(digit), np.asarray(photo)))


def _brushed(digit: Array, random: np.random.Generator) -> bytes:
    """A broad, dry brush: its bristles leave streaks, and holes."""
    hairs = Image.fromarray(random.random((HEIGHT // 3, WIDTH // 24)).astype(np.float32))
    streaks = np.asarray(hairs.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).rotate(35))
    return jpeg(drawn(coverage(digit, pen=0.3) * (streaks > 0.35)))


def _twice(digit: Array, _random: np.random.Generator) -> bytes:
    """Drawn twice with a thin pen, not quite along the same line."""
    covered = coverage(digit, pen=-0.36)
    again = coverage(digit, at=(0.52, 0.515), pen=-0.36)
    return jpeg(drawn(np.maximum(covered, again)))


STROKES: dict[str, Sheet] = {
    "fine dots, close": _dotted(8, 18),
    "dots of a book to trace in": _dotted(12, 24),
    "large dots, far apart": _dotted(16, 34),
    "uneven dots by hand": _dotted(13, 27, 0.2),
    "dashes": _dashed,
    "display of lamps": _lamps,
    "paper with a grid of dots": _on_dots,
    "outline, thin pen": _outlined(4),
    "outline, thick pen": _outlined(9),
    "a lamp's reflection": _reflected(False),
    "a lamp's reflection, overexposed": _reflected(True),
    "on grey gingham cloth": _on_cloth((150, 148, 144)),
    "on red gingham cloth": _on_cloth((205, 50, 60)),
    "cut out of paper, with its shadow": _cut_out,
    "on correction fluid": _on_patch,
    "sticker with a rounded border": _on_sticker,
    "dry, broad brush": _brushed,
    "drawn twice": _twice,
}
