"""Talking to a service that runs in a process of its own, without the time that httpx takes to make
a client."""

import http.client
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import urlsplit


class Response(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float  # since the request was sent


def until(true: Callable[[], object], within_s: float = 60) -> None:
    """Wait for something that no event tells."""
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.01)


def connect(url: str, source: str = "") -> socket.socket:
    host, _, port = urlsplit(url).netloc.partition(":")
    return socket.create_connection((host, int(port)), timeout=60, source_address=(source, 0))


def post(path: str, **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: test", *lines, "", ""]).encode()


def read(connection: socket.socket, sent: float | None = None) -> Response:
    """The next response.

    Args:
        connection: On which a request was sent.
        sent: When, on the monotonic clock; None = now.
    """
    sent = time.monotonic() if sent is None else sent
    response = http.client.HTTPResponse(connection)
    response.begin()
    body = response.read()
    return Response(response.status, response.headers, body, time.monotonic() - sent)


def get(url: str, path: str) -> tuple[int, str]:
    """Status and text."""
    with connect(url) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        response = read(connection)
        return response.status, response.body.decode("latin-1")


def at_once(
    url: str, paths: list[str], meanwhile: Callable[[], object] = lambda: None
) -> list[Response]:
    """POST to all paths at the same time; each response is read when it comes."""

    def finish(connection: socket.socket) -> Response:
        with connection:
            return read(connection, sent)

    connections = [connect(url) for _ in paths]
    with ThreadPoolExecutor(len(paths)) as threads:
        sent = time.monotonic()
        for connection, path in zip(connections, paths, strict=True):
            connection.sendall(post(path))
        responses = [threads.submit(finish, connection) for connection in connections]
        meanwhile()
        return [response.result() for response in responses]


def counted(url: str, name: str, having: str = "") -> float:
    """A metric, summed over its labels; ``having`` selects lines."""
    lines = get(url, "/metrics")[1].splitlines()
    found = [line for line in lines if re.match(rf"{name}[{{ ]", line) and having in line]
    return sum(float(line.split()[-1]) for line in found)
