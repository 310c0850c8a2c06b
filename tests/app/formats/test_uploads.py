"""Pictures of others that become a model's input."""

import struct
import tracemalloc
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from app.errors import BodyTooLargeError, UnreadableImageError
from app.formats.pixels import Image
from app.formats.png import png_chunk, to_png
from app.formats.uploads import AS_IT_IS, Fitting, Upload, fitting_for, read_upload, summary

GREY = (1, 28, 28)
LIMIT = 10_000_000
AUTO = Fitting("auto", "auto")
INVERT = Fitting("auto")


def file_of(picture: PillowImage.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def random_image(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def made(picture: PillowImage.Image, how: Fitting = AS_IT_IS) -> Upload:
    return read_upload(file_of(picture), GREY, LIMIT, how)


def read(data: bytes, shape: tuple[int, int, int], limit: int) -> Image:
    return read_upload(data, shape, limit).image


def test_a_picture_of_the_models_size_passes_unchanged() -> None:
    image = random_image(28, 28)
    np.testing.assert_array_equal(read(to_png(image), GREY, LIMIT), image)


def test_transparent_places_are_black() -> None:
    rgba = np.zeros((28, 28, 4), dtype=np.uint8)
    rgba[..., :3] = 255
    rgba[:14, :, 3] = 255  # the upper half is opaque white, the lower transparent white
    found = read(file_of(PillowImage.fromarray(rgba)), GREY, LIMIT)
    assert found[:14].min() == 255
    assert found[14:].max() == 0


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    deep = np.full((28, 28), 32896, dtype=np.uint16)
    found = read(file_of(PillowImage.fromarray(deep)), GREY, LIMIT)
    assert np.unique(found).tolist() == [128]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_of_png_keeps_white_white_and_black_black(mode: str) -> None:
    half = np.zeros((28, 28), dtype=np.uint8)
    half[:, 14:] = 255
    picture = PillowImage.fromarray(half).convert(mode)
    np.testing.assert_array_equal(read(file_of(picture), GREY, LIMIT), half)


def test_a_palette_with_a_transparent_colour_is_laid_over_black() -> None:
    picture = PillowImage.new("P", (28, 28), 1)
    picture.putpalette([0, 0, 0, 255, 255, 255])
    assert read(file_of(picture, transparency=1), GREY, LIMIT).max() == 0


def test_a_photo_is_turned_upright() -> None:
    picture = PillowImage.new("L", (28, 28))
    picture.paste(255, (0, 0, 28, 10))
    exif = PillowImage.Exif()
    exif[0x0112] = 3  # upside down
    found = read(file_of(picture, "JPEG", exif=exif, quality=95), GREY, LIMIT)
    assert found[:15].mean() < 20
    assert found[20:].mean() > 200


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (280, 280), (60, 30)])
def test_any_shape_is_fitted_with_its_proportions(size: tuple[int, int]) -> None:
    found = read(file_of(PillowImage.new("L", size, 255)), GREY, LIMIT)
    assert found.shape == (28, 28)
    assert found.max() == 255
    if size == (60, 30):  # twice as wide as high: seven black rows above and below
        assert found[:7].max() == 0
        assert found[7:21].min() == 255


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_three_formats_are_read(kind: str) -> None:
    data = file_of(PillowImage.new("RGB", (28, 28), (255, 255, 255)), kind)
    assert read(data, (3, 28, 28), LIMIT).min() >= 254


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "EPS", "PPM"])
def test_other_formats_are_not(kind: str) -> None:
    with pytest.raises(UnreadableImageError):
        read(file_of(PillowImage.new("RGB", (28, 28)), kind), GREY, LIMIT)


def test_a_small_file_of_many_pixels_is_refused_before_decoding() -> None:
    data = file_of(PillowImage.new("1", (9000, 9000)))
    assert len(data) < 20_000
    with pytest.raises(BodyTooLargeError, match="81000000 pixels"):
        read(data, GREY, LIMIT)


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
        read(data, GREY, LIMIT)


# What a picture is turned into, by its kind. Expected are levels of a 28 x 28 picture whose left
# half and right half are plain.


def deep_png(colour_type: int, *samples: tuple[int, ...]) -> bytes:
    """A 16-bit PNG of 28 x 28 in two halves, which Pillow cannot write."""
    row = b"\0" + b"".join(struct.pack(f">{len(s)}H", *s) * 14 for s in samples)
    header = struct.pack(">IIBBBBB", 28, 28, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row * 28)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def halves(mode: str, left: Any, right: Any) -> PillowImage.Image:
    picture = PillowImage.new(mode, (28, 28), left)
    picture.paste(right, (14, 0, 28, 28))
    return picture


