"""A picture file to pixels, as the service reads it."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from app.fitting.adapt import Fitting
from app.formats.reading import uploads as served
from app.formats.reading.picture_header import DecodingLimits
from tests.training.data.photos import file_of, noise
from training.data import pictures
from training.data.pictures import PictureError, read_picture

RED, GREEN, BLUE = (250, 10, 20), (10, 240, 30), (20, 30, 230)


def quadrants(size: int = 96) -> PillowImage.Image:
    """Red and green over blue and black: shows which way up a picture is."""
    picture = PillowImage.new("RGB", (size, size))
    half = size // 2
    picture.paste(RED, (0, 0, half, half))
    picture.paste(GREEN, (half, 0, size, half))
    picture.paste(BLUE, (0, half, half, size))
    return picture


def corners(image: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """The colours at top left, top right, bottom left, bottom right."""
    quarter, rest = image.shape[0] // 4, image.shape[0] * 3 // 4
    places = [(quarter, quarter), (quarter, rest), (rest, quarter), (rest, rest)]
    return [tuple(int(level) for level in np.atleast_1d(image[place])) for place in places]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_is_read_in_colour(format: str) -> None:
    image = read_picture(file_of(quadrants(), format), 32)
    assert image.shape == (32, 32, 3)
    for found, expected in zip(corners(image), [RED, GREEN, BLUE, (0, 0, 0)], strict=True):
        assert np.abs(np.subtract(found, expected)).max() < 12


def test_a_picture_is_turned_as_its_exif_says() -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise
    for format in ("JPEG", "PNG", "TIFF"):
        found = corners(read_picture(file_of(quadrants(), format, exif=exif), 32))
        for colour, expected in zip(found, [BLUE, RED, (0, 0, 0), GREEN], strict=True):
            assert np.abs(np.subtract(colour, expected)).max() < 12, format


@pytest.mark.parametrize("size", [(96, 32), (32, 96)])
def test_the_longer_side_is_cut_on_both_ends(size: tuple[int, int]) -> None:
    picture = PillowImage.new("RGB", size, RED)
    middle = (32, 0, 64, 32) if size[0] > size[1] else (0, 32, 32, 64)
    picture.paste(GREEN, middle)
    image = read_picture(file_of(picture), 32)
    assert np.array_equal(image, np.full((32, 32, 3), GREEN, dtype=np.uint8))


def test_shrinking_is_antialiased() -> None:
    board = (np.indices((280, 280)).sum(0) % 2 * 255).astype(np.uint8)
    image = read_picture(file_of(PillowImage.fromarray(board)), 28)
    assert image.shape == (28, 28)
    assert 120 < image.min() <= image.max() < 136  # grey, not the dots that points would pick


def test_a_small_picture_is_enlarged() -> None:
    assert read_picture(file_of(quadrants(8)), 64).shape == (64, 64, 3)


def transparent() -> PillowImage.Image:
    picture = quadrants().convert("RGBA")
    picture.paste((255, 255, 255, 0), (0, 0, 48, 48))
    return picture


def in_16_bits() -> PillowImage.Image:
    return PillowImage.fromarray(np.full((30, 30), 0x8080, dtype=np.uint16))


def grey_palette() -> PillowImage.Image:
    picture = noise(0, mode="L").convert("P")
    picture.putpalette([level for level in range(256) for _ in range(3)])
    return picture


@pytest.mark.parametrize(
    ("picture", "shape", "top_left"),
    [
        (quadrants(), (28, 28, 3), RED),
        (quadrants().convert("L"), (28, 28), (83,)),
        (quadrants().convert("P"), (28, 28, 3), None),
        (grey_palette(), (28, 28), None),
        (PillowImage.new("1", (30, 30), 1), (28, 28), (255,)),
        (PillowImage.new("LA", (30, 30), (200, 128)), (28, 28), (100,)),
        (transparent(), (28, 28, 3), (0, 0, 0)),  # laid over black
        (in_16_bits(), (28, 28), (0x80,)),  # scaled, not clipped
    ],
)
def test_depth_and_transparency_are_of_the_file(
    picture: PillowImage.Image, shape: tuple[int, ...], top_left: tuple[int, ...] | None
) -> None:
    image = read_picture(file_of(picture), 28)
    assert image.shape == shape
    if top_left:
        assert np.abs(np.subtract(corners(image)[0], top_left)).max() <= 1


@pytest.mark.parametrize(("channels", "shape"), [(1, (28, 28)), (3, (28, 28, 3))])
def test_depth_can_be_asked_for(channels: int, shape: tuple[int, ...]) -> None:
    for picture in (quadrants(), quadrants().convert("L")):
        assert read_picture(file_of(picture), 28, channels).shape == shape


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"dear diary", "not a complete PNG, JPEG"),
        (b"", "not a complete PNG, JPEG"),
        (file_of(quadrants())[:-200], "not a complete PNG"),
        (file_of(noise(0), "JPEG")[:700], "not a complete PNG"),
        (file_of(noise(0), "PPM"), "not a complete PNG"),  # Pillow could, but is not asked to
        (file_of(noise(0, mode="L").convert("F"), "TIFF"), "floating-point pixels"),
    ],
)
def test_what_is_no_whole_picture_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        read_picture(data, 28)


def test_a_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = file_of(PillowImage.new("1", (11_000, 11_000)))
    assert len(bomb) < 100_000
    monkeypatch.setattr(pictures, "flatten", lambda picture: pytest.fail("it was decoded"))
    with pytest.raises(PictureError, match="11000 x 11000 pixels, over 100 million"):
        read_picture(bomb, 28)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
@pytest.mark.parametrize(
    "data",
    [
        *(file_of(noise(1, (300, 200)), format) for format in ("PNG", "JPEG", "WEBP")),
        file_of(noise(2, (20, 50))),
        file_of(transparent()),
        file_of(quadrants().convert("P")),
        file_of(in_16_bits()),
        file_of(PillowImage.new("LA", (30, 50), (200, 128))),
        file_of(noise(3, (2000, 1500)), "JPEG"),  # decoded smaller
    ],
)
def test_training_and_service_make_the_same_pixels_of_a_picture(
    data: bytes, shape: tuple[int, int, int]
) -> None:
    learnt = read_picture(data, shape[1], shape[0])
    asked = served.read_upload(data, shape, DecodingLimits(), Fitting(crop=True)).image
    assert np.array_equal(learnt, asked)
