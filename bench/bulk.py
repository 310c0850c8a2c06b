"""``python -m bench.bulk``: images a second of the service in bulk, beside the generator alone.

Targets in rotation, ratios within a round, as in ``python -m bench``. The service runs in one
process with the shipped settings; see bench/README.md.
"""

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import machine, wrk
from bench.__main__ import whole
from bench.children import HOST, ROOT, BenchError, Child, Server
from bench.generator import BATCH
from bench.report import spread

MODEL = "M (generator alone)"
STREAMS = {f"/dataset, {form}": f"/dataset?format={form}&n=1000000" for form in ("zip", "npz")}
REQUESTS = {
    f"/generate?n={BATCH}, {form}": f"/generate?n={BATCH}&label=7&format={form}"
    for form in ("png", "npy", "zip")
}
CONNECTIONS = 2  # with requests of 64 images: one is served while another is on its way


def made(server: Server) -> float:
    """Images that the service has made so far."""
    _, _, text = server.ask("GET", "/metrics")
    lines = text.decode().splitlines()
    return sum(float(x.split()[-1]) for x in lines if x.startswith("genserve_images_total{"))


def streamed(server: Server, path: str, seconds: float) -> float:
    """Images a second of a dataset whose client leaves after some seconds."""
    with socket.create_connection((HOST, server.port), timeout=30) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        if not client.recv(65536).startswith(b"HTTP/1.1 200"):
            raise server.failure(f"{path} was refused")
        before, started = made(server), time.perf_counter()
        while time.perf_counter() < started + seconds:
            if not client.recv(1 << 20):
                raise server.failure(f"{path} was cut")
        images, taken = made(server) - before, time.perf_counter() - started
    return images / taken


def measure(server: Server, generator: Child, target: str, seconds: int) -> float:
    """Images a second of one target."""
    if target in STREAMS:
        return streamed(server, STREAMS[target], seconds)
    if target in REQUESTS:
        url = f"http://{HOST}:{server.port}{REQUESTS[target]}"
        return BATCH * wrk.run(url, CONNECTIONS, seconds)["per_s"]
    assert generator.process.stdin
    assert generator.process.stdout
    print(BATCH, seconds, file=generator.process.stdin, flush=True)
    per_s: float = json.loads(generator.process.stdout.readline())["per_s"]
    return per_s


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.bulk", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=whole(1, 100), default=5, help="of each target")
    parser.add_argument("--seconds", type=whole(1, 120), default=5, help="of each measurement")
    args = parser.parse_args()
    about = machine.describe()
    targets = [MODEL, *STREAMS, *REQUESTS]
    rounds: list[dict[str, float]] = []
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = Path(os.environ.get("GENSERVE_MODELS_DIR") or ROOT / "models_store").resolve()
        server = Server(stack, "ours", ["app", "--models-dir", str(store)], logs)
        server.wait("GET", "/readyz")
        name = server.picture("/generate?label=7")[0]["X-Model"]
        bare = ["bench.generator", str(store), name]
        generator = Child(stack, MODEL, bare, logs, piped=True)
        for number in range(args.rounds + 1):  # round 0 warms up and is dropped
            seconds = args.seconds if number else 1
            order = targets[:: 1 if number % 2 else -1]
            rounds.append({t: measure(server, generator, t, seconds) for t in order})
    print(
        f"{name}; medians (least-greatest) of {args.rounds} rounds of {args.seconds} s; one "
        f"process; {about['cores']} cores of {about['cpu']}, load before: {about['load_before']}\n"
    )
    print("| | images a second | of M |\n| --- | --- | --- |")
    for target in targets:
        per_s = [found[target] for found in rounds[1:]]
        of_model = [found[target] / found[MODEL] for found in rounds[1:]]
        print(f"| {target} | {statistics.median(per_s):,.0f} | {spread(of_model, 2)} |")


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
