"""A request to the service, and how its response is parsed. Nothing here sends anything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeAlias, TypeVar

from genserve import responses
from genserve.responses import Response
from genserve.results import File, Images

T_co = TypeVar("T_co", covariant=True)

ImageFormat: TypeAlias = Literal["png", "webp", "npy", "json", "zip"]
Layout: TypeAlias = Literal["grid", "strip", "animation"]


@dataclass(frozen=True)
class Request(Generic[T_co]):
    """A request for ``Client.send``, which returns what ``parse`` makes of the response."""

    method: Literal["GET", "POST"]
    path: str
    parse: Callable[[Response], T_co]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def raw(self, format: ImageFormat = "json") -> "Request[File]":
        """The same request, with the response's body returned as it is.

        Args:
            format: That the service answers in; another is an ``InvalidResponseError``.
        """
        return replace(self, parse=responses.file(format))  # type: ignore[return-value,arg-type]


class ImagesRequest(Request[Images]):
    """A request for images."""

    def file(
        self,
        format: ImageFormat,
        *,
        layout: Layout | None = None,
        frame_ms: int | None = None,
    ) -> Request[File]:
        """The same request, answered with a file.

        Args:
            format: PNG and WebP hold several images as one picture; npy is uint8 (n, H, W[, 3]);
                a ZIP has one PNG per image.
            layout: Arrangement of several images in one PNG or WebP.
            frame_ms: Milliseconds per image of an animation.
        """
        query = {
            **self.query,
            **query_parameters(format=format, layout=layout, frame_ms=frame_ms),
        }
        return replace(self, query=query).raw(format)


def query_parameters(**values: object) -> dict[str, str]:
    """The parameters that are not None, as text; 0.1 + 0.2 is written 0.3."""
    return {
        name: format(value, ".12g") if isinstance(value, float) else str(value)
        for name, value in values.items()
        if value is not None
    }
