"""Remembered refusals: what a full queue has just refused is refused again without asking it.

In an overload, thousands of requests arrive in one turn of the event loop, and most are alike.
While nothing in the queue has changed but by new requests, the next one of the same kind would be
refused as well; so its response is written from the last one's, with an id of its own.
"""

import asyncio
import time
from dataclasses import dataclass

from app import seeds
from app.core.telemetry.metrics import Metrics
from app.engines.rows import OperationKey
from app.errors import ServiceError
from app.http.error_response import common_lines, header_lines, problem
from app.http.fast_request import PATH, FastRequest, Respond
from app.http.middleware import new_request_id
from app.rendering.image_query import ImageQuery

_Kind = tuple[str, ImageQuery, str | None, str]  # method, query without its seed, client, root


@dataclass(slots=True)
class _Refusal:
    """One response, to be repeated."""

    key: OperationKey
    reason: str  # as the metrics have it
    status: int
    lines: bytes  # of headers, but for those with a request's id
    body: tuple[bytes, bytes]  # before and after the request's id
    repeated: int = 0  # times, not counted in the metrics yet
    seconds: float = 0.0  # from their arrivals to these responses, together


class RefusalCache:
    """Refusals of the last ``keep_s`` seconds, by kind of request.

    Args:
        metrics: Counts the repeated refusals, all of a kind together.
        keep_s: Seconds after which refusals are forgotten, and counted, whatever happens.
    """

    def __init__(self, metrics: Metrics, keep_s: float = 0.02) -> None:
        self._metrics = metrics
        self._keep_s = keep_s
        self._refusals: dict[_Kind, _Refusal] = {}
        self._changes = 0
        self._timer: asyncio.TimerHandle | None = None

    def respond(
        self,
        request: FastRequest,
        changes: int,
        respond: Respond,
        arrived: float,
    ) -> bool:
        """Refuse a request if one of its kind was refused; whether it was.

        Args:
            request: What came.
            changes: The batcher's count of changes other than new requests.
            respond: Called with the response.
            arrived: When it came, by ``time.perf_counter``.
        """
        if not self._refusals:
            return False
        if changes != self._changes:
            self.clear()
            return False
        kind = _kind(request)
        refusal = self._refusals.get(kind) if kind else None
        if refusal is None:
            return False
        refusal.repeated += 1
        refusal.seconds += time.perf_counter() - arrived
        request_id = new_request_id().encode()
        lines = refusal.lines + common_lines(request_id)
        respond(refusal.status, lines, request_id.join(refusal.body))
        return True

    def add(
        self,
        request: FastRequest,
        changes: int,
        error: ServiceError,
        key: OperationKey,
        reason: str,
    ) -> None:
        """Remember a refusal.

        Args:
            request, changes: As of ``respond``.
            error: What the request is refused with.
            key, reason: For ``Metrics.refused``. The queue's own error is not kept: its frames
                would keep the connection.
        """
        if (kind := _kind(request)) is None:
            return
        if changes != self._changes:
            self.clear()
        if not self._refusals:
            self._changes = changes
            self._timer = asyncio.get_running_loop().call_later(self._keep_s, self.clear)
        request_id = new_request_id()
        status, headers, body = problem(error, request_id, PATH, request.root)
        before, _, after = body.partition(request_id.encode())
        refusal = _Refusal(key, reason, status, header_lines(headers), (before, after))
        self._refusals[kind] = refusal

    def clear(self) -> None:
        """Count what was repeated, and forget."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        refusals, self._refusals = self._refusals, {}
        for (method, *_), refusal in refusals.items():
            if times := refusal.repeated:
                self._metrics.refused(refusal.key, refusal.reason, times)
                mean_s = refusal.seconds / times
                self._metrics.request(method, PATH, refusal.status, mean_s, times)


def _kind(request: FastRequest) -> _Kind | None:
    """What makes requests alike; None = this one needs a response of its own."""
    query = request.query
    own = request.timeout_ms, request.request_id, request.if_none_match
    if query is None or any(value is not None for value in own):
        return None
    if query.seed is not None and query.seed + query.n - 1 > seeds.MAX_SEED:
        return None  # it is wrong: trying again would not help
    return request.method, query._replace(seed=None), request.client, request.root