def palette(*colours: int, clear: int | None = None) -> bytes:
    picture = halves("P", 0, 1)
    picture.putpalette([level for colour in colours for level in (colour,) * 3])
    return file_of(picture) if clear is None else file_of(picture, transparency=clear)


BLACK_INK = file_of(halves("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)))
MODES: dict[str, tuple[bytes, Fitting, tuple[int, int], list[str]]] = {
    "1 bit": (file_of(halves("1", 0, 1)), AS_IT_IS, (0, 255), []),
    "grey": (file_of(halves("L", 10, 200)), AS_IT_IS, (10, 200), []),
    "rgb": (file_of(halves("RGB", (255, 0, 0), (0, 0, 255))), AS_IT_IS, (76, 29), []),
    "palette": (palette(30, 220), AS_IT_IS, (30, 220), []),
    "palette, one clear": (palette(30, 220, clear=1), AS_IT_IS, (30, 0), ["alpha over black"]),
    "grey, alpha": (
        file_of(halves("LA", (200, 128), (200, 255))),
        *(AS_IT_IS, (100, 200), ["alpha over black"]),
    ),
    "opaque alpha": (file_of(halves("RGBA", (9, 9, 9, 255), (8, 8, 8, 255))), AS_IT_IS, (9, 8), []),
    "16 bit grey": (
        file_of(PillowImage.fromarray(np.full((28, 28), 32896, np.uint16))),
        *(AS_IT_IS, (128, 128), ["16 bits scaled"]),
    ),
    "16 bit colour": (deep_png(2, (65535,) * 3, (32896,) * 3), AS_IT_IS, (255, 128), []),
    "16 bit grey, alpha": (
        deep_png(4, (65535, 65535), (65535, 32896)),
        *(AS_IT_IS, (255, 128), ["alpha over black"]),
    ),
    "16 bit colour, alpha": (
        deep_png(6, (65535,) * 4, (*(65535,) * 3, 0)),
        *(AS_IT_IS, (255, 0), ["alpha over black"]),
    ),
    "cmyk": (
        file_of(halves("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)), "JPEG", quality=100),
        *(AS_IT_IS, (255, 0), []),
    ),
    "grey jpeg": (file_of(halves("L", 0, 255), "JPEG", quality=100), AS_IT_IS, (0, 255), []),
    "webp, alpha": (
        file_of(halves("RGBA", (255, 255, 255, 0), (255, 255, 255, 255)), "WEBP", lossless=True),
        *(AS_IT_IS, (0, 255), ["alpha over black"]),
    ),
    "black ink on nothing": (BLACK_INK, INVERT, (0, 255), ["alpha over white", "inverted"]),
    "black ink on nothing, to be inverted": (
        *(BLACK_INK, Fitting("yes"), (0, 255), ["alpha over white", "inverted"]),
    ),
    "black ink on nothing, as it is": (BLACK_INK, AS_IT_IS, (0, 0), ["alpha over black"]),
    "white ink on nothing": (
        file_of(halves("RGBA", (255, 255, 255, 0), (255, 255, 255, 255))),
        *(INVERT, (0, 255), ["alpha over black"]),
    ),
    "black ink on a clear colour": (
        palette(0, 0, clear=0),
        *(INVERT, (0, 255), ["alpha over white", "inverted"]),
    ),
    "dark ink on a clear 16-bit level": (
        file_of(halves("I;16", 40000, 0), transparency=40000),
        *(INVERT, (0, 255), ["16 bits scaled", "alpha over white", "inverted"]),
    ),
    "inverted": (file_of(halves("L", 10, 200)), Fitting("yes"), (245, 55), ["inverted"]),
}


@pytest.mark.parametrize("kind", MODES)
def test_every_kind_of_picture_becomes_the_levels_that_are_promised(kind: str) -> None:
    data, how, levels, steps = MODES[kind]
    found = read_upload(data, GREY, LIMIT, how)
    assert list(found.steps) == steps
    expected = np.repeat(np.array([levels], dtype=int), 14, axis=1).repeat(28, axis=0)
    np.testing.assert_allclose(found.image, expected, atol=1 if "jpeg" in kind else 0)
    colours = read_upload(data, (3, 28, 28), LIMIT, how).image
    assert colours.shape == (28, 28, 3)
    assert str(found) == ", ".join(["28x28", *steps])


def seven(size: int = 200, ink: int = 0, paper: int = 255, at: tuple[int, int] = (0, 0)) -> Any:
    """A seven drawn with a pen, as a program for drawing gives it."""
    picture = PillowImage.new("L", (size, size), paper)
    pen = ImageDraw.Draw(picture)
    x, y = at
    pen.line([(x + 60, y + 50), (x + 140, y + 50), (x + 90, y + 150)], ink, width=10)
    return picture


@pytest.mark.parametrize("size", [40, 113, 300, 1200])
@pytest.mark.parametrize(("ground", "ink"), [(255, 0), (0, 255), (180, 60), (40, 230)])
def test_a_ground_is_light_if_the_edge_of_the_picture_is(size: int, ground: int, ink: int) -> None:
    picture = seven(200, ink, ground).resize((size, size))
    found = made(picture, INVERT)
    assert ("inverted" in found.steps) == (ground >= 128)
    assert np.median(found.image) < 128


def test_ink_is_centred_as_mnist_was_wherever_it_stood() -> None:
    images = []
    for at in ((0, 0), (-50, -40), (50, 40)):
        found = made(seven(ink=0, at=at), AUTO)
        assert found.steps == ("inverted", "centred")
        image = found.image.astype(float)
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
    found = made(PillowImage.fromarray(drawn.clip(0, 255).astype(np.uint8)), AUTO)
    assert found.steps == ("inverted", "centred")
    clean = made(seven(), AUTO).image
    assert (np.abs(found.image.astype(int) - clean) < 60).mean() > 0.97
    assert np.median(found.image) == 0


def test_what_has_the_models_size_and_ground_already_is_not_touched() -> None:
    digit = np.asarray(made(seven(), AUTO).image)
    shifted = np.roll(digit, 3, axis=0)
    for image in (digit, shifted, random_image(28, 28) // 3):
        found = read_upload(to_png(image), GREY, LIMIT, AUTO)
        np.testing.assert_array_equal(found.image, image)
        assert found.steps == ()
        dark = read_upload(to_png(255 - image), GREY, LIMIT, AUTO)
        np.testing.assert_array_equal(dark.image, image)
        assert dark.steps == ("inverted",)
    asked = read_upload(to_png(shifted), GREY, LIMIT, Fitting("auto", "yes"))
    assert asked.steps == ("centred",)
    rows = asked.image.sum(axis=1, dtype=float)
    assert abs((rows * np.arange(28)).sum() / rows.sum() - 14) <= 0.51


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 4096), (4096, 1), (3, 3), (100, 30)])
@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_a_picture_without_ink_is_fitted(size: tuple[int, int], level: int) -> None:
    for how in (AUTO, Fitting("no", "yes"), Fitting("yes", "yes", True)):
        found = made(PillowImage.new("L", size, level), how)
        assert "centred" not in found.steps
        assert found.image.shape == (28, 28)


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 32, 32), (3, 64, 64)])
def test_ink_of_any_form_fits_any_model(shape: tuple[int, int, int]) -> None:
    for box in (
        (0, 0, 3, 3),
        (10, 0, 11, 300),
        (0, 5, 300, 6),
        (1, 1, 299, 299),
        (297, 297, 300, 300),
    ):
        picture = PillowImage.new("L", (300, 300))
        picture.paste(255, box)
        found = read_upload(file_of(picture), shape, LIMIT, Fitting("no", "yes"))
        assert found.steps == ("centred",)
        assert found.image.shape[:2] == shape[1:]
        assert found.image.max() > 200


