"""Exceptions of the client."""

import json
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any


class GenserveError(Exception):
    """Base class of the others. The message is a sentence for people."""


class UnreachableError(GenserveError):
    """No response arrived, or only a part of one."""


class InvalidResponseError(GenserveError):
    """The response is not what the API promises: perhaps another program listens there."""


AnswerError = InvalidResponseError  # its name in 0.1


class ProblemError(GenserveError):
    """The service refused the request or failed: a problem of RFC 9457.

    Args:
        status: HTTP status.
        title: Kind of problem in words.
        detail: What is wrong, what is allowed, what to do.
        type: Kind of problem: path of its page at the service, such as ``/problems/overloaded``.
        errors: One entry per wrong value, with ``pointer`` (where) and ``detail``.
        request_id: Identifies the request at the service.
        retry_after: Seconds after which a retry makes sense; None = a retry does not help.
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
        reference = f"request {self.request_id}" if self.request_id else self.title
        return f"{self.detail} ({self.status}, {reference})"


def parse_problem(
    status: int, reason: str, headers: Mapping[str, str], body: bytes, now: float
) -> ProblemError:
    """The problem in a response, from the service or from a proxy before it.

    Args:
        status: HTTP status, 300 or above.
        reason: The status in words.
        headers: Of the response, names in lower case.
        body: A problem document, or anything else if a proxy answered.
        now: Seconds since 1970, for a Retry-After that is a date.
    """
    media_type = headers.get("content-type", "").partition(";")[0]
    fields: dict[str, Any] = {}
    if media_type == "application/problem+json":
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        fields = document if isinstance(document, dict) else {}
    else:
        reason += f": not a response of Genserve ({media_type or 'no Content-Type'})"
        # Redirects are not followed: the key might go to another host.
        if 300 <= status < 400 and "location" in headers:
            reason += f"; it redirects to {headers['location']!r}: is that the service's address?"
    errors = fields.get("errors")
    return ProblemError(
        status,
        str(fields.get("title", reason)),
        str(fields.get("detail", reason)),
        type=str(fields.get("type", "about:blank")),
        errors=errors if isinstance(errors, list) else (),
        request_id=headers.get("x-request-id"),
        retry_after=_seconds(headers.get("retry-after"), now),
    )


def _seconds(retry_after: str | None, now: float) -> float | None:
    """The header Retry-After, a number of seconds or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except ValueError:
        return None
