"""Content negotiation by the Accept header (RFC 9110, section 12.5.1)."""

from functools import lru_cache

from app.errors import NotAcceptableError
from app.http.error_response import PROBLEM


def _ranges(accept: str) -> list[tuple[str, float]]:
    """Media ranges of an Accept header with their qualities; one that is no number counts as 0."""
    ranges = []
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = min(1.0, max(0.0, float(value)))
                except ValueError:
                    quality = 0.0
        if media:
            ranges.append((media, quality))
    return ranges


def _quality(offer: str, ranges: list[tuple[str, float]]) -> float:
    """The quality of the most specific range that includes the offer; 0 = none does."""
    for wanted in (offer, offer.split("/")[0] + "/*", "*/*"):
        matching = [quality for media, quality in ranges if media == wanted]
        if matching:
            return matching[0]
    return 0.0


def choose(accept: str, offers: tuple[str, ...]) -> str:
    """The media type to send: of the best quality, then first in ``offers``.

    Args:
        accept: The Accept header; empty = everything is acceptable. One that names the
            errors' type alone says nothing of what the operation sends: generated clients of
            operations without JSON write it.
        offers: Media types that the operation can send.

    Raises:
        NotAcceptableError: none is acceptable; the message lists the offers.
    """
    return (_cached_best if len(accept) <= _CACHED_LENGTH else _best)(accept, offers)


def _best(accept: str, offers: tuple[str, ...]) -> str:
    ranges = [part for part in _ranges(accept) if part[0] != PROBLEM] or [("*/*", 1.0)]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    if _quality(best, ranges) <= 0:
        raise NotAcceptableError(f"available types: {', '.join(offers)}; or leave Accept out")
    return best


_CACHED_LENGTH = 256  # characters of an Accept header that is remembered
_cached_best = lru_cache(256)(_best)  # clients repeat themselves; what raises is not kept
