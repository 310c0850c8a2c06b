"""``python -m bench reload``: load the store anew again and again under load.

No request may fail, each seed of a model that stays has one digest throughout, an alias is promoted
and rolled back, and a damaged store changes nothing.
"""

import argparse
import asyncio
import http.client
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from bench import rig
from bench.children import HOST, Server, module
from bench.cluster.failover import Tally, load

ALIAS = "candidate"  # points at one model, then at the other
DAMAGED = "damaged.safetensors"
_RELOAD_S = 120.0


def served_as(port: int, alias: str) -> str:
    """The model that an alias names now, as the answer's permalink says, with its digest."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.request("GET", f"/generate?model={alias}&seed=1")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise AssertionError(f"status {response.status}: {body[:200]!r}")
        place = response.getheader("content-location") or ""
        return place.partition("model=")[2].partition("&")[0]
    finally:
        connection.close()


def _log_says(server: Server, folder: Path, times: int) -> bool:
    log = (folder / f"{server.name}.log").read_text(errors="replace")
    return log.count("not reloaded, what was served goes on") >= times


def _wait_for(reached: Callable[[], bool]) -> None:
    ends = time.monotonic() + _RELOAD_S
    while not reached():
        if time.monotonic() > ends:
            raise TimeoutError(f"not reloaded after {_RELOAD_S:g} s")
        time.sleep(0.05)


def reloads(
    server: Server, folder: Path, store: Path, models: tuple[str, str], times: int
) -> Callable[[Tally], Awaitable[None]]:
    """Point the alias at the other model and send SIGHUP, so many times; in between once with a
    damaged checkpoint in the store."""

    def reload(model: str) -> None:
        (store / "aliases.txt").write_text(f"default -> {models[0]}\n{ALIAS} -> {model}\n")
        server.process.send_signal(signal.SIGHUP)

    def one(number: int) -> None:
        model = models[(number + 1) % 2]
        if number == times // 2:
            before = served_as(server.port, ALIAS)
            (store / DAMAGED).write_bytes(b"no checkpoint")
            reload(model)
            _wait_for(lambda: _log_says(server, folder, 1))
            (store / DAMAGED).unlink()
            if served_as(server.port, ALIAS) != before:
                raise AssertionError("a damaged store changed what is served")
        reload(model)
        # Workers are exchanged one by one: all of them, so that the next reload shows.
        _wait_for(lambda: all(served_as(server.port, ALIAS).startswith(model) for _ in range(6)))

    async def run(_: Tally) -> None:
        for number in range(times):
            await asyncio.to_thread(one, number)

    return run


def under_load(folder: Path, source: Path, requests: int, times: int, connections: int) -> Tally:
    """What clients see while a service loads a copy of the store anew."""
    store = folder / "store"
    shutil.copytree(source, store)
    first, second = sorted(path.stem for path in store.glob("*.safetensors"))[:2]
    (store / "aliases.txt").write_text(f"default -> {first}\n{ALIAS} -> {first}\n")
    with ExitStack() as stack:
        command = [*module("app", "--host", HOST), "--port", "{port}", "--workers", "2"]
        command += ["--models-dir", str(store)]
        server = Server(stack, "reloaded", command, folder)
        server.wait("GET", "/readyz")
        meanwhile = reloads(server, folder, store, (first, second), times)
        return asyncio.run(load(server.port, requests, meanwhile, connections))


def main(arguments: list[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        "python -m bench reload", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1000, help="at least so many")
    parser.add_argument("--times", type=int, default=10, help="of loading the store anew")
    parser.add_argument("--connections", type=int, default=8, help="that clients keep busy")
    parser.add_argument("--models-dir", type=Path, help="as of python -m app")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        source = rig.store(args.models_dir)
        tally = under_load(Path(folder), source, args.requests, args.times, args.connections)
    if not tally.report(f"{args.times} reloads and one of a damaged store"):
        sys.exit(1)
