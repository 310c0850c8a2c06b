"""What codec processes do: four kinds of jobs, each a value with what it takes and returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import numpy as np

from app.codec.messages import Message
from app.fitting.adapt import Fitting
from app.formats import compact_json
from app.formats.encoding import PictureEncoding
from app.formats.pixels import Image, pixel_bytes
from app.formats.reading.comparison import PixelComparison, check_comparable, compare_pixels
from app.formats.reading.picture_header import DecodingLimits, PictureHeader
from app.formats.reading.uploads import (
    Upload,
    check_upload,
    needed_pixels,
    read_small_upload,
    read_upload,
)

Result = TypeVar("Result", covariant=True)

# A file that is decoded in a thread of the process that serves: at most this large. 32 KB and
# 256 x 256 pixels take up to 4 ms on one slow core.
_CHEAP_BYTES, _CHEAP_PIXELS = 32 * 2**10, 2**16
# Where ink has to be looked for, 64 x 64 pixels take as long; 256 x 256 take 50 ms.
_CHEAP_INK_PIXELS = 2**12
# On the event loop, unless ink has to be looked for: to hand a job to a thread and to hear from it
# takes longer than to decode so little.
_TINY_BYTES, _TINY_PIXELS = 4 * 2**10, 2**12

# Bytes of memory for each byte of a JSON text: a number of four bytes becomes an object of 24, its
# place in a list, and its place in an array. A text of empty lists takes more, and is refused.
_JSON_BYTES, _JSON_FIXED = 12, 16 * 2**20


class Job(Protocol, Generic[Result]):
    """Something that takes time and memory."""

    kind: ClassVar[str]  # in messages and metrics

    @property
    def memory(self) -> int:
        """Bytes that it takes at most."""

    @property
    def cheap(self) -> bool:
        """Whether a thread of the process that serves may do it."""

    @property
    def size(self) -> int:
        """Bytes that are held while it waits."""

    def at_once(self) -> Result | None:
        """The result, where it takes the event loop some 0.1 ms; None = it would take more. Raises
        as ``run``."""

    def run(self) -> Result:
        """Do it. Raises ServiceError where the input is at fault."""

    def message(self) -> Message:
        """For ``JOBS[kind]`` in another process."""

    @staticmethod
    def result_of(message: Message) -> Result:
        """What another process returned."""


def is_cheap(header: PictureHeader, size: int) -> bool:
    """Whether a file of so many bytes takes little to decode, whatever is in it."""
    pixels = header.width * header.height
    return size <= _CHEAP_BYTES and pixels <= _CHEAP_PIXELS and not header.coefficients


def is_tiny(header: PictureHeader, size: int) -> bool:
    """Whether it takes so little that nothing is handed to a thread."""
    few = size <= _TINY_BYTES and header.width * header.height <= _TINY_PIXELS
    return few and is_cheap(header, size)


@dataclass(frozen=True)
class UploadJob:
    """An uploaded file as a model's input; see ``read_upload``.

    ``checked`` makes one.
    """

    kind: ClassVar[str] = "decode"
    data: bytes | memoryview
    shape: tuple[int, int, int]
    limits: DecodingLimits
    fitting: Fitting
    header: PictureHeader

    @classmethod
    def checked(
        cls,
        data: bytes,
        shape: tuple[int, int, int],
        limits: DecodingLimits,
        fitting: Fitting,
    ) -> "UploadJob":
        """The job for a file whose header is within bounds.

        Raises:
            UnreadableImageError, BodyTooLargeError
        """
        return cls(data, shape, limits, fitting, check_upload(data, shape, limits, fitting))

    @property
    def memory(self) -> int:
        return self.header.memory(needed_pixels(self.shape, self.fitting).jpeg_side)

    @property
    def cheap(self) -> bool:
        pixels = self.header.width * self.header.height
        few = self.fitting.center == "no" or pixels <= _CHEAP_INK_PIXELS
        return few and is_cheap(self.header, len(self.data))

    @property
    def size(self) -> int:
        return len(self.data)

    def at_once(self) -> Upload | None:
        if not is_tiny(self.header, self.size):
            return None
        how = self.shape, self.limits, self.fitting
        return read_small_upload(bytes(self.data), self.header, *how)

    def run(self) -> Upload:
        return read_upload(bytes(self.data), self.shape, self.limits, self.fitting)

    def message(self) -> Message:
        header = {"shape": self.shape, "limits": self.limits, "fitting": self.fitting}
        return Message(header, [self.data])

    @staticmethod
    def run_message(message: Message) -> Message:
        """``run`` in another process."""
        header = message.header
        upload = read_upload(
            bytes(message.parts[0]),
            tuple(header["shape"]),
            DecodingLimits(*header["limits"]),
            Fitting(*header["fitting"]),
        )
        image, *others = upload
        return Message({"shape": image.shape, "upload": others}, [image.tobytes()])

    @staticmethod
    def result_of(message: Message) -> Upload:
        image = np.frombuffer(message.parts[0], dtype=np.uint8).reshape(message.header["shape"])
        width, height, steps = message.header["upload"]
        return Upload(image, int(width), int(height), tuple(steps))


@dataclass(frozen=True)
class ComparisonJob:
    """A file's pixels beside an expected image; see ``compare_pixels``."""

    kind: ClassVar[str] = "compare"
    data: bytes
    expected: Image
    scale: int
    limits: DecodingLimits
    header: PictureHeader

    @classmethod
    def checked(
        cls, data: bytes, expected: Image, scale: int, limits: DecodingLimits
    ) -> "ComparisonJob":
        """The job for a file whose header is within bounds.

        Raises:
            UnreadableImageError, BodyTooLargeError
        """
        return cls(data, expected, scale, limits, check_comparable(data, limits))

    @property
    def memory(self) -> int:
        return self.header.memory(max(self.header.width, self.header.height))

    @property
    def cheap(self) -> bool:
        return is_cheap(self.header, len(self.data))

    @property
    def size(self) -> int:
        return len(self.data)

    def at_once(self) -> PixelComparison | None:
        return self.run() if is_tiny(self.header, self.size) else None

    def run(self) -> PixelComparison | None:
        return compare_pixels(self.data, self.expected, self.scale, self.limits)

    def message(self) -> Message:
        header = {"shape": self.expected.shape, "scale": self.scale, "limits": self.limits}
        return Message(header, [self.data, self.expected.tobytes()])

    @staticmethod
    def run_message(message: Message) -> Message:
        """``run`` in another process."""
        header, (data, pixels) = message
        expected = np.frombuffer(pixels, dtype=np.uint8).reshape(header["shape"])
        limits = DecodingLimits(*header["limits"])
        return Message({"found": compare_pixels(bytes(data), expected, header["scale"], limits)})

    @staticmethod
    def result_of(message: Message) -> PixelComparison | None:
        found = message.header["found"]
        return None if found is None else PixelComparison(*map(int, found))


