"""nginx and haproxy in front of a service, as docs/how-to/put-it-behind-a-proxy.md sets them up.

``python -m bench.proxies --posts 3200`` sends POSTs through both, each as long after the last as
the service keeps an idle connection, when reusing one is most likely to fail.

``python -m bench.proxies --flood 10`` has one client ask on 120 connections for 64 images each, for
for so many seconds, and another for one digit after the other: what the latter gets, how fast, how
much of that the service says it took (``Server-Timing``), and which process used the CPU meanwhile.
"""

import argparse
import asyncio
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench.processes import cpu_s, of

HOST = "127.0.0.1"
CONNECTIONS = 32  # that a proxy may keep to the service

_NGINX = """
daemon off; worker_processes 1; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
    scgi_temp_path s;
    upstream genserve {{ server {service}; keepalive 32; }}
    server {{
        listen {host}:{port};
        client_max_body_size 8m;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Prefix "";
        proxy_next_upstream error timeout non_idempotent;
        proxy_buffering off;
        location / {{ proxy_pass http://genserve; }}
        location /api/ {{
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Prefix /api;
            proxy_pass http://genserve/;
        }}
    }}
}}
"""
_HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive {half_ms}ms
    option forwardfor
    http-reuse always
    retry-on conn-failure empty-response
frontend front
    bind {host}:{port}
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request del-header X-Forwarded-Prefix
    http-request set-header X-Forwarded-Prefix /api if {{ path_beg /api/ }}
    http-request replace-path /api(/.*) \\1
    default_backend genserve
backend genserve
    server genserve {service} pool-purge-delay {eighth_ms}ms