def test_the_data_of_a_model_say_what_is_done_by_itself() -> None:
    assert fitting_for({"source": "mnist", "fit": "pad"}) == Fitting("auto", "auto", False)
    assert fitting_for({"source": "fashion-mnist"}) == Fitting("auto", "no", False)
    assert fitting_for({"source": "cifar10"}) == fitting_for({}) == Fitting("no", "no", False)
    assert fitting_for({"source": "folder", "fit": "crop"}, "yes", "no") == Fitting(
        "yes", "no", True
    )


def test_of_many_pictures_the_first_are_told() -> None:
    pictures = [Upload(np.zeros((1, 1), np.uint8), 5, 5, ("fitted",))] * 20
    told = summary(pictures)
    assert told.startswith("5x5, fitted; 5x5, fitted; ")
    assert told.endswith("; and 12 more")
    assert summary(pictures[:1]) == "5x5, fitted"


def test_a_large_picture_is_read_within_bounds_of_memory() -> None:
    """Sixteen million pixels, as many as the service reads by default, with every step."""
    picture = seven(200).resize((4000, 4000)).convert("LA")
    tracemalloc.start()
    found = read_upload(file_of(picture), GREY, 16_000_000, AUTO)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.steps == ("inverted", "centred")
    assert most < 150e6  # of Python's and numpy's; Pillow has its own
