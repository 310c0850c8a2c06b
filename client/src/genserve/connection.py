"""Where the service is and how to reach it: address, key, proxies, timeouts."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any, TypeVar

import httpx

from genserve.errors import GenserveError, ProblemError, UnreachableError, parse_problem
from genserve.version import __version__

T = TypeVar("T")

URL_VARIABLE, KEY_VARIABLE = "GENSERVE_URL", "GENSERVE_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
# A resumed dataset is silent while the service makes again what has arrived already.
_DATASET_SILENCE_S = 600.0
_CONNECT_S = 10.0


def _parse_url(url: str) -> httpx.URL:
    """The address of a service.

    Raises:
        GenserveError: it is not one.
    """
    if re.fullmatch(r"[^/@]+:\d+(/.*)?", url):  # 127.0.0.1:8400
        url = f"http://{url}"
    try:
        parsed = httpx.URL(url.rstrip("/"))
        complete = parsed.scheme in ("http", "https") and parsed.host
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: not a host's name
        raise GenserveError(f"{url!r} is not an address of a service: {error}") from error
    if not complete or parsed.query or parsed.fragment or (parsed.port or 1) > 65535:
        raise GenserveError(f"{url!r} is not an address of a service, such as {DEFAULT_URL}")
    return parsed


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return False


class Connection:
    """Settings that both clients share, and httpx's errors turned into the client's.

    Args:
        url, key, timeout_s: As for ``Client``.

    Raises:
        GenserveError: address or key are not usable.
    """

    def __init__(self, url: str | None, key: str | None, timeout_s: float) -> None:
        parsed = _parse_url(url or os.environ.get(URL_VARIABLE) or DEFAULT_URL)
        self.url = str(parsed.copy_with(userinfo=b""))  # for messages, without a password
        key = key or os.environ.get(KEY_VARIABLE)
        headers = {"user-agent": f"genserve/{__version__}"}
        if key:
            if not (key.isascii() and key.isprintable()):
                raise GenserveError("the key has characters that a header cannot hold")
            headers["authorization"] = f"Bearer {key}"
        connect_s = min(_CONNECT_S, timeout_s)
        self._arguments: dict[str, Any] = {
            "base_url": parsed,
            "headers": headers,
            # A proxy of the environment cannot reach this machine's own addresses.
            "trust_env": not _is_this_machine(parsed.host),
            "timeout": httpx.Timeout(timeout_s, connect=connect_s),
        }
        self.dataset_timeout = httpx.Timeout(_DATASET_SILENCE_S, connect=connect_s)

    def open(self, client: Callable[..., T]) -> T:
        """``httpx.Client`` or ``httpx.AsyncClient`` with these settings.

        Raises:
            GenserveError: the environment names proxies or certificates that are not usable.
        """
        try:
            return client(**self._arguments)
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
            raise GenserveError(
                "the environment's proxies (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) or certificates "
                f"(SSL_CERT_FILE, SSL_CERT_DIR) are not usable: {error}"
            ) from error

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Turn what httpx raises into ``UnreachableError``."""
        try:
            yield
        except httpx.HTTPError as error:
            raise UnreachableError(self.unreachable(error)) from error

    def unreachable(self, error: Exception) -> str:
        """Message for an exception of httpx."""
        message = f"no complete response from {self.url}: {str(error) or type(error).__name__}"
        if isinstance(error, httpx.ConnectError):
            message += (
                f"; is the service running there? --url or {URL_VARIABLE} sets another address"
            )
        return message


def problem_in(response: httpx.Response) -> ProblemError:
    """The problem in a response that was read and has no status 2xx."""
    return parse_problem(
        response.status_code,
        response.reason_phrase,
        response.headers,
        response.content,
        now=time.time(),
    )
