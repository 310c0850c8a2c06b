"""PNGs that others can read, and pictures of others that become a model's input."""

import hashlib
import zlib
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from app.errors import BodyTooLargeError, UnreadableImageError
from app.images import read_picture, sheet, to_npy, to_png

GREY = (1, 28, 28)
LIMIT = 10_000_000


def file_of(picture: PillowImage.Image, kind: str = "PNG", **options: object) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


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


def test_a_grid_is_filled_row_by_row_and_black_where_nothing_is_left() -> None:
    images = [np.full((2, 3), value, dtype=np.uint8) for value in (10, 20, 30, 40, 50)]
    grid = sheet(images)
    assert grid.shape == (4, 9)
    assert grid[::2, ::3].tolist() == [[10, 20, 30], [40, 50, 0]]


def test_scale_draws_each_pixel_as_a_square() -> None:
    for shape in ((28, 28), (5, 9, 3), (1, 1)):
        image = random_image(*shape)
        with PillowImage.open(BytesIO(to_png(image, 3))) as picture:
            picture.load()  # zlib's and each chunk's checksum
            np.testing.assert_array_equal(
                np.asarray(picture), image.repeat(3, axis=0).repeat(3, axis=1)
            )


def test_npy_is_read_by_numpy() -> None:
    images = [random_image(28, 28), random_image(28, 28)]
    array = np.load(BytesIO(to_npy(images)), allow_pickle=False)
    assert array.shape == (2, 28, 28)
    assert array.dtype == np.uint8


def test_a_picture_of_the_models_size_passes_unchanged() -> None:
    image = random_image(28, 28)
    np.testing.assert_array_equal(read_picture(to_png(image), GREY, LIMIT), image)


def test_transparent_places_are_black() -> None:
    rgba = np.zeros((28, 28, 4), dtype=np.uint8)
    rgba[..., :3] = 255
    rgba[:14, :, 3] = 255  # the upper half is opaque white, the lower transparent white
    read = read_picture(file_of(PillowImage.fromarray(rgba)), GREY, LIMIT)
    assert read[:14].min() == 255
    assert read[14:].max() == 0


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    deep = np.full((28, 28), 32896, dtype=np.uint16)
    read = read_picture(file_of(PillowImage.fromarray(deep)), GREY, LIMIT)
    assert np.unique(read).tolist() == [128]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_of_png_keeps_white_white_and_black_black(mode: str) -> None:
    half = np.zeros((28, 28), dtype=np.uint8)
    half[:, 14:] = 255
    picture = PillowImage.fromarray(half).convert(mode)
    np.testing.assert_array_equal(read_picture(file_of(picture), GREY, LIMIT), half)


def test_a_palette_with_a_transparent_colour_is_laid_over_black() -> None:
    picture = PillowImage.new("P", (28, 28), 1)
    picture.putpalette([0, 0, 0, 255, 255, 255])
    assert read_picture(file_of(picture, transparency=1), GREY, LIMIT).max() == 0


def test_a_photo_is_turned_upright() -> None:
    picture = PillowImage.new("L", (28, 28))
    picture.paste(255, (0, 0, 28, 10))
    exif = PillowImage.Exif()
    exif[0x0112] = 3  # upside down
    read = read_picture(file_of(picture, "JPEG", exif=exif, quality=95), GREY, LIMIT)
    assert read[:15].mean() < 20
    assert read[20:].mean() > 200


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (280, 280), (60, 30)])
def test_any_shape_is_fitted_with_its_proportions(size: tuple[int, int]) -> None:
    read = read_picture(file_of(PillowImage.new("L", size, 255)), GREY, LIMIT)
    assert read.shape == (28, 28)
    assert read.max() == 255
    if size == (60, 30):  # twice as wide as high: seven black rows above and below
        assert read[:7].max() == 0
        assert read[7:21].min() == 255


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_three_formats_are_read(kind: str) -> None:
    data = file_of(PillowImage.new("RGB", (28, 28), (255, 255, 255)), kind)
    assert read_picture(data, (3, 28, 28), LIMIT).min() >= 254


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "EPS", "PPM"])
def test_other_formats_are_not(kind: str) -> None:
    with pytest.raises(UnreadableImageError):
        read_picture(file_of(PillowImage.new("RGB", (28, 28)), kind), GREY, LIMIT)


def test_a_small_file_of_many_pixels_is_refused_before_decoding() -> None:
    data = file_of(PillowImage.new("1", (9000, 9000)))
    assert len(data) < 20_000
    with pytest.raises(BodyTooLargeError, match="81000000 pixels"):
        read_picture(data, GREY, LIMIT)


WHOLE = to_png(random_image(28, 28))
CLAIMS_HUGE = WHOLE[:16] + (30_000).to_bytes(4, "big") * 2 + WHOLE[24:]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x89PNG\r\n\x1a\n<html>",
        WHOLE[:100],
        WHOLE[:60] + b"\0" + WHOLE[61:],  # the checksum no longer fits
        CLAIMS_HUGE,
    ],
    ids=["empty", "text", "html", "truncated", "altered", "claims 30000 x 30000"],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises((UnreadableImageError, BodyTooLargeError)):
        read_picture(data, GREY, LIMIT)
