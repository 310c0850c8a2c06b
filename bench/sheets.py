"""Real digits on made-up sheets, spoiled as paper, pen, light and camera spoil them.

``SHEETS`` has a row for each way: a function from a digit (28, 28) of 0 to 1 and a random generator
to the bytes of a picture file.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from bench.drawing import (
    HEIGHT,
    INK,
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
    png,
    smooth,
)
from bench.strokes import STROKES


def _small(digit: Array, side: int) -> bytes:
    """A digit as every tutorial has it, of few pixels, on grey paper."""
    grey = Image.fromarray((225 - 165 * digit).round().astype(np.uint8))
    return png(grey if side == 28 else grey.resize((side, side), Image.Resampling.BICUBIC))


def _shadow(factor: float) -> Sheet:
    def made(digit: Array, random: np.random.Generator) -> bytes:
        pixels = drawn(coverage(digit))
        pixels[:, : int(WIDTH * random.uniform(0.35, 0.6))] *= factor
        return png(pixels)

    return made


def _slanting_shadow(digit: Array, random: np.random.Generator) -> bytes:
    rows, columns = grid((HEIGHT, WIDTH))
    angle = random.uniform(0, 2 * np.pi)
    dark = (columns * np.cos(angle) + rows * np.sin(angle) > random.uniform(-0.3, 0.3)) * 1.0
    return jpeg(drawn(coverage(digit)) * (1 - 0.35 * blurred(dark, 4))[..., None])


def _vignette(digit: Array, _random: np.random.Generator) -> bytes:
    rows, columns = grid((HEIGHT, WIDTH))
    return png(drawn(coverage(digit)) * (1 - 0.45 * (rows**2 + columns**2) / 2)[..., None])


def _fingers_shadow(digit: Array, random: np.random.Generator) -> bytes:
    shade = Image.new("L", (WIDTH, HEIGHT))
    pen = ImageDraw.Draw(shade)
    x, y = random.uniform(0.3, 0.7) * WIDTH, random.uniform(0.4, 0.6) * HEIGHT
    pen.line([(x, y), (x + WIDTH * 0.3, HEIGHT + 100)], fill=255, width=110)
    pen.ellipse([x - 55, y - 55, x + 55, y + 55], fill=255)
    soft = blurred(np.asarray(shade, np.float32) / 255, 12)
    return jpeg(drawn(coverage(digit)) * (1 - 0.4 * soft)[..., None])


def _specks(count: int, side: int) -> Sheet:
    def made(digit: Array, random: np.random.Generator) -> bytes:
        pixels = drawn(coverage(digit))
        for _ in range(count):
            x, y = random.integers(8, WIDTH - 16), random.integers(8, HEIGHT - 16)
            pixels[y : y + side, x : x + side] = 60
        return png(pixels)

    return made


def _ruled(digit: Array, random: np.random.Generator) -> bytes:
    paper = np.full((HEIGHT, WIDTH, 3), PAPER, np.float32)
    for row in range(int(random.integers(0, 48)), HEIGHT, 48):
        paper[row : row + 2] = (150, 170, 210)
    paper[:, 80:83] = (220, 110, 110)
    return png(drawn(coverage(digit), paper))


def _squared(digit: Array, random: np.random.Generator) -> bytes:
    paper = np.full((HEIGHT, WIDTH, 3), PAPER, np.float32)
    start = int(random.integers(0, 24))
    for place in range(start, HEIGHT, 24):
        paper[place : place + 1] = (150, 165, 190)
        paper[:, place : place + 1] = (150, 165, 190)
    return jpeg(drawn(coverage(digit), paper))


def _strong_lines(digit: Array, random: np.random.Generator) -> bytes:
    """Lines as dark as the pencil, a little tilted."""
    paper = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(paper)
    tilt = random.uniform(-0.05, 0.05) * WIDTH
    for row in range(int(random.integers(0, 70)), HEIGHT, 70):
        pen.line([(0, row), (WIDTH, row + tilt)], fill=(90, 90, 110), width=2)
    return jpeg(drawn(coverage(digit), np.asarray(paper), (80, 80, 85)))


def _inked(paper: Any, ink: Any, pen: float = 0) -> Sheet:
    return lambda digit, _random: jpeg(drawn(coverage(digit, pen=pen), paper, ink))


def _pencil(digit: Array, random: np.random.Generator) -> bytes:
    grain = random.normal(1, 0.25, (HEIGHT, WIDTH)).astype(np.float32)
    share = (coverage(digit, pen=-0.15) * blurred(grain.clip(0, 2) / 2, 1) * 2).clip(0, 1)
    return jpeg(drawn(share, (236, 234, 230), (140, 140, 142)))


def _chalk(digit: Array, random: np.random.Generator) -> bytes:
    board = np.array([45, 70, 58], np.float32) * (
        1 + 0.2 * smooth(random, 6, (HEIGHT, WIDTH))[..., None]
    )
    crumbs = random.random((HEIGHT // 4, WIDTH // 4)).repeat(4, 0).repeat(4, 1) > 0.2
    covered = coverage(digit) * blurred(crumbs.astype(np.float32), 1)
    return jpeg(drawn(covered, board, (215, 215, 205)))


def _crumpled(digit: Array, random: np.random.Generator) -> bytes:
    light = 1 + 0.22 * smooth(random, 7, (HEIGHT, WIDTH))
    for _ in range(5):  # creases: light on one side, dark on the other
        rows, columns = grid((HEIGHT, WIDTH))
        angle, shift = random.uniform(0, np.pi), random.uniform(-0.7, 0.7)
        across = columns * np.cos(angle) + rows * np.sin(angle) - shift
        light += 0.12 * np.sign(across) * np.exp(-np.abs(across) * 12)
    return jpeg(drawn(coverage(digit)) * light[..., None] * np.float32(0.85))


def _two_lamps(digit: Array, _random: np.random.Generator) -> bytes:
    rows, columns = grid((HEIGHT, WIDTH))
    light = 0.45 + 0.55 * np.abs(columns + 0.3 * rows)
    return jpeg(drawn(coverage(digit)) * light.clip(0, 1.05)[..., None] * (1, 0.93, 0.8))


def _flash(digit: Array, random: np.random.Generator) -> bytes:
    rows, columns = grid((HEIGHT, WIDTH))
    x, y = random.uniform(-0.5, 0.5, 2)
    glare = 90 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) * 6)
    return jpeg(drawn(coverage(digit), (170, 168, 160)) + glare[..., None])


def _motion(digit: Array, _random: np.random.Generator) -> bytes:
    pixels = drawn(coverage(digit))
    steps = [np.roll(pixels, step, axis=1) for step in range(-9, 10)]
    return jpeg(np.mean(steps, axis=0))


def _defocused(digit: Array, _random: np.random.Generator) -> bytes:
    return jpeg(image(drawn(coverage(digit))).filter(ImageFilter.GaussianBlur(9)))


def _noisy(digit: Array, random: np.random.Generator) -> bytes:
    pixels = drawn(coverage(digit), (120, 116, 105), (45, 42, 45))
    return jpeg(pixels + random.normal(0, 16, pixels.shape).astype(np.float32))


def _grain(digit: Array, random: np.random.Generator) -> bytes:
    pixels = drawn(coverage(digit), (196, 176, 140), (50, 40, 40))
    dots = random.random((HEIGHT, WIDTH)) > 0.997
    for down in range(2):
        for right in range(2):
            pixels[np.roll(dots, (down, right), (0, 1))] = (120, 100, 75)
    return jpeg(pixels)


def _on_table(turned: float, slanted: float) -> Sheet:
    """The whole sheet on a dark table, from the side."""

    def made(digit: Array, random: np.random.Generator) -> bytes:
        waves = np.arange(HEIGHT) / 5 + 2 * smooth(random, 5, (HEIGHT, WIDTH))[:, 0]
        grain = (1 + 0.15 * np.sin(waves)).astype(np.float32)[:, None, None]
        table = np.array([88, 62, 44], np.float32) * grain
        sheet = image(drawn(coverage(digit))).convert("RGBA")
        sheet = sheet.resize((WIDTH * 7 // 10, HEIGHT * 7 // 10))
        wide, high = sheet.size
        lean = slanted * wide
        corners = [(lean, 0), (wide - lean, 0), (wide, high), (0, high)]
        sheet = sheet.transform(
            sheet.size, Image.Transform.PERSPECTIVE, _perspective(corners, sheet.size)
        )
        angle = random.choice([-1, 1]) * turned
        sheet = sheet.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        photo = image(np.broadcast_to(table, (HEIGHT, WIDTH, 3)).copy())
        photo.paste(sheet, ((WIDTH - sheet.width) // 2, (HEIGHT - sheet.height) // 2), sheet)
        return jpeg(photo)

    return made


def _perspective(
    corners: Sequence[tuple[float, float]], size: tuple[int, int]
) -> tuple[float, ...]:
    """Coefficients that put a sheet's corners (from top left, clockwise) at ``corners``."""
    wide, high = size
    rows, wanted = [], []
    for (x, y), (u, v) in zip(corners, [(0, 0), (wide, 0), (wide, high), (0, high)], strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    return tuple(np.linalg.solve(np.array(rows, float), np.array(wanted, float)).tolist())


def _finger(digit: Array, random: np.random.Generator) -> bytes:
    photo = image(drawn(coverage(digit, at=(0.45, 0.45))))
    pen = ImageDraw.Draw(photo)
    x = WIDTH * random.uniform(0.75, 0.95)
    pen.line([(x, HEIGHT * 0.82), (x + 60, HEIGHT + 60)], fill=(196, 140, 116), width=90)
    pen.ellipse([x - 45, HEIGHT * 0.82 - 45, x + 45, HEIGHT * 0.82 + 45], fill=(196, 140, 116))
    return jpeg(photo.filter(ImageFilter.GaussianBlur(1)))


def _boxed(digit: Array, _random: np.random.Generator) -> bytes:
    photo = image(drawn(coverage(digit)))
    edge = int(SIDE * 0.62)
    middle = WIDTH // 2, HEIGHT // 2
    box = [middle[0] - edge, middle[1] - edge, middle[0] + edge, middle[1] + edge]
    ImageDraw.Draw(photo).rectangle(box, outline=(30, 30, 30), width=4)
    return jpeg(photo)


def _punched(digit: Array, _random: np.random.Generator) -> bytes:
    photo = image(drawn(coverage(digit, at=(0.55, 0.5))))
    pen = ImageDraw.Draw(photo)
    for share in (0.3, 0.7):
        y = share * HEIGHT
        pen.ellipse([24, y - 16, 56, y + 16], fill=(60, 50, 45))
    return jpeg(photo)


def _tiny(digit: Array, random: np.random.Generator) -> bytes:
    at = random.uniform(0.15, 0.85), random.uniform(0.15, 0.85)
    return jpeg(drawn(coverage(digit, at=at, side=70)))


def _tight(digit: Array, _random: np.random.Generator) -> bytes:
    """Cropped to the digit, with next to no paper around it."""
    covered = coverage(digit, side=WIDTH)
    rows, columns = np.flatnonzero(covered.max(1) > 0.5), np.flatnonzero(covered.max(0) > 0.5)
    part = covered[max(rows[0] - 6, 0) : rows[-1] + 7, max(columns[0] - 6, 0) : columns[-1] + 7]
    return jpeg(drawn(part, (190, 190, 186)))


def _moire(digit: Array, random: np.random.Generator) -> bytes:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    waves = np.sin(columns * 1.9 + rows * 0.11) + np.sin(rows * 2.1 - columns * 0.07)
    bands = np.sin(rows / 60 + random.uniform(0, 6))
    pixels = drawn(coverage(digit), (205, 215, 235), (25, 25, 35))
    return jpeg(pixels + (9 * waves + 8 * bands)[..., None].astype(np.float32))


def _dark_mode(digit: Array, random: np.random.Generator) -> bytes:
    covered = coverage(digit)
    glow = blurred(covered, 14) * 0.35
    pixels = drawn(np.maximum(covered, glow), (28, 30, 36), (225, 228, 235))
    return jpeg(pixels + random.normal(0, 6, pixels.shape).astype(np.float32))


def _transparent(ink: int) -> Sheet:
    def made(digit: Array, _random: np.random.Generator) -> bytes:
        pixels = np.full((HEIGHT, WIDTH, 4), ink, np.uint8)
        pixels[..., 3] = (coverage(digit) * 255).astype(np.uint8)
        return png(Image.fromarray(pixels))

    return made


def _folded(digit: Array, random: np.random.Generator) -> bytes:
    light = np.ones((HEIGHT, WIDTH), np.float32)
    x = int(WIDTH * random.uniform(0.4, 0.6))
    light[:, x:] *= 0.88
    light[:, x - 3 : x + 3] *= 0.75
    return jpeg(drawn(coverage(digit)) * light[..., None])


def _bleeding(digit: Array, _random: np.random.Generator) -> bytes:
    """The other side's writing shines through."""
    other = np.roll(coverage(digit)[:, ::-1], (120, 100), (0, 1))
    paper = drawn(blurred(other, 3), PAPER, (196, 194, 192))
    return jpeg(drawn(coverage(digit), paper))


def _stained(digit: Array, random: np.random.Generator) -> bytes:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    x, y = random.uniform(0.3, 0.7) * WIDTH, random.uniform(0.3, 0.7) * HEIGHT
    far = np.hypot(rows - y, columns - x)
    ring = np.exp(-(((far - 190) / 9) ** 2)) * 0.22 + (far < 190) * 0.06
    return jpeg(drawn(coverage(digit)) * (1 - ring[..., None] * (0.6, 0.9, 1.3)))


def _with_print(digit: Array, _random: np.random.Generator) -> bytes:
    """A line of small print above."""
    photo = image(drawn(coverage(digit, at=(0.5, 0.55))))
    pen = ImageDraw.Draw(photo)
    for place, text in enumerate(("Please write one digit below.", "Form 27 b, page 3 of 4")):
        pen.text((40, 30 + 22 * place), text, fill=(40, 40, 40))
    return jpeg(photo)


def _underlined(digit: Array, _random: np.random.Generator) -> bytes:
    pixels = drawn(coverage(digit))
    pixels[HEIGHT // 2 + 170 : HEIGHT // 2 + 175, 40 : WIDTH - 40] = INK
    return jpeg(pixels)


def _fax(digit: Array, _random: np.random.Generator) -> bytes:
    photo = image(drawn(coverage(digit), (200, 200, 200), (60, 60, 60)))
    return png(photo.resize((WIDTH // 2, HEIGHT // 2)).convert("1"))


def _thumbnail(digit: Array, _random: np.random.Generator) -> bytes:
    photo = image(drawn(coverage(digit), (150, 148, 140), (70, 70, 80)))
    return jpeg(photo.resize((45, 60), Image.Resampling.BILINEAR), 70)


def _scanned(digit: Array, _random: np.random.Generator) -> bytes:
    """A sheet that does not reach three edges of the scanner's glass."""
    pixels = drawn(coverage(digit))
    pixels[:18] = 8
    pixels[:, -25:] = 12
    pixels[-9:] = 5
    return jpeg(pixels)


def _labelled(digit: Array, _random: np.random.Generator) -> bytes:
    """A small black label in a corner, darker than the ink."""
    pixels = drawn(coverage(digit), PAPER, (85, 85, 95))
    pixels[40:80, 430:550] = 10
    return jpeg(pixels)


SHEETS: dict[str, Sheet] = {
    "clean sheet": lambda digit, _random: png(drawn(coverage(digit))),
    "28 x 28, grey paper": lambda digit, _random: _small(digit, 28),
    "29 x 29, grey paper": lambda digit, _random: _small(digit, 29),
    "edge of a shadow, factor .8": _shadow(0.8),
    "edge of a shadow, factor .7": _shadow(0.7),
    "edge of a shadow, factor .5": _shadow(0.5),
    "slanting, soft shadow": _slanting_shadow,
    "vignette to .55": _vignette,
    "a finger's shadow": _fingers_shadow,
    "one speck": _specks(1, 3),
    "forty specks": _specks(40, 4),
    "ruled paper, red margin": _ruled,
    "squared paper": _squared,
    "lines as dark as the pencil": _strong_lines,
    "dim photo (paper 110, ink 40)": _inked((110, 110, 110), (40, 40, 40)),
    "blue ink": _inked(PAPER, (40, 70, 170)),
    "red ink": _inked(PAPER, (200, 45, 50)),
    "yellow marker on white": _inked((240, 240, 236), (235, 200, 60)),
    "pencil": _pencil,
    "thin ball pen": _inked(PAPER, INK, -0.36),
    "thick marker": _inked(PAPER, INK, 0.36),
    "chalk on a blackboard": _chalk,
    "white ink on brown paper": _inked((165, 120, 75), (240, 238, 230)),
    "black ink on red paper": _inked((190, 50, 45), (25, 20, 20)),
    "crumpled paper": _crumpled,
    "two lamps": _two_lamps,
    "flash": _flash,
    "motion blur": _motion,
    "out of focus": _defocused,
    "noise of a dark room": _noisy,
    "JPEG of quality 8": lambda digit, _random: jpeg(drawn(coverage(digit)), 8),
    "grain of recycled paper": _grain,
    "sheet on a table, turned 10 degrees": _on_table(10, 0),
    "sheet on a table, in perspective": _on_table(2, 0.12),
    "a finger at the edge": _finger,
    "box around the digit": _boxed,
    "punched holes": _punched,
    "small and off the middle": _tiny,
    "cropped tightly": _tight,
    "photo of a screen, moire": _moire,
    "photo of a screen in dark mode": _dark_mode,
    "drawing app, black on nothing": _transparent(0),
    "drawing app, white on nothing": _transparent(255),
    "folded sheet": _folded,
    "writing shines through": _bleeding,
    "coffee ring": _stained,
    "small print above": _with_print,
    "underlined": _underlined,
    "fax, black and white": _fax,
    "scan with black edges": _scanned,
    "black label beside grey ink": _labelled,
    "thumbnail of 45 x 60": _thumbnail,
    **STROKES,
}
