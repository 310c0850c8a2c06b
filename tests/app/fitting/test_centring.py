"""Drawings on any ground: the ground turned dark, the ink placed as MNIST's is."""

import numpy as np
import pytest
from PIL import Image as PillowImage

from app.fitting.adapt import Fitting
from app.formats.png import to_png
from app.formats.reading.uploads import read_upload
from tests.app.formats.pictures import AUTO, INVERT, LIMITS, file_of, seven, upload_of


@pytest.mark.parametrize("size", [40, 113, 300, 1200])
@pytest.mark.parametrize(("ground", "ink"), [(255, 0), (0, 255), (180, 60), (40, 230)])
def test_a_ground_is_light_if_the_edge_of_the_picture_is(size: int, ground: int, ink: int) -> None:
    picture = seven(200, ink, ground).resize((size, size))
    upload = upload_of(picture, INVERT)
    assert ("inverted" in upload.steps) == (ground >= 128)
    assert np.median(upload.image) < 128


def test_ink_is_centred_as_mnist_was_wherever_it_stood() -> None:
    images = []
    for at in ((0, 0), (-50, -40), (50, 40)):
        upload = upload_of(seven(ink=0, at=at), AUTO)
        assert upload.steps == ("inverted", "centred")
        image = upload.image.astype(float)
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert rows[-1] - rows[0] + 1 == 20  # higher than wide
        assert columns[-1] - columns[0] + 1 < 20
        for axis in (0, 1):
            centre = (image.sum(axis=1 - axis) * np.arange(28)).sum() / image.sum()
            assert abs(centre - 14) <= 0.51
        assert image.max() > 250
        images.append(image)
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[0], images[2])


def test_unevenly_lit_paper_becomes_black() -> None:
    light = np.linspace(150, 230, 200)[:, None] * np.ones(200)
    noise = np.random.default_rng(0).normal(0, 4, (200, 200))
    drawn = np.where(np.asarray(seven()) == 0, 50, light) + noise
    upload = upload_of(PillowImage.fromarray(drawn.clip(0, 255).astype(np.uint8)), AUTO)
    assert (upload.steps[0], upload.steps[-1]) == ("inverted", "centred")
    clean = upload_of(seven(), AUTO).image
    assert (np.abs(upload.image.astype(int) - clean) < 60).mean() > 0.97
    assert np.median(upload.image) == 0


def test_what_has_the_models_form_already_is_not_touched() -> None:
    digit = np.asarray(upload_of(seven(), AUTO).image)
    shifted = np.roll(digit, 3, axis=0)
    for image in (digit, shifted):
        upload = upload_of(to_png(image), AUTO)
        np.testing.assert_array_equal(upload.image, image)
        assert upload.steps == ()
        dark = upload_of(to_png(255 - image), AUTO)
        np.testing.assert_array_equal(dark.image, image)
        assert dark.steps == ("inverted",)
    centred = upload_of(to_png(shifted), Fitting("auto", "yes"))
    assert centred.steps[-1] == "centred"
    rows = centred.image.sum(axis=1, dtype=float)
    assert abs((rows * np.arange(28)).sum() / rows.sum() - 14) <= 1


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 4096), (4096, 1), (3, 3), (100, 30)])
@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_a_picture_without_ink_is_fitted(size: tuple[int, int], level: int) -> None:
    for how in (AUTO, Fitting("no", "yes"), Fitting("yes", "yes", True)):
        upload = upload_of(PillowImage.new("L", size, level), how)
        assert "centred" not in upload.steps
        assert upload.image.shape == (28, 28)


def test_the_models_form_is_told_from_the_picture_and_not_from_its_size() -> None:
    digit = np.asarray(upload_of(seven(), AUTO).image).astype(float)
    for paper, ink in ((225, 60), (150, 90), (70, 210), (20, 255)):
        for side in (28, 29, 56):
            grey = PillowImage.fromarray((paper + (ink - paper) * digit / 255).astype(np.uint8))
            upload = upload_of(grey.resize((side, side), PillowImage.Resampling.BICUBIC), AUTO)
            assert upload.steps[-1] == "centred"
            assert ("inverted" in upload.steps) == (paper > ink)
            assert np.corrcoef(upload.image.ravel(), digit.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 32, 32), (3, 64, 64)])
def test_ink_of_any_form_fits_any_model(shape: tuple[int, int, int]) -> None:
    for box in (
        (3, 3, 30, 30),
        (10, 0, 11, 300),
        (0, 5, 300, 6),
        (20, 30, 280, 60),
        (270, 285, 297, 298),
    ):
        picture = PillowImage.new("L", (300, 300))
        picture.paste(255, box)
        upload = read_upload(file_of(picture), shape, LIMITS, Fitting("no", "yes"))
        assert upload.steps[-1] == "centred"
        assert upload.image.shape[:2] == shape[1:]
        assert upload.image.max() > 200
