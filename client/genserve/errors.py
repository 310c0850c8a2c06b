"""What can go wrong when a service is asked."""

import json
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any


class GenserveError(Exception):
    """The base of all: the message is a sentence for people."""


class UnreachableError(GenserveError):
    """No answer came, or not all of it."""


class AnswerError(GenserveError):
    """An answer came that is not what the interface promises: perhaps another program listens."""


class ProblemError(GenserveError):
    """The service says why it does not do what was asked: a problem of RFC 9457.

    Args:
        status: Of the answer.
        title: The kind of problem in words.
        detail: What is wrong, what is allowed, what to do.
        type: The kind: its page at the service, such as ``/problems/overloaded``.
        errors: The same by place: ``pointer`` and ``detail``.
        request_id: By which the service's log knows the request.
        retry_after: Seconds after which to ask again makes sense, if it can.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        type: str = "about:blank",  # noqa: A002  # RFC 9457's word
        errors: Sequence[Mapping[str, str]] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.type = status, title, detail, type
        self.errors = [dict(error) for error in errors]
        self.request_id, self.retry_after = request_id, retry_after

    def __str__(self) -> str:
        told = f"request {self.request_id}" if self.request_id else self.title
        return f"{self.detail} ({self.status}, {told})"


def problem_of(
    status: int, reason: str, headers: Mapping[str, str], body: bytes, now: float
) -> ProblemError:
    """The problem that an answer tells of, whoever gave it.

    Args:
        status: Of the answer, 300 or above.
        reason: The status in words.
        headers: Of the answer, found by names in lower case.
        body: The problem, or anything from something between here and the service.
        now: Seconds since 1970, for a Retry-After that is a date.
    """
    media = headers.get("content-type", "").partition(";")[0]
    told: dict[str, Any] = {}
    if media == "application/problem+json":
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        told = found if isinstance(found, dict) else {}
    else:
        reason += f": not an answer of Genserve ({media or 'no Content-Type'})"
        if 300 <= status < 400 and "location" in headers:  # followed nowhere: it may drop the key
            reason += f"; it points to {headers['location']!r}: is the service's address there?"
    errors = told.get("errors")
    return ProblemError(
        status,
        str(told.get("title", reason)),
        str(told.get("detail", reason)),
        type=str(told.get("type", "about:blank")),
        errors=errors if isinstance(errors, list) else (),
        request_id=headers.get("x-request-id"),
        retry_after=_seconds(headers.get("retry-after"), now),
    )


def _seconds(retry_after: str | None, now: float) -> float | None:
    """The header Retry-After, which is a number of seconds or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except ValueError:
        return None
