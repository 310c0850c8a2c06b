"""``Client`` and ``AsyncClient``: send requests, retry, return parsed responses."""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from genserve import calls, download
from genserve.connection import Connection, problem_in
from genserve.dataset import Dataset
from genserve.download import Download
from genserve.request import Request
from genserve.responses import Response
from genserve.retries import BusyRetries, DownloadRetries, closed_before_response

P = ParamSpec("P")
T = TypeVar("T")


def _with_signature(method: T, function: Callable[..., object]) -> T:
    """``method`` with the function's parameters, for help()."""
    signature = inspect.signature(function)
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[self, *signature.parameters.values()]
    )
    return method


def _sync(build: Callable[P, Request[T]]) -> Callable[Concatenate["Client", P], T]:
    """The method that sends the request that ``build`` returns."""

    @wraps(build)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(build(*args, **kwargs))

    return _with_signature(method, build)


def _async(
    build: Callable[P, Request[T]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    """The same as a coroutine function."""

    @wraps(build)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(build(*args, **kwargs))

    return _with_signature(method, build)


def _sync_download(
    build: Callable[P, Download],
) -> Callable[Concatenate["Client", P], Dataset]:
    """The method that fetches the file that ``build`` returns."""

    @wraps(build)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Dataset:
        with build(*args, **kwargs) as file:
            return self._fetch(file)

    return _with_signature(method, build)


def _async_download(
    build: Callable[P, Download],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, Dataset]]:
    """The same as a coroutine function."""

    @wraps(build)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> Dataset:
        with build(*args, **kwargs) as file:
            return await self._fetch(file)

    return _with_signature(method, build)


def _for_httpx(request: Request[T]) -> dict[str, Any]:
    """A request as arguments of httpx."""
    return {
        "method": request.method,
        "url": request.path,
        "params": request.query or None,
        "headers": dict(request.headers),
        "content": request.body,
    }


class Client:
    """Client of a Genserve service.

    ``with Client() as client: client.generate(label=7, n=4, seed=42)``. Several threads may share
    one client.

    Args:
        url: Of the service; None = GENSERVE_URL from the environment, else http://127.0.0.1:8000.
        key: API key, sent as a bearer token; None = GENSERVE_KEY from the environment, if set.
        timeout_s: Seconds of silence after which a response is given up.
        retries: Retries at most while the service is busy (429, 503) and says when to retry.
        longest_wait_s: Seconds to wait for that in one call, at most.

    Raises:
        GenserveError: by every method: ``ProblemError`` if the service refuses or fails,
            ``UnreachableError`` if nothing answers, ``InvalidResponseError`` if another program
            answers.
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
        self._connection = Connection(url, key, timeout_s)
        self._retries = partial(BusyRetries, retries, longest_wait_s)
        self._http = self._connection.open(httpx.Client)

    def close(self) -> None:
        """Close the connections, as the end of a with statement does."""
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

    def send(self, request: Request[T]) -> T:
        """Send a request of ``genserve.calls`` and return the parsed response."""
        retries = self._retries()
        while True:
            with self._connection.sending():
                response = self._receive(self._http.build_request(**_for_httpx(request)))
            if response.is_success:
                return request.parse(Response(response.headers, response.content))
            time.sleep(retries.wait_s(problem_in(response)))

    def _receive(self, request: httpx.Request) -> httpx.Response:
        """Send a request, once more if the connection is closed before the response."""
        try:
            response = self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            if not closed_before_response(error):
                raise
            response = self._http.send(request, stream=True)
        try:
            response.read()
        finally:
            response.close()
        return response

    def _fetch(self, download: Download) -> Dataset:
        """Complete a download, resuming it where it is cut."""
        retries = DownloadRetries(self._connection, download, self._retries())
        while True:
            try:
                with self._http.stream(**retries.request()) as response:
                    if response.is_success:
                        download.begin(response.status_code, response.headers)
                        for chunk in response.iter_raw():
                            download.write(chunk)
                        return download.finish()
                    response.read()
            except httpx.HTTPError as error:
                retries.after_cut(error)
            else:
                time.sleep(retries.after_refusal(response))

    generate = _sync(calls.generate)
    encode = _sync(calls.encode)
    decode = _sync(calls.decode)
    reconstruct = _sync(calls.reconstruct)
    interpolate = _sync(calls.interpolate)
    traverse = _sync(calls.traverse)
    verify = _sync(calls.verify)
    models = _sync(calls.models)
    model = _sync(calls.model)
    status = _sync(calls.status)
    dataset = _sync_download(download.dataset)


class AsyncClient:
    """``Client`` for asyncio: the same methods as coroutines.

    ``async with AsyncClient() as client: await client.generate(label=7)``.

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
        self._connection = Connection(url, key, timeout_s)
        self._retries = partial(BusyRetries, retries, longest_wait_s)
        self._http = self._connection.open(httpx.AsyncClient)

    async def close(self) -> None:
        """Close the connections, as the end of a with statement does."""
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

    async def send(self, request: Request[T]) -> T:
        """Send a request of ``genserve.calls`` and return the parsed response."""
        retries = self._retries()
        while True:
            with self._connection.sending():
                response = await self._receive(self._http.build_request(**_for_httpx(request)))
            if response.is_success:
                return request.parse(Response(response.headers, response.content))
            await asyncio.sleep(retries.wait_s(problem_in(response)))

    async def _receive(self, request: httpx.Request) -> httpx.Response:
        """Send a request, once more if the connection is closed before the response."""
        try:
            response = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            if not closed_before_response(error):
                raise
            response = await self._http.send(request, stream=True)
        try:
            await response.aread()
        finally:
            await response.aclose()
        return response

    async def _fetch(self, download: Download) -> Dataset:
        """Complete a download, resuming it where it is cut."""
        retries = DownloadRetries(self._connection, download, self._retries())
        while True:
            try:
                async with self._http.stream(**retries.request()) as response:
                    if response.is_success:
                        download.begin(response.status_code, response.headers)
                        async for chunk in response.aiter_raw():
                            download.write(chunk)
                        return download.finish()
                    await response.aread()
            except httpx.HTTPError as error:
                retries.after_cut(error)
            else:
                await asyncio.sleep(retries.after_refusal(response))

    generate = _async(calls.generate)
    encode = _async(calls.encode)
    decode = _async(calls.decode)
    reconstruct = _async(calls.reconstruct)
    interpolate = _async(calls.interpolate)
    traverse = _async(calls.traverse)
    verify = _async(calls.verify)
    models = _async(calls.models)
    model = _async(calls.model)
    status = _async(calls.status)
    dataset = _async_download(download.dataset)
