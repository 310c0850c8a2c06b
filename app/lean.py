"""The usual form of /generate without FastAPI's general machinery.

Solving six parameters costs FastAPI about as much as the network costs the CPU (docs/log.md). So a
request whose query is plain, whose body is empty and who takes a PNG is read here, by one regular
expression a value; whatever is unusual, wrong or rare falls through to the full route, which is the
one that the OpenAPI describes. Both end in the same service call and the same reply.
"""

import re
from collections.abc import Iterable
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import NamedTuple

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app import seeds
from app.metrics import Metrics
from app.middleware import RequestMiddleware, has_left
from app.parameters import TIMEOUT_HEADER
from app.replies import AS_PNG, images_reply, origin_of
from app.service import Service

_PATH = "/generate"
_ROUTE = SimpleNamespace(path=_PATH)  # for the metrics, as the router leaves it
# Nothing that needs decoding.
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,15}")
_PLAIN = {
    b"model": re.compile(rb"[A-Za-z0-9._-]{1,64}(@[0-9a-f]{12,64})?"),
    b"label": re.compile(rb"[A-Za-z0-9._-]{1,64}"),
    b"n": _NUMBER,
    b"seed": _NUMBER,
}
_TIMEOUT = TIMEOUT_HEADER.lower().encode()
_TIMEOUT_MS = re.compile(rb"[1-9][0-9]{0,15}")
_UNUSUAL = (b"transfer-encoding", b"if-none-match")
_PNG_ACCEPTED = (b"*/*", b"image/png", b"image/*")


class _Query(NamedTuple):
    model: str | None
    label: str | None
    n: int
    seed: int | None


def _are_plain(headers: Iterable[tuple[bytes, bytes]], found: dict[bytes, bytes]) -> bool:
    """Whether the headers ask for nothing but a PNG, once and in any case, and announce no body.

    Those that count are put into ``found``.
    """
    for name, value in headers:
        if name in (b"accept", _TIMEOUT):
            if name in found:
                return False
            found[name] = value
        elif name in _UNUSUAL or (name == b"content-length" and value != b"0"):
            return False
    if found.get(b"accept", b"*/*") not in _PNG_ACCEPTED:
        return False
    return _TIMEOUT not in found or bool(_TIMEOUT_MS.fullmatch(found[_TIMEOUT]))


def _parse(query: bytes, max_n: int) -> _Query | None:
    """The parameters of a plain query; None = let the full route look at it."""
    found: dict[bytes, bytes] = {}
    for part in query.split(b"&") if query else ():
        name, _, value = part.partition(b"=")
        pattern = _PLAIN.get(name)
        if pattern is None or name in found or not pattern.fullmatch(value):
            return None
        found[name] = value
    n = int(found.get(b"n", b"1"))
    seed = int(found[b"seed"]) if b"seed" in found else None
    if not 1 <= n <= max_n or (seed is not None and seed > seeds.MAX_SEED):
        return None
    model, label = found.get(b"model"), found.get(b"label")
    return _Query(model.decode() if model else None, label.decode() if label else None, n, seed)


class LeanGenerate:
    """Plain ASGI around the whole application, so that its layers are passed by too.

    Args:
        api: The full application; its ``state.service`` is there once it has started.
        metrics: What requests are counted in.
        max_n: Images of one request at most.
    """

    def __init__(self, api: FastAPI, metrics: Metrics, max_n: int) -> None:
        self.api = api
        self._answer = RequestMiddleware(self._generate, metrics)
        self._parse = lru_cache(1024)(partial(_parse, max_n=max_n))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = {}
        if (
            scope["type"] == "http"
            and scope["path"] == _PATH
            and scope["method"] in ("GET", "POST")
            and _are_plain(scope["headers"], headers)
            and (plain := self._parse(scope["query_string"]))
        ):
            scope["route"] = _ROUTE
            scope["plain"] = plain, int(headers[_TIMEOUT]) if _TIMEOUT in headers else None
            await self._answer(scope, receive, send)
        else:
            await self.api(scope, receive, send)

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        service: Service = self.api.state.service
        plain, timeout_ms = scope["plain"]
        with service.accepted(timeout_ms, has_left(receive)) as caller:
            order = service.order(plain.model, plain.label, plain.n, plain.seed, caller)
            made = await service.generate(order)
            pinned = plain.model is not None and "@" in plain.model
            origin = origin_of(
                order, made.samples, AS_PNG, plain.seed is not None, pinned, service.identity
            )
            reply = images_reply(AS_PNG, made.images, origin, made.timing)
        await reply(scope, receive, send)