"""
PROXIES = {"nginx": _NGINX, "haproxy": _HAPROXY}


def missing(name: str) -> str:
    """Why a proxy cannot be started; empty = it can."""
    return "" if shutil.which(name, path=_path()) else f"{name} is not installed"


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin"


@contextmanager
def running_proxy(name: str, service: str, keep_alive_s: float = 75) -> Iterator[str]:
    """Start a proxy in front of a service.

    Args:
        name: Of ``PROXIES``.
        service: Its address.
        keep_alive_s: Seconds for which it keeps an idle connection.

    Yields:
        The proxy's address; the service is there, and also under /api/.
    """
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        config = folder / "config"
        where = urlsplit(service).netloc
        half_ms, eighth_ms = round(keep_alive_s * 500), round(keep_alive_s * 125)
        values = {"host": HOST, "port": port, "half_ms": half_ms, "eighth_ms": eighth_ms}
        config.write_text(PROXIES[name].format(service=where, **values))
        program = shutil.which(name, path=_path()) or name
        command = [program, "-p", text, "-c", "config"] if name == "nginx" else [program, "-db"]
        command += ["-f", str(config)] if name == "haproxy" else []
        process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        try:
            _wait(process, port)
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()
            process.communicate(timeout=30)


def _wait(process: "subprocess.Popen[str]", port: int) -> None:
    ends = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((HOST, port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > ends:
                process.kill()
                raise RuntimeError(f"it did not start: {process.communicate()[1]}") from None
            time.sleep(0.02)
        else:
            return


async def timed_posts(url: str, posts: int, pause_s: float, seed: int = 0) -> Counter[int]:
    """Statuses of POSTs through a proxy, the ones on each of ``CONNECTIONS`` connections to it a
    pause apart, a little more or less. The proxy closing a client's connection is no error."""
    chance = random.Random(seed)
    statuses: Counter[int] = Counter()
    request = f"POST /generate?label=7 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n"
    where = urlsplit(url)

    async def close(writer: asyncio.StreamWriter | None) -> None:
        if writer:
            writer.close()
            await writer.wait_closed()

    async def client(count: int) -> None:
        reader = writer = None
        for _ in range(count):
            if writer is None or reader is None or reader.at_eof():
                await close(writer)
                reader, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.write(request.encode())
            response = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", response)
            await reader.readexactly(int(length[1]) if length else 0)
            statuses[int(response.split()[1])] += 1
            await asyncio.sleep(pause_s + chance.uniform(-0.004, 0.004))
        await close(writer)

    shares = [posts // CONNECTIONS + (i < posts % CONNECTIONS) for i in range(CONNECTIONS)]
    await asyncio.gather(*map(client, shares))
    return statuses


_FLOOD = """
import asyncio, sys

host, port, source = sys.argv[1], int(sys.argv[2]), sys.argv[3]
request = b"POST /generate?n=64 HTTP/1.1\\r\\nHost: test\\r\\nContent-Length: 0\\r\\n\\r\\n"
ready = 0

async def client():
    global ready
    reader, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
    while True:
        writer.write(request)
        await reader.readuntil(b"\\r\\n\\r\\n")
        ready += 1
        if ready == 240:
            print("flooding", flush=True)

async def again():
    while True:
        try:
            await client()
        except Exception:
            await asyncio.sleep(0.01)

async def main():
    await asyncio.gather(*(again() for _ in range(120)))

asyncio.run(main())
"""


@contextmanager
def flooding(url: str) -> Iterator[int]:
    """Another client, 127.0.0.2, which has been answered twice on each connection on average.

    Yields its process id."""
    where = urlsplit(url)
    command = [sys.executable, "-c", _FLOOD, str(where.hostname), str(where.port), "127.0.0.2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "flooding\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


async def small_client(url: str, seconds: float) -> tuple[Counter[int], list[tuple[float, float]]]:
    """What a client gets that asks for one digit after the other.

    Returns:
        The statuses, and for each answer its milliseconds and those that the service says it took,
        the quickest answers first.
    """
    where = urlsplit(url)
    statuses: Counter[int] = Counter()
    times: list[tuple[float, float]] = []
    ends = time.perf_counter() + seconds
    writer = None
    while (begun := time.perf_counter()) < ends:
        if writer is None:
            reader, writer = await asyncio.open_connection(
                where.hostname, where.port, local_addr=("127.0.0.3", 0)
            )
        writer.write(f"GET /generate?label=7 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        response = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", response)
        await reader.readexactly(int(length[1]) if length else 0)
        statuses[int(response.split()[1])] += 1
        own = sum(map(float, re.findall(rb";dur=([0-9.]+)", response)))
        times.append((1e3 * (time.perf_counter() - begun), own))
        if b"\r\nconnection: close\r\n" in response.lower():  # nginx, after 1,000 requests
            writer.close()
            writer = None
    return statuses, sorted(times)


def _print_small(where: str, url: str, seconds: float, pids: dict[str, int]) -> None:
    """What the small client gets, and what each process with its children uses meanwhile; the
    proxy is the child that is left."""

    def used() -> dict[str, float]:
        found = {name: cpu_s(of(pid, "none")) for name, pid in pids.items()}
        found["small client"] = time.process_time()
        found["proxy"] = cpu_s(of(os.getpid(), "none")) - sum(found.values())
        return found

    before = used()
    statuses, times = asyncio.run(small_client(url, seconds))
    cores = ", ".join(
        f"{name} {(now - before[name]) / seconds:.2f}" for name, now in used().items()
    )
    (p50, _), (p95, _) = (times[int(share * len(times))] for share in (0.5, 0.95))
    own = sorted(own for _, own in times)[int(0.95 * len(times))]
    print(
        f"{where}: {dict(statuses)}, p50 {p50:.0f} ms, p95 {p95:.0f} ms; p95 by Server-Timing "
        f"{own:.1f} ms; cores: {cores}",
        flush=True,
    )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m bench.proxies", description=__doc__)
    parser.add_argument("--posts", type=int, default=3200, help="through each proxy")
    parser.add_argument("proxies", nargs="*", choices=[*PROXIES, []], help="none = all")
    parser.add_argument("--keep-alive-seconds", type=float, default=2.0, help="of the service")
    parser.add_argument("--flood", type=float, default=0, help="seconds; instead of --posts")
    options = parser.parse_args(arguments)
    limit = options.keep_alive_seconds
    command = [sys.executable, "-m", "app", "--port", "0", "--keep-alive-seconds", str(limit)]
    command += ["--trusted-proxies", HOST]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert service.stdout
        found = re.search(r"http://[0-9.:]+", service.stdout.readline())
        assert found, "the service did not start"
        for name in options.proxies or PROXIES:
            if why := missing(name):
                print(f"{name}: skipped: {why}")
                continue
            with running_proxy(name, found.group(), limit) as url:
                if options.flood:
                    pids = {"service": service.pid}
                    _print_small(f"{name}, alone", url, options.flood, pids)
                    with flooding(url) as pid:
                        pids["flood"] = pid
                        _print_small(f"{name}, beside a flood", url, options.flood, pids)
                    continue
                statuses = asyncio.run(timed_posts(url, options.posts, limit))
            failed = sum(count for status, count in statuses.items() if status != 200)
            print(f"{name}: {statuses.total()} POSTs {limit:g} s apart, {failed} failed {statuses}")
    finally:
        service.terminate()
        service.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
