"""A digit is found on every sheet of the benchmark, as it is on a clean one."""

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageOps

from app.fitting.ink import find_ink
from app.formats.reading.uploads import Upload
from bench.drawing import PAPER, Array, coverage, drawn, png
from bench.sheets import SHEETS
from tests.app.formats.pictures import AUTO, file_of, upload_of


def four() -> Array:
    """A four of 28 x 28, drawn with a round pen."""
    picture = PillowImage.new("L", (280, 280))
    pen = ImageDraw.Draw(picture)
    pen.line([(110, 60), (75, 150), (190, 150)], 255, width=22, joint="curve")
    pen.line([(170, 70), (160, 225)], 255, width=22)
    small = picture.resize((28, 28), PillowImage.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def clean() -> Upload:
    """The four as it is found on a clean sheet."""
    return upload_of(SHEETS["clean sheet"](four(), np.random.default_rng(0)), AUTO)


@pytest.mark.parametrize("name", SHEETS)
def test_a_digit_is_found_on_a_spoiled_sheet_as_on_a_clean_one(name: str, clean: Upload) -> None:
    upload = upload_of(SHEETS[name](four(), np.random.default_rng(1)), AUTO)
    assert upload.steps[-1] == "centred"
    likeness = np.corrcoef(upload.image.ravel(), clean.image.ravel())[0, 1]
    # Dots and dashes have no ends of strokes, so that what there is is larger.
    least = 0.5 if "dots" in name or name == "dashes" else 0.6 if "turned" in name else 0.75
    assert likeness > least, (name, upload.steps, likeness)


@pytest.mark.parametrize("level", [0, 20, 128, 235, 255])
def test_an_empty_sheet_has_no_ink_whatever_its_light_and_noise(level: int) -> None:
    random = np.random.default_rng(level)
    light = np.linspace(0.6, 1, 300)[:, None, None]
    for noise in (0, 3, 12):
        sheet = level * light + random.normal(0, 1, (300, 200, 3)) * noise
        picture = PillowImage.fromarray(sheet.clip(0, 255).astype(np.uint8))
        assert find_ink(picture) is None
        assert "centred" not in upload_of(file_of(picture), AUTO).steps


def test_a_thin_pens_single_stroke_is_no_ruled_line() -> None:
    picture = PillowImage.new("L", (280, 280), 255)
    ImageDraw.Draw(picture).line([(140, 20), (132, 260)], 0, width=3)
    upload = upload_of(picture, AUTO)
    assert "lines removed" not in upload.steps
    rows = np.flatnonzero(upload.image.max(axis=1) > 128)
    assert rows[-1] - rows[0] >= 17


@pytest.mark.parametrize("width", [1, 6])
def test_lines_as_dark_as_the_ink_are_removed_and_it_stays_whole(width: int, clean: Upload) -> None:
    with PillowImage.new("RGB", (600, 800), PAPER) as paper:
        pen = ImageDraw.Draw(paper)
        for place in range(20, 800, 60):
            pen.line([(0, place), (600, place + 14)], (40, 40, 60), width)
            pen.line([(place, 0), (place - 14, 800)], (40, 40, 60), width)
        sheet = np.asarray(paper)
    upload = upload_of(png(drawn(coverage(four()), sheet)), AUTO)
    assert ("lines removed" in upload.steps) == (width == 6)  # the others are below the threshold
    assert np.corrcoef(upload.image.ravel(), clean.image.ravel())[0, 1] > 0.75


@pytest.mark.parametrize("width", [0, 12, 23, 24])
def test_a_border_up_to_the_widest_hides_no_ink(width: int) -> None:
    levels = np.full((400, 400), 230, np.uint8)
    levels[120:280, 190:210] = 40
    levels[:width] = levels[400 - width :] = 0
    levels[:, :width] = levels[:, 400 - width :] = 0
    ink = find_ink(PillowImage.fromarray(levels))
    assert ink is not None
    assert ink.dark


@pytest.mark.parametrize("margin", [2, 6, 12])
@pytest.mark.parametrize(("paper", "ink"), [(190, 40), (40, 190)])
def test_a_bold_digit_cut_out_to_its_box_is_not_taken_for_its_ground(
    margin: int, paper: int, ink: int
) -> None:
    digit = PillowImage.new("L", (400, 500), paper)
    pen = ImageDraw.Draw(digit)
    pen.line([(100, 90), (300, 90), (170, 220)], ink, 70, joint="curve")
    pen.arc([60, 190, 330, 440], 230, 130, ink, 70)
    rows, columns = np.nonzero(np.asarray(digit) == ink)
    box = columns.min() - margin, rows.min() - margin, columns.max() + margin, rows.max() + margin
    tight, whole = (
        upload_of(digit.crop(box), AUTO),
        upload_of(ImageOps.expand(digit, 300, paper), AUTO),
    )
    assert ("inverted" in tight.steps) == (paper > ink)
    assert np.corrcoef(tight.image.ravel(), whole.image.ravel())[0, 1] > 0.9
