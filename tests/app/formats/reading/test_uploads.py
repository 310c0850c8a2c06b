"""Uploaded pictures that become a model's input."""

import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from app.errors import BodyTooLargeError, UnreadableImageError
from app.fitting.adapt import AS_IT_IS, Fitting, fitting_for
from app.formats.png import png_chunk, to_png
from app.formats.reading.picture_header import DecodingLimits
from app.formats.reading.uploads import Upload, read_upload, summary
from tests.app.formats.pictures import AUTO, GREY, INVERT, LIMITS, file_of, seven, upload_of


def random_image(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_a_picture_of_the_models_size_passes_unchanged() -> None:
    image = random_image(28, 28)
    np.testing.assert_array_equal(upload_of(to_png(image)).image, image)


def test_transparent_places_are_black() -> None:
    rgba = np.zeros((28, 28, 4), dtype=np.uint8)
    rgba[..., :3] = 255
    rgba[:14, :, 3] = 255  # the upper half is opaque white, the lower transparent white
    upload = upload_of(file_of(PillowImage.fromarray(rgba))).image
    assert upload[:14].min() == 255
    assert upload[14:].max() == 0


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    deep = np.full((28, 28), 32896, dtype=np.uint16)
    upload = upload_of(file_of(PillowImage.fromarray(deep))).image
    assert np.unique(upload).tolist() == [128]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_of_png_keeps_white_white_and_black_black(mode: str) -> None:
    half = np.zeros((28, 28), dtype=np.uint8)
    half[:, 14:] = 255
    picture = PillowImage.fromarray(half).convert(mode)
    np.testing.assert_array_equal(upload_of(file_of(picture)).image, half)


def test_a_palette_with_a_transparent_colour_is_laid_over_black() -> None:
    picture = PillowImage.new("P", (28, 28), 1)
    picture.putpalette([0, 0, 0, 255, 255, 255])
    assert upload_of(file_of(picture, transparency=1)).image.max() == 0


def test_a_photo_is_turned_upright() -> None:
    picture = PillowImage.new("L", (28, 28))
    picture.paste(255, (0, 0, 28, 10))
    exif = PillowImage.Exif()
    exif[0x0112] = 3  # upside down
    upload = upload_of(file_of(picture, "JPEG", exif=exif, quality=95)).image
    assert upload[:15].mean() < 20
    assert upload[20:].mean() > 200


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (280, 280), (60, 30)])
def test_any_shape_is_fitted_with_its_proportions(size: tuple[int, int]) -> None:
    upload = upload_of(file_of(PillowImage.new("L", size, 255))).image
    assert upload.shape == (28, 28)
    assert upload.max() == 255
    if size == (60, 30):  # twice as wide as high: seven black rows above and below
        assert upload[:7].max() == 0
        assert upload[7:21].min() == 255


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_three_formats_are_read(kind: str) -> None:
    data = file_of(PillowImage.new("RGB", (28, 28), (255, 255, 255)), kind)
    assert read_upload(data, (3, 28, 28), LIMITS).image.min() >= 254


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "EPS", "PPM"])
def test_other_formats_are_not(kind: str) -> None:
    with pytest.raises(UnreadableImageError):
        upload_of(file_of(PillowImage.new("RGB", (28, 28)), kind))


def test_a_small_file_of_many_pixels_is_refused_before_decoding() -> None:
    data = file_of(PillowImage.new("1", (9000, 9000)))
    assert len(data) < 20_000
    with pytest.raises(BodyTooLargeError, match="81 megapixels; at most 10 "):
        upload_of(data)


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
        upload_of(data)


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
    upload = upload_of(data, how)
    assert list(upload.steps) == steps
    expected = np.repeat(np.array([levels], dtype=int), 14, axis=1).repeat(28, axis=0)
    np.testing.assert_allclose(upload.image, expected, atol=1 if "jpeg" in kind else 0)
    colours = read_upload(data, (3, 28, 28), LIMITS, how).image
    assert colours.shape == (28, 28, 3)
    assert str(upload) == ", ".join(["28x28", *steps])


def test_the_training_data_decide_how_uploads_are_adapted() -> None:
    assert fitting_for({"source": "mnist", "fit": "pad"}) == Fitting("auto", "auto", False)
    assert fitting_for({"source": "fashion-mnist"}) == Fitting("auto", "no", False)
    assert fitting_for({"source": "cifar10"}) == fitting_for({}) == Fitting("no", "no", False)
    assert fitting_for({"fit": "mnist"}) == Fitting("auto", "auto", False)
    assert fitting_for({"source": "folder", "fit": "crop"}, "yes", "no") == Fitting(
        "yes", "no", True
    )


def test_the_summary_of_many_uploads_lists_the_first() -> None:
    pictures = [Upload(np.zeros((1, 1), np.uint8), 5, 5, ("fitted",))] * 20
    line = summary(pictures)
    assert line.startswith("5x5, fitted; 5x5, fitted; ")
    assert line.endswith("; and 12 more")
    assert summary(pictures[:1]) == "5x5, fitted"


@pytest.mark.slow
def test_a_large_picture_is_read_within_bounds_of_memory() -> None:
    """Sixteen million pixels, as many as the service reads by default, with every step."""
    picture = seven(200).resize((4000, 4000)).convert("LA")
    tracemalloc.start()
    upload = read_upload(file_of(picture), GREY, DecodingLimits(), AUTO)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert upload.steps == ("inverted", "centred")
    assert most < 150e6  # of Python's and numpy's; Pillow has its own
