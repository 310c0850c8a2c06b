"""Closed-loop load from wrk: each connection sends its next request when the last is answered."""

import json
import shutil
import subprocess
from pathlib import Path

from bench.children import BenchError

_SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT_S = 10  # an answer later than this is an error
_MARK = "bench-json "  # before the script's line


def version() -> str:
    """wrk's version; BenchError if it is not installed."""
    if shutil.which("wrk") is None:
        raise BenchError("wrk is not installed; on Debian and Ubuntu: apt-get install wrk")
    told = subprocess.run(["wrk", "-v"], capture_output=True, text=True, timeout=30)
    return (told.stdout + told.stderr).partition("[")[0].strip()


def run(
    url: str, connections: int, seconds: int, *arguments: str, tolerant: bool = False
) -> dict[str, float]:
    """Ask ``url`` for some seconds.

    Args:
        url: With its query.
        connections: Open at a time.
        seconds: How long.
        arguments: Of wrk.lua; none = POST without a body.
        tolerant: As of ``parse``.
    """
    return parse(_run(url, connections, seconds, *arguments), tolerant=tolerant)


def run_raw(
    url: str, connections: int, seconds: int, request: Path, status: int
) -> dict[str, float]:
    """As ``run``, with a file's bytes as requests, which get this status."""
    return parse(_run(url, connections, seconds, "raw", str(request)), fails=status > 399)


def _run(url: str, connections: int, seconds: int, *arguments: str) -> str:
    """wrk's output. One thread, so that the server keeps the other cores."""
    script = [f"-d{seconds}s", f"--timeout={TIMEOUT_S}s", "-s", str(_SCRIPT), url, "--", *arguments]
    command = ["wrk", "-t1", f"-c{connections}", *script]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"wrk did not end {seconds + 60} s after its start") from error
    return told.stdout + told.stderr


def parse(output: str, fails: bool = False, tolerant: bool = False) -> dict[str, float]:
    """Requests answered a second and centiles of their times, from the script's line.

    Args:
        output: Of wrk.
        fails: Whether each request is to get a status over 399; else none may.
        tolerant: Count what failed, and take it off the rate, instead of raising. The times are
            then of all replies.

    Raises:
        BenchError: an error status, a socket error, a timeout, or no count at all.
    """
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    if len(lines) != 1:
        raise BenchError(f"wrk counted nothing: {output.strip()[-500:] or 'no output'}")
    counted = json.loads(lines[0].removeprefix(_MARK))
    requests, seconds = counted["requests"], counted["duration_us"] / 1e6
    if fails:
        counted["errors"]["status below 400"] = requests - counted["errors"].pop("status over 399")
    failed = sum(counted["errors"].values()) if tolerant else 0
    if tolerant:
        requests -= counted["errors"].get("status over 399", 0)
        counted["errors"].clear()
    errors = [f"{count} x {kind}" for kind, count in counted["errors"].items() if count]
    if errors or not requests:
        seen = ", ".join(errors) or "no answer"
        raise BenchError(f"wrk saw {seen} beside {requests} requests in {seconds:.1f} s")
    counts = {"p50_ms": counted["p50_us"] / 1e3, "p99_ms": counted["p99_us"] / 1e3}
    return {"per_s": requests / seconds, "requests": requests, "failed": failed, **counts}
