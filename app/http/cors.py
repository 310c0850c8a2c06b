"""Pages of other origins that may use the service (CORS): none, unless the operator lists them.

A response depends on the Origin header then, so every one says ``Vary: Origin``, for caches; those
without an Origin too.
"""

from collections.abc import Collection
from typing import Any

from app.settings import Settings

# Of requests, beside those that need no permission.
_REQUEST_HEADERS = (
    *("Authorization", "Content-Type", "Content-Encoding", "X-Timeout-Ms", "X-Request-ID"),
    *("If-None-Match", "If-Range", "Range", "Traceparent", "Tracestate"),
    "Inference-Header-Content-Length",
)
# What a page may read of a response, beside the type, the length and how to cache it.
EXPOSED = (
    *("Accept-Encoding", "Accept-Post", "Accept-Ranges", "Allow", "Content-Disposition"),
    *("Content-Location", "Content-Range", "ETag", "Inference-Header-Content-Length"),
    *("RateLimit", "RateLimit-Policy", "Retry-After", "Server-Timing", "Vary"),
    *(
        "WWW-Authenticate",
        "X-Axes",
        "X-Model",
        "X-Picture",
        "X-Picture-Fit",
        "X-Reproducibility",
        "X-Request-ID",
        "X-Seed",
    ),
)


def default_headers(settings: Settings) -> list[tuple[str, str]]:
    """Headers of every response, those of the fast path too."""
    return [("Vary", "Origin")] if settings.allowed_origins else []


def cors_options(origins: Collection[str]) -> dict[str, Any]:
    """Arguments of Starlette's ``CORSMiddleware`` for these origins; no cookies are allowed."""
    return {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "HEAD", "POST"],
        "allow_headers": _REQUEST_HEADERS,
        "expose_headers": EXPOSED,
    }
