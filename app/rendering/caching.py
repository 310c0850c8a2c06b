"""Entity tags and Cache-Control of images that a seed decides."""

import hashlib
import re
from collections.abc import Callable

from app.engines.store import StoredModel
from app.formats.pixels import ENCODER_VERSIONS

Identity = Callable[[StoredModel], str | None]  # ``Service.identity``

IMMUTABLE = "public, max-age=31536000, immutable"  # a year: for addresses that pin the model
_TAG = re.compile(r'"[^"]*"')


def entity_tag(*parts: str) -> str:
    """A strong entity tag, which changes if any part does: name all that the bytes depend on."""
    return f'"{hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]}"'


def etag_matches(if_none_match: str, etag: str) -> bool:
    """Whether If-None-Match names the tag (RFC 9110, section 13.1.2)."""
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def etag_and_cache_control(
    location: str, media: str, model: StoredModel, pinned: bool, identity: Identity
) -> tuple[str | None, str]:
    """ETag and Cache-Control of seeded images, known before anything is computed.

    Args:
        location: Their canonical address.
        media: Type of the response.
        model: That generates them.
        pinned: Whether the request named the model's digest: only then are they the same for ever.
        identity: ``Service.identity``.

    Returns:
        The ETag, None if the device does not repeat its results; and Cache-Control.
    """
    if (pixels_depend_on := identity(model)) is None:
        return None, "no-cache"
    etag = entity_tag(location, media, pixels_depend_on, ENCODER_VERSIONS)
    return etag, IMMUTABLE if pinned else "no-cache"
