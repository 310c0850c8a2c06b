"""The two clients: what sends the calls of ``genserve.ask``, now or awaited."""

import asyncio
import inspect
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from genserve import ask, download
from genserve.answers import Answer
from genserve.ask import Call
from genserve.download import Dataset, Part
from genserve.errors import GenserveError, ProblemError, UnreachableError, problem_of
from genserve.version import __version__

P = ParamSpec("P")
T = TypeVar("T")

URL_VARIABLE, KEY_VARIABLE = "GENSERVE_URL", "GENSERVE_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"
_BUSY = (429, 503)
# A dataset's answer may be silent for as long as it takes the model to make what is there already.
_DATASET_SILENCE_S = 600.0
_RESUMES = 5  # cut answers in one call, each of which brought something


def _address(url: str) -> httpx.URL:
    """A service's address.

    Raises:
        GenserveError: it is none.
    """
    try:
        parsed = httpx.URL(url.rstrip("/"))
        named = parsed.scheme in ("http", "https") and parsed.host
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: a name that cannot be a host's
        raise GenserveError(f"{url!r} is no address: {error}") from error
    if not named or parsed.query or parsed.fragment or (parsed.port or 1) > 65535:
        raise GenserveError(f"{url!r} is no address such as {DEFAULT_URL}")
    return parsed


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return False


