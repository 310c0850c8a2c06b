"""The usual form of /generate without FastAPI's general machinery.

Solving six parameters costs FastAPI about as much as the network costs the CPU (docs/log.md). So a
request whose query is plain, whose body is empty and who takes a PNG is read here, by one regular
expression a value; whatever is unusual, wrong or rare falls through to the full route, which is the
one that the OpenAPI describes. Both end in the same service call and the same reply.
"""

import re
from types import SimpleNamespace
from typing import NamedTuple

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app import seeds
from app.middleware import stopped_if_client_leaves
from app.negotiation import PNG
from app.replies import generated_reply

_PATH = "/generate"
_ROUTE = SimpleNamespace(path=_PATH)  # for the metrics, as the router leaves it
_NAME = re.compile(rb"[A-Za-z0-9._-]{1,64}")  # of a model or label: nothing that needs decoding
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,15}")
_NAMES, _NUMBERS = (b"model", b"label"), (b"n", b"seed")
_PNG_ACCEPTED = (b"*/*", b"image/png", b"image/*")


class _Plain(NamedTuple):
    model: str | None
    label: str | None
    n: int
    seed: int | None


def _is_plain(scope: Scope) -> bool:
    """Whether the headers ask for nothing but a PNG and announce no body."""
    accepts = 0
    for name, value in scope["headers"]:
        if name == b"accept":
            accepts += 1
            if accepts > 1 or value not in _PNG_ACCEPTED:
                return False
        elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return False
    return True


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
        if (
            scope["type"] == "http"
            and scope["path"] == _PATH
            and scope["method"] in ("GET", "POST")
            and _is_plain(scope)
        ):
            plain = _parse(scope["query_string"], self.max_n)
        if plain is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        async with stopped_if_client_leaves(Request(scope, receive)):
            made = await scope["app"].state.service.generate(*plain)
        reply = generated_reply(PNG, made, plain.label, plain.seed is not None, scale=1)
        await reply(scope, receive, send)
