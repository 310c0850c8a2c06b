"""When a request is sent again: to a busy service, and after a download was cut."""

from typing import Any

import httpx

from genserve.connection import Connection, problem_in
from genserve.download import Download
from genserve.errors import ProblemError, UnreachableError

_BUSY = (429, 503)
_MAX_RESUMES = 5  # per call; each response that was cut has to bring something


def closed_before_response(error: httpx.HTTPError) -> bool:
    """Whether the connection was closed before any part of a response arrived.

    That happens to an idle connection that reaches the service's keep-alive limit just as it is
    used. No operation of the service changes anything, so any request can be sent once more.
    """
    if isinstance(error, httpx.RemoteProtocolError):
        return "without sending a response" in str(error)
    return isinstance(error, httpx.ReadError | httpx.WriteError)


class BusyRetries:
    """Retries of one call while the service is busy.

    Only 429 and 503 with Retry-After count: the service did nothing for such a request, so it can
    be sent again, whatever it asks for.

    Args:
        retries: Retries at most.
        longest_wait_s: Seconds of waiting at most, all retries together.
    """

    def __init__(self, retries: int, longest_wait_s: float) -> None:
        self._retries_left, self._seconds_left = retries, longest_wait_s

    def wait_s(self, problem: ProblemError) -> float:
        """Seconds to wait before the next try.

        Raises:
            ProblemError: the one passed in, if a retry does not help or would take too long.
        """
        wait_s = problem.retry_after
        if (
            problem.status not in _BUSY
            or wait_s is None
            or not self._retries_left
            or wait_s > self._seconds_left
        ):
            raise problem
        self._retries_left -= 1
        self._seconds_left -= wait_s
        return wait_s


class DownloadRetries:
    """What both clients do between the requests for one dataset.

    Args:
        connection: To the service.
        download: The file.
        busy: Retries while the service is busy.
    """

    def __init__(self, connection: Connection, download: Download, busy: BusyRetries) -> None:
        self._connection, self._download, self._busy = connection, download, busy
        self._resumes = 0
        self._asked_again = False
        self._size_before = download.size

    def request(self) -> dict[str, Any]:
        """Arguments of httpx for the next request."""
        download = self._download
        self._size_before = download.size
        return {
            "method": "GET",
            "url": download.address,
            "params": download.query,
            "headers": download.headers,
            "timeout": self._connection.dataset_timeout,
        }

    def after_cut(self, error: httpx.HTTPError) -> None:
        """No response arrived, or only a part: return if the rest should be requested.

        Raises:
            UnreachableError: nothing arrived, it cannot be resumed, or it was cut too often.
        """
        download, arrived = self._download, self._download.size > self._size_before
        download.interrupted()
        if not arrived and not self._asked_again and closed_before_response(error):
            self._asked_again = True
            return
        self._resumes += 1
        if arrived and download.resumes and self._resumes <= _MAX_RESUMES:
            return
        message = self._connection.unreachable(error)
        if download.resumes:
            message += f"; {download.size} bytes are kept, the same call resumes there"
        raise UnreachableError(message) from error

    def after_refusal(self, response: httpx.Response) -> float:
        """Seconds to wait before the next try.

        Raises:
            ProblemError: a retry does not help.
        """
        problem = problem_in(response)
        if self._download.resumes and problem.status == 404:
            problem.detail += f"; remove {self._download.path}.part to start anew"
        return self._busy.wait_s(problem)
