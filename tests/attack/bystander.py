"""A client that does nothing wrong: ten digits and ten /livez a second, from an address of its own.

A process of its own, so that what the attackers compute does not count as the service's time.
``python -m tests.attack.bystander URL`` measures until its standard input ends; each line that it
reads begins a new measurement and has it print the last one as JSON.
"""

import asyncio
import json
import sys
import time
from typing import TypedDict
from urllib.parse import urlsplit

SOURCE = "127.0.0.2"  # on Linux all of 127/8 is this machine
PER_S = 10
_LATE_S = 30.0


class Seen(TypedDict):
    """Milliseconds of what was answered, and what was not."""

    digits: list[float]
    livez: list[float]
    failures: list[str]


def nothing() -> Seen:
    return {"digits": [], "livez": [], "failures": []}


async def ask(host: str, port: int, target: str) -> None:
    """One request on a connection of its own.

    Raises:
        Exception: there was no 200 in time.
    """
    async with asyncio.timeout(_LATE_S):
        reader, writer = await asyncio.open_connection(host, port, local_addr=(SOURCE, 0))
        try:
            head = f"GET {target} HTTP/1.1\r\nHost: bystander\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            data = await reader.read()
        finally:
            writer.close()
    if not data.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(data[:40].decode("latin-1") or "no response")


class Bystander:
    """Asks steadily, however long the responses take."""

    def __init__(self, url: str) -> None:
        self._host, self._port = urlsplit(url).hostname or "", urlsplit(url).port or 80
        self.seen = nothing()

    async def _measure(self, target: str, times: list[float]) -> None:
        failures, begun = self.seen["failures"], time.perf_counter()
        try:
            await ask(self._host, self._port, target)
        except Exception as error:
            failures.append(f"{target}: {error!r}")
        else:
            times.append(1e3 * (time.perf_counter() - begun))

    async def run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        due = time.perf_counter()
        while True:
            for target, times in (
                ("/generate?label=7", self.seen["digits"]),
                ("/livez", self.seen["livez"]),
            ):
                task = asyncio.create_task(self._measure(target, times))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            due += 1 / PER_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def main(url: str) -> None:
    bystander = Bystander(url)
    asking = asyncio.create_task(bystander.run())
    while await asyncio.to_thread(sys.stdin.readline):
        seen, bystander.seen = bystander.seen, nothing()
        print(json.dumps(seen), flush=True)
    asking.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