class _Settings:
    """What both clients share: where they send to, and what they make of an answer."""

    def __init__(
        self,
        url: str | None,
        key: str | None,
        timeout_s: float,
        retries: int,
        longest_wait_s: float,
    ) -> None:
        parsed = _address(url or os.environ.get(URL_VARIABLE) or DEFAULT_URL)
        # As messages show it: a password in it is nobody's business.
        self.url = str(parsed.copy_with(userinfo=b""))
        key = key or os.environ.get(KEY_VARIABLE)
        self.retries, self.longest_wait_s = retries, longest_wait_s
        headers = {"user-agent": f"genserve/{__version__}"}
        if key:
            if not (key.isascii() and key.isprintable()):
                raise GenserveError("the key has characters that no header can hold")
            headers["authorization"] = f"Bearer {key}"
        # For httpx.Client and httpx.AsyncClient
        self.arguments: dict[str, Any] = {
            "base_url": parsed,
            "headers": headers,
            # A proxy of the environment cannot reach this machine's own addresses.
            "trust_env": not _is_this_machine(parsed.host),
            "timeout": httpx.Timeout(timeout_s, connect=min(10.0, timeout_s)),
        }
        self.silence = httpx.Timeout(_DATASET_SILENCE_S, connect=min(10.0, timeout_s))

    def connected(self, client: Callable[..., T]) -> T:
        """httpx's client with the arguments.

        Raises:
            GenserveError: the environment names a proxy or certificates that are of no use.
        """
        try:
            return client(**self.arguments)
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
            raise GenserveError(
                f"the environment's proxies (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) or certificates "
                f"(SSL_CERT_FILE, SSL_CERT_DIR) are of no use: {error}"
            ) from error

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Around sending: what httpx raises becomes ours."""
        try:
            yield
        except httpx.HTTPError as error:
            raise UnreachableError(self.unreached(error)) from error

    def unreached(self, error: Exception) -> str:
        """What httpx raises, as a sentence."""
        told = f"no whole answer from {self.url}: {str(error) or type(error).__name__}"
        if isinstance(error, httpx.ConnectError):
            told += f"; does the service run there? --url or {URL_VARIABLE} names another address"
        return told

    @staticmethod
    def problem(response: httpx.Response) -> ProblemError:
        """What a read answer that is not good tells."""
        return problem_of(
            response.status_code,
            response.reason_phrase,
            response.headers,
            response.content,
            now=time.time(),
        )


class _Waits:
    """When to ask again: for 503 and 429 alone, and only as Retry-After says.

    Nothing was done for such a request, so it can be sent again, whatever it asks for.
    """

    def __init__(self, settings: _Settings) -> None:
        self._left, self._left_s = settings.retries, settings.longest_wait_s

    def before_next(self, problem: ProblemError) -> float:
        """Seconds to wait.

        Raises:
            ProblemError: asking again is of no use, or would take too long.
        """
        wait_s = problem.retry_after
        if problem.status not in _BUSY or wait_s is None or not self._left or wait_s > self._left_s:
            raise problem
        self._left -= 1
        self._left_s -= wait_s
        return wait_s


def _request(call: Call[T]) -> dict[str, Any]:
    """For httpx."""
    return {
        "method": call.method,
        "url": call.path,
        "params": call.query or None,
        "headers": dict(call.headers),
        "content": call.body,
    }


class _Download:
    """What both clients do between the requests for one file."""

    def __init__(self, settings: _Settings, part: Part) -> None:
        self._settings, self._part = settings, part
        self._waits = _Waits(settings)
        self._resumes = 0
        self._had = part.size

    def request(self) -> dict[str, Any]:
        """For httpx."""
        part = self._part
        self._had = part.size
        return {
            "method": "GET",
            "url": part.address,
            "params": part.query,
            "headers": part.headers,
            "timeout": self._settings.silence,
        }

    def cut(self, error: Exception) -> None:
        """No answer, or not all of it: return to ask for the rest, if some of it came."""
        part, came = self._part, self._part.size > self._had
        part.cut()
        self._resumes += 1
        if came and part.resumes and self._resumes <= _RESUMES:
            return
        kept = f"; {part.size} bytes are kept, the same call goes on there" if part.resumes else ""
        raise UnreachableError(f"{self._settings.unreached(error)}{kept}") from error

    def refused(self, response: httpx.Response) -> float:
        """Seconds to wait before asking again.

        Raises:
            ProblemError: asking again is of no use.
        """
        problem = self._settings.problem(response)
        if self._part.resumes and problem.status == 404:
            problem.detail += f"; remove {self._part.path}.part to begin anew"
        return self._waits.before_next(problem)


def _sync(make: Callable[P, Call[T]]) -> Callable[Concatenate["Client", P], T]:
    """The method that sends what ``make`` describes."""

    @wraps(make)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(make(*args, **kwargs))

    return _as_method(method, make)


def _async(
    make: Callable[P, Call[T]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    """The same, awaited."""

    @wraps(make)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(make(*args, **kwargs))

    return _as_method(method, make)


def _sync_file(make: Callable[P, Part]) -> Callable[Concatenate["Client", P], Dataset]:
    """The method that fills what ``make`` begins."""

    @wraps(make)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Dataset:
        with make(*args, **kwargs) as part:
            course = _Download(self._settings, part)
            while True:
                try:
                    with self._http.stream(**course.request()) as response:
                        if response.is_success:
                            part.begin(response.status_code, response.headers)
                            for chunk in response.iter_raw():
                                part.write(chunk)
                            return part.finish()
                        response.read()
                except httpx.HTTPError as error:
                    course.cut(error)
                else:
                    time.sleep(course.refused(response))

    return _as_method(method, make)


def _async_file(
    make: Callable[P, Part],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, Dataset]]:
    """The same, awaited."""

    @wraps(make)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> Dataset:
        with make(*args, **kwargs) as part:
            course = _Download(self._settings, part)
            while True:
                try:
                    async with self._http.stream(**course.request()) as response:
                        if response.is_success:
                            part.begin(response.status_code, response.headers)
                            async for chunk in response.aiter_raw():
                                part.write(chunk)
                            return part.finish()
                        await response.aread()
                except httpx.HTTPError as error:
                    course.cut(error)
                else:
                    await asyncio.sleep(course.refused(response))

    return _as_method(method, make)


def _as_method(method: T, make: Callable[..., object]) -> T:
    """With the signature that help() is to show."""
    told = inspect.signature(make)
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = told.replace(parameters=[self, *told.parameters.values()])  # type: ignore[attr-defined]
    return method


class Client:
    """Asks a service, and waits for the answers.

    ``with Client() as client: client.generate(label=7, n=4, seed=42)``. One client may be used by
    several threads.

    Args:
        url: Of the service; none = the environment's GENSERVE_URL, else http://127.0.0.1:8000.
        key: Sent as a bearer token; none = the environment's GENSERVE_KEY, if there is one.
        timeout_s: Seconds of silence after which an answer is given up.
        retries: How often to ask again when the service is busy (503, 429) and says when to.
        longest_wait_s: Seconds to wait for that in one call, at most.

    Raises:
        GenserveError: of every method: ProblemError when the service says no, UnreachableError when
            nothing answers, AnswerError when something else than Genserve does.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 5,
        longest_wait_s: float = 60.0,
    ) -> None:
        self._settings = _Settings(url, key, timeout_s, retries, longest_wait_s)
        self._http = self._settings.connected(httpx.Client)

    def close(self) -> None:
        """Close the connections; the end of a with statement does."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, call: Call[T]) -> T:
        """Ask, and read the answer: ``client.send(ask.generate(n=4).file("png"))``."""
        waits = _Waits(self._settings)
        while True:
            with self._settings.reached():
                response = self._http.request(**_request(call))
            if response.is_success:
                return call.read(Answer(response.headers, response.content))
            time.sleep(waits.before_next(self._settings.problem(response)))

    generate = _sync(ask.generate)
    encode = _sync(ask.encode)
    decode = _sync(ask.decode)
    reconstruct = _sync(ask.reconstruct)
    interpolate = _sync(ask.interpolate)
    traverse = _sync(ask.traverse)
    verify = _sync(ask.verify)
    models = _sync(ask.models)
    model = _sync(ask.model)
    status = _sync(ask.status)
    dataset = _sync_file(download.dataset)


class AsyncClient:
    """``Client`` for asyncio: the same methods, awaited, in ``async with AsyncClient() as client``.

    Args:
        url, key, timeout_s, retries, longest_wait_s: As for ``Client``.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 5,
        longest_wait_s: float = 60.0,
    ) -> None:
        self._settings = _Settings(url, key, timeout_s, retries, longest_wait_s)
        self._http = self._settings.connected(httpx.AsyncClient)

    async def close(self) -> None:
        """Close the connections; the end of a with statement does."""
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(self, call: Call[T]) -> T:
        """Ask, and read the answer."""
        waits = _Waits(self._settings)
        while True:
            with self._settings.reached():
                response = await self._http.request(**_request(call))
            if response.is_success:
                return call.read(Answer(response.headers, response.content))
            await asyncio.sleep(waits.before_next(self._settings.problem(response)))

    generate = _async(ask.generate)
    encode = _async(ask.encode)
    decode = _async(ask.decode)
    reconstruct = _async(ask.reconstruct)
    interpolate = _async(ask.interpolate)
    traverse = _async(ask.traverse)
    verify = _async(ask.verify)
    models = _async(ask.models)
    model = _async(ask.model)
    status = _async(ask.status)
    dataset = _async_file(download.dataset)