@dataclass(frozen=True)
class EncodingJob:
    """Images to the bytes of files; see ``PictureEncoding``."""

    kind: ClassVar[str] = "encode"
    encoding: PictureEncoding

    @property
    def memory(self) -> int:
        return self.encoding.memory

    @property
    def cheap(self) -> bool:
        return self.encoding.cheap

    @property
    def size(self) -> int:
        return sum(image.size for image in self.encoding.images)

    def at_once(self) -> list[bytes] | None:
        return self.encoding.files() if self.encoding.in_line else None

    def run(self) -> list[bytes]:
        return self.encoding.files()

    def message(self) -> Message:
        images, packets = self.encoding.images, self.encoding.packets
        rest = vars(self.encoding) | {"images": (len(images), *images[0].shape), "packets": None}
        return Message(rest, [pixel_bytes(images), *packets])

    @staticmethod
    def run_message(message: Message) -> Message:
        """``run`` in another process."""
        pixels, *packets = message.parts
        images = np.frombuffer(pixels, dtype=np.uint8).reshape(message.header["images"])
        given = message.header | {"images": list(images), "packets": tuple(map(bytes, packets))}
        return Message({}, PictureEncoding(**given).files())

    @staticmethod
    def result_of(message: Message) -> list[bytes]:
        return [bytes(part) for part in message.parts]


@dataclass(frozen=True)
class JsonJob:
    """A large JSON text to its value; see ``compact_json``.

    Args:
        text: Of the body.
        most: Bytes of memory that one job may take at all.
    """

    kind: ClassVar[str] = "parse"
    text: bytes
    most: int

    @property
    def memory(self) -> int:
        return min(_JSON_FIXED + _JSON_BYTES * len(self.text), self.most)

    @property
    def cheap(self) -> bool:
        """Never: whoever parses JSON holds up all other threads."""
        return False

    @property
    def size(self) -> int:
        return len(self.text)

    def at_once(self) -> Any | None:
        return compact_json.parse(self.text) if compact_json.is_quick(self.text) else None

    def run(self) -> Any:
        return compact_json.parse(self.text)

    def message(self) -> Message:
        return Message({}, [self.text])

    @staticmethod
    def run_message(message: Message) -> Message:
        """``run`` in another process."""
        skeleton, parts = compact_json.packed(bytes(message.parts[0]))
        return Message({"value": skeleton}, parts)

    @staticmethod
    def result_of(message: Message) -> Any:
        return compact_json.unpacked(message.header["value"], message.parts)


_KINDS = (UploadJob, ComparisonJob, EncodingJob, JsonJob)
JOBS: dict[str, Callable[[Message], Message]] = {
    kind.kind: cast(Any, kind).run_message for kind in _KINDS
}
