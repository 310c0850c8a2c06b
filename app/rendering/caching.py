"""Entity tags and Cache-Control of images that a seed decides."""

import hashlib
import re
from typing import Protocol

from app.engines.store import StoredModel
from app.formats.pixels import ENCODER_VERSIONS


class Grader(Protocol):
    """Says how well a model's images repeat; the service."""

    def identity(self, model: StoredModel) -> str | None:
        """What a seed's pixels depend on; see ``Engine.identity``."""

    def reproducibility(self, model: StoredModel) -> str:
        """portable, exact or visual."""


IMMUTABLE = "public, max-age=31536000, immutable"  # a year: for addresses that pin the model
_TAG = re.compile(r'"[^"]*"')


def entity_tag(*parts: str) -> str:
    """A strong entity tag, which changes if any part does: name all that the bytes depend on."""
    return f'"{hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]}"'


def etag_matches(if_none_match: str, etag: str) -> bool:
    """Whether If-None-Match names the tag (RFC 9110, section 13.1.2)."""
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def etag_and_cache_control(
    location: str, media: str, model: StoredModel, pinned: bool, grader: Grader
) -> tuple[str | None, str]:
    """ETag and Cache-Control of seeded images, known before anything is computed.

    Args:
        location: Their canonical address.
        media: Type of the response.
        model: That generates them.
        pinned: Whether the request named the model's digest: only then are they the same for ever.
        grader: The service.

    Returns:
        The ETag, None if the device does not repeat its results; and Cache-Control.
    """
    if (pixels_depend_on := grader.identity(model)) is None:
        return None, "no-cache"
    etag = entity_tag(location, media, pixels_depend_on, ENCODER_VERSIONS)
    return etag, IMMUTABLE if pinned else "no-cache"
