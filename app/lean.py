"""The usual form of /generate without FastAPI's general machinery.

Solving six parameters costs FastAPI about as much as the network costs the CPU (docs/log.md). So a
request whose query is plain, whose body is empty and who takes a PNG is read here, by one regular
expression a value; whatever is unusual, wrong or rare falls through to the full route, which is the
one that the OpenAPI describes. Both end in the same service call and the same reply.
"""

import re
from collections.abc import Iterable
from types import SimpleNamespace
from typing import NamedTuple

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app import seeds
from app.middleware import stopped_if_client_leaves
from app.negotiation import PNG
from app.parameters import TIMEOUT_HEADER
from app.replies import generated_reply
from app.service import Service

_PATH = "/generate"
_ROUTE = SimpleNamespace(path=_PATH)  # for the metrics, as the router leaves it
_NAME = re.compile(rb"[A-Za-z0-9._-]{1,64}")  # of a model or label: nothing that needs decoding
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,15}")
_NAMES, _NUMBERS = (b"model", b"label"), (b"n", b"seed")
_TIMEOUT = TIMEOUT_HEADER.lower().encode()
_TIMEOUT_MS = re.compile(rb"[1-9][0-9]{0,15}")
_PNG_ACCEPTED = (b"*/*", b"image/png", b"image/*")


class _Plain(NamedTuple):
    model: str | None
    label: str | None
    n: int
    seed: int | None


def _are_plain(headers: Iterable[tuple[bytes, bytes]], found: dict[bytes, bytes]) -> bool:
    """Whether the headers ask for nothing but a PNG, once, and announce no body.

    Those that count are put into ``found``.
    """
    for name, value in headers:
        if name in (b"accept", _TIMEOUT):
            if name in found:
                return False
            found[name] = value
        elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return False
    if found.get(b"accept", b"*/*") not in _PNG_ACCEPTED:
        return False
    return _TIMEOUT not in found or bool(_TIMEOUT_MS.fullmatch(found[_TIMEOUT]))


def _parse(query: bytes, max_n: int) -> _Plain | None:
    """The parameters of a plain query; None = let the full route look at it."""
    found: dict[bytes, bytes] = {}
    for part in query.split(b"&") if query else ():
        name, _, value = part.partition(b"=")
        pattern = _NAME if name in _NAMES else _NUMBER if name in _NUMBERS else None
        if pattern is None or name in found or not pattern.fullmatch(value):
            return None
        found[name] = value
    n = int(found.get(b"n", b"1"))
    seed = int(found[b"seed"]) if b"seed" in found else None
    if not 1 <= n <= max_n or (seed is not None and seed > seeds.MAX_SEED):
        return None
    model, label = found.get(b"model"), found.get(b"label")
    return _Plain(model.decode() if model else None, label.decode() if label else None, n, seed)


class LeanGenerate:
    """Plain ASGI around the application. Errors of the service pass through to its caller.

    Args:
        app: The full application.
        max_n: Images of one request at most.
    """

    def __init__(self, app: ASGIApp, max_n: int) -> None:
        self.app = app
        self.max_n = max_n

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plain = None
        headers: dict[bytes, bytes] = {}
        if (
            scope["type"] == "http"
            and scope["path"] == _PATH
            and scope["method"] in ("GET", "POST")
            and _are_plain(scope["headers"], headers)
        ):
            plain = _parse(scope["query_string"], self.max_n)
        if plain is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        service: Service = scope["app"].state.service
        timeout_ms = int(headers[_TIMEOUT]) if _TIMEOUT in headers else None
        with service.accepted(timeout_ms) as deadline:
            order = service.order(*plain, deadline)
            async with stopped_if_client_leaves(Request(scope, receive)):
                made = await service.generate(order)
            reply = generated_reply(PNG, made, plain.label, plain.seed is not None, scale=1)
        await reply(scope, receive, send)
