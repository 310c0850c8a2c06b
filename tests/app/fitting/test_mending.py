"""Dots and dashes are joined, an outline is filled, ink under a reflection counts, and what is
written stays as it is."""

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from app.fitting.pieces import pieces_of
from app.formats.reading.uploads import Upload
from bench.drawing import Array, coverage, drawn, png
from bench.sheets import SHEETS
from tests.app.formats.pictures import AUTO, upload_of

HOLES = {"0": 1, "6": 1, "8": 2, "9": 1}


def printed(digit: str) -> Array:
    """A digit of 28 x 28, as MNIST's are."""
    picture = PillowImage.new("L", (280, 280))
    font = ImageFont.load_default(260)
    ImageDraw.Draw(picture).text((140, 140), digit, 255, font, anchor="mm", stroke_width=3)
    small = picture.resize((28, 28), PillowImage.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)


def on(sheet: str, digit: str) -> Upload:
    return upload_of(SHEETS[sheet](printed(digit), np.random.default_rng(2)), AUTO)


def like(one: Upload, other: Upload) -> float:
    """Correlation, where it is largest: a centre of mass may round to the next pixel."""
    steps = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    moved = [np.roll(one.image, step, (0, 1)).ravel() for step in steps]
    return float(max(np.corrcoef(image, other.image.ravel())[0, 1] for image in moved))


def holes(upload: Upload) -> int:
    return int((pieces_of(np.pad(upload.image < 128, 1, constant_values=True)).area > 1).sum()) - 1


@pytest.mark.parametrize("digit", "0123456789")
@pytest.mark.parametrize("sheet", ["outline, thin pen", "outline, thick pen"])
def test_an_outline_is_filled_and_a_digits_holes_stay_open(sheet: str, digit: str) -> None:
    upload = on(sheet, digit)
    assert "strokes filled" in upload.steps
    assert like(upload, on("clean sheet", digit)) > 0.8
    assert holes(upload) >= HOLES.get(digit, int(digit == "4"))


@pytest.mark.parametrize("digit", "0123456789")
@pytest.mark.parametrize("sheet", ["fine dots, close", "dots of a book to trace in", "dashes"])
def test_dots_and_dashes_are_joined(sheet: str, digit: str) -> None:
    upload = on(sheet, digit)
    assert "strokes joined" in upload.steps
    assert like(upload, on("clean sheet", digit)) > 0.6


@pytest.mark.parametrize("pen", [-0.3, 0, 0.3])
@pytest.mark.parametrize("digit", HOLES)
def test_a_written_digit_keeps_its_holes(digit: str, pen: float) -> None:
    upload = upload_of(png(drawn(coverage(printed(digit), pen=pen))), AUTO)
    assert not {"strokes filled", "strokes joined"} & {*upload.steps}
    assert holes(upload) == HOLES[digit]


@pytest.mark.parametrize("width", [1, 2, 5, 12])
@pytest.mark.parametrize("slim", [1, 2, 3])
def test_a_zero_of_any_pen_is_no_outline_of_a_one(slim: int, width: int) -> None:
    picture = PillowImage.new("L", (300, 400), 255)
    half = 120 // slim
    box = [150 - half, 80, 150 + half, 320]
    ImageDraw.Draw(picture).ellipse(box, outline=0, width=width)
    assert "strokes filled" not in upload_of(picture, AUTO).steps


@pytest.mark.parametrize("digit", "2578")
def test_a_circle_around_a_digit_is_no_outline(digit: str) -> None:
    sheet = PillowImage.fromarray(drawn(coverage(printed(digit))).astype(np.uint8))
    ImageDraw.Draw(sheet).ellipse([120, 220, 480, 580], outline=(40, 40, 60), width=6)
    upload = upload_of(sheet, AUTO)
    assert "strokes filled" not in upload.steps
    assert like(upload, on("clean sheet", digit)) > 0.9


@pytest.mark.parametrize("digit", "0123456789")
@pytest.mark.parametrize("sheet", ["a lamp's reflection", "a lamp's reflection, overexposed"])
def test_ink_under_a_reflection_counts_as_the_rest(sheet: str, digit: str) -> None:
    upload = on(sheet, digit)
    assert "reflections removed" in upload.steps
    assert like(upload, on("clean sheet", digit)) > 0.85


@pytest.mark.parametrize("digit", "149")
@pytest.mark.parametrize(
    "sheet", ["flash", "two lamps", "crumpled paper", "edge of a shadow, factor .5", "folded sheet"]
)
def test_uneven_light_is_no_reflection_on_ink(sheet: str, digit: str) -> None:
    upload = on(sheet, digit)
    assert "reflections removed" not in upload.steps
    assert like(upload, on("clean sheet", digit)) > 0.9


@pytest.mark.parametrize("digit", "147")
@pytest.mark.parametrize("sheet", ["on grey gingham cloth", "on red gingham cloth"])
def test_the_squares_of_cloth_are_no_ink(sheet: str, digit: str) -> None:
    assert like(on(sheet, digit), on("clean sheet", digit)) > 0.9


def test_a_black_label_is_no_one() -> None:
    assert like(on("black label beside grey ink", "1"), on("clean sheet", "1")) > 0.9


def test_dots_thrown_at_random_are_not_joined() -> None:
    random = np.random.default_rng(3)
    for _ in range(30):
        picture = PillowImage.new("L", (400, 400), 255)
        pen = ImageDraw.Draw(picture)
        for x, y in random.integers(40, 360, (30, 2)).tolist():
            pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=0)
        assert "strokes joined" not in upload_of(picture, AUTO).steps


@pytest.mark.parametrize("digit", "0123456789")
def test_the_rim_of_a_small_pictures_strokes_is_no_reflection(digit: str) -> None:
    assert "reflections removed" not in on("29 x 29, grey paper", digit).steps
