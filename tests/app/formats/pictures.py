"""Pictures as people upload them."""

from io import BytesIO
from typing import Any

from PIL import Image as PillowImage
from PIL import ImageDraw

from app.fitting.adapt import AS_IT_IS, Fitting
from app.formats.reading.picture_header import DecodingLimits
from app.formats.reading.uploads import Upload, read_upload

GREY = (1, 28, 28)  # the shape of a model
LIMITS = DecodingLimits(max_pixels=10_000_000)
AUTO = Fitting("auto", "auto")
INVERT = Fitting("auto")


def file_of(picture: PillowImage.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def upload_of(picture: PillowImage.Image | bytes, fitting: Fitting = AS_IT_IS) -> Upload:
    data = picture if isinstance(picture, bytes) else file_of(picture)
    return read_upload(data, GREY, LIMITS, fitting)


def seven(
    size: int = 200, ink: int = 0, paper: int = 255, at: tuple[int, int] = (0, 0)
) -> PillowImage.Image:
    """A seven drawn with a pen, as a program for drawing gives it."""
    picture = PillowImage.new("L", (size, size), paper)
    pen = ImageDraw.Draw(picture)
    x, y = at
    pen.line([(x + 60, y + 50), (x + 140, y + 50), (x + 90, y + 150)], ink, width=10)
    return picture
