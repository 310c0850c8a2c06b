"""What notebooks show of results, and how results go back into calls."""

import base64
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from genserve import Dataset, calls
from genserve.results import Image, Images, Posteriors


def image(level: int, seed: int | None = None) -> Image:
    out = BytesIO()
    PillowImage.new("L", (28, 28), level).save(out, "PNG")
    return Image(out.getvalue(), "0" * 64, seed=seed, label="7")


SEVERAL = Images("tiny", tuple(image(10 * index, index) for index in range(11)))


def sent(*pictures: Any) -> list[bytes]:
    """The files that encode would send."""
    body = calls.encode(*pictures).body
    assert body
    return [base64.b64decode(text) for text in json.loads(body)["images"]]


def test_images_show_a_sheet_that_one_can_see_and_a_short_line() -> None:
    assert repr(SEVERAL) == "Images(model='tiny', n=11, labels=['7'])"
    assert repr(SEVERAL[3]) == "Image(seed=3, label='7')"
    png = SEVERAL._repr_png_()
    assert png
    with PillowImage.open(BytesIO(png)) as sheet:
        assert sheet.size == (8 * 112, 2 * 112)
        assert sheet.getpixel((3 * 112 + 50, 50)) == 30
        assert sheet.getpixel((2 * 112 + 50, 112 + 50)) == 100
    html = SEVERAL._repr_html_()
    found = re.search(r"base64,([^']+)'", html)
    assert found
    assert base64.b64decode(found[1]) == png
    assert Images("tiny", ())._repr_png_() is None
    assert "n=0" in Images("tiny", ())._repr_html_()


def test_a_dataset_in_memory_shows_its_first_images() -> None:
    images = np.arange(40, dtype=np.uint8)[:, None, None] * np.ones((28, 28), np.uint8)
    data = Dataset(None, 1, "tiny", 5, 40, "/dataset?n=40", {"images": images})
    png = data._repr_png_()
    assert png
    with PillowImage.open(BytesIO(png)) as sheet:
        assert sheet.size == (8 * 112, 4 * 112)
        assert sheet.getpixel((7 * 112 + 50, 3 * 112 + 50)) == 31
    assert Dataset(Path("x.zip"), 1, "tiny", 5, 40, "/dataset?n=40")._repr_png_() is None
    assert len(repr(data)) < 200


def test_latents_show_a_table_and_a_short_line() -> None:
    mu = np.arange(6, dtype=np.float32).reshape(2, 3)
    latents = Posteriors("<b>", None, mu, mu, mu, (0.25, None))
    assert repr(latents) == "Posteriors(model='<b>', n=2, latent_dim=3, fit=[0.25, None])"
    html = latents._repr_html_()
    assert "<b>" not in html
    assert "z2 = 5.00" in html
    assert html.count("<tr>") == 3
    assert len(latents) == 2


@pytest.mark.parametrize("way", ["images", "array", "each", "colour"])
def test_images_go_round_into_encode(way: str) -> None:
    if way == "colour":
        stack = np.zeros((4, 5, 6, 3), np.uint8)
        stack[2] = 9
        files = sent(stack)
        assert len(files) == 4
        with PillowImage.open(BytesIO(files[2])) as picture:
            assert np.array_equal(np.asarray(picture), stack[2])
        return
    files = {"images": sent(SEVERAL), "array": sent(SEVERAL.array), "each": sent(*SEVERAL)}[way]
    assert len(files) == 11
    for given, file in zip(SEVERAL, files, strict=True):
        with PillowImage.open(BytesIO(file)) as picture:
            assert np.array_equal(np.asarray(picture), given.array)


def test_one_picture_in_an_array_stays_one() -> None:
    assert len(sent(np.zeros((28, 28), np.uint8))) == 1
    assert len(sent(np.zeros((28, 28, 3), np.uint8))) == 1
