"""PNGs that other readers can read."""

import hashlib
import zlib
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from app.formats.png import to_png


def random_image(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (1, 1), (5, 9), (64, 32, 3)])
def test_another_reader_gets_the_same_pixels(shape: tuple[int, ...]) -> None:
    image = random_image(*shape)
    with PillowImage.open(BytesIO(to_png(image))) as picture:
        picture.load()
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), image)


@pytest.mark.skipif("ng" in zlib.ZLIB_RUNTIME_VERSION, reason="zlib-ng finds other runs than zlib")
def test_the_bytes_of_a_png_never_change() -> None:
    """A seed's bytes are promised; this is how an image with runs and without was first written."""
    image = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28) // 9 * 30
    digests = [hashlib.sha256(to_png(image, scale)).hexdigest()[:16] for scale in (1, 2)]
    assert digests == ["e97a1e00c1525683", "8b551dfbedde3949"]


def test_a_png_of_part_of_an_array_is_of_that_part() -> None:
    image = random_image(28, 40)[:, ::2]
    with PillowImage.open(BytesIO(to_png(image))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), image)


def test_scale_draws_each_pixel_as_a_square() -> None:
    for shape in ((28, 28), (5, 9, 3), (1, 1)):
        image = random_image(*shape)
        with PillowImage.open(BytesIO(to_png(image, 3))) as picture:
            picture.load()  # zlib's and each chunk's checksum
            np.testing.assert_array_equal(
                np.asarray(picture), image.repeat(3, axis=0).repeat(3, axis=1)
            )
