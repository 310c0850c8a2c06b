"""What is measured: the service, the floors and the bare generator, each started when asked for."""

import json
import os
import tempfile
from argparse import Namespace
from contextlib import ExitStack, suppress
from email.message import Message
from pathlib import Path
from statistics import median

from bench import wrk
from bench.children import ROOT, BenchError, Child, Server, module

COUNTERS = ("genserve_images_total{", "genserve_forward_passes_total{")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def folder(stack: ExitStack) -> Path:
    """A folder for what one run writes, removed at its end."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))


def store(models_dir: Path | None) -> Path:
    """The folder of checkpoints that ``python -m app --models-dir`` would serve."""
    return Path(
        models_dir or os.environ.get("GENSERVE_MODELS_DIR") or ROOT / "models_store"
    ).resolve()


def floor(stack: ExitStack, folder: Path, app: str, workers: int) -> Server:
    """One of ``floors`` under uvicorn, ready."""
    command = module("uvicorn", "--no-access-log", "--log-level", "warning", f"bench.floors:{app}")
    command += ["--host", "{host}", "--port", "{port}", "--workers", str(workers)]
    server = Server(stack, f"{app}-{workers}", command, folder)
    server.wait("POST", "/generate")
    return server


class Service(Server):
    """``python -m app``, ready, and proved to answer fresh noise.

    Args:
        stack: Stops it.
        folder: For its log.
        args: Of the command line: ``models_dir``, ``label``, and ``workers``, passed on when given.
        options: More of ``python -m app``.
    """

    def __init__(self, stack: ExitStack, folder: Path, args: Namespace, *options: str) -> None:
        command = module("app", "--host", "{host}", "--port", "{port}")
        command += ["--models-dir", str(store(args.models_dir)), *options]
        if args.workers is not None:
            command += ["--workers", str(args.workers)]
        super().__init__(stack, "ours", command, folder)
        self.path = f"/generate?label={args.label}"
        self.start_s = self.wait("POST", self.path)
        self.wait("GET", "/readyz")
        self.headers: Message = self.fresh(self.path)
        self.model: str = self.headers["X-Model"]

    def load(
        self, connections: int, seconds: int, more: str = "", argument: str | None = None
    ) -> dict[str, float]:
        """wrk's counts; and, where one process answers /metrics for all, images a forward pass."""
        before = self._counts()
        arguments = [] if argument is None else [argument]
        told = loaded(self, self.path + more, connections, seconds, *arguments)
        images, passes = (now - then for now, then in zip(self._counts(), before, strict=True))
        if passes > 0:
            told["images_per_pass"] = images / passes
        return told

    def _counts(self) -> list[float]:
        """Rows and passes of the service so far."""
        _, _, text = self.ask("GET", "/metrics")
        lines = [line for line in text.decode().splitlines() if 'operation="generate"' in line]
        return [
            sum(float(line.split()[-1]) for line in lines if line.startswith(name))
            for name in COUNTERS
        ]


def loaded(
    server: Server,
    path: str,
    connections: int,
    seconds: int,
    *arguments: str,
    tolerant: bool = False,
) -> dict[str, float]:
    """wrk's counts; an error quotes the end of the server's log."""
    try:
        return wrk.run(server.url + path, connections, seconds, *arguments, tolerant=tolerant)
    except BenchError as error:
        raise server.failure(str(error)) from error


class Generators:
    """The bare generator in several processes of one thread each."""

    def __init__(
        self, stack: ExitStack, folder: Path, models_dir: Path | None, model: str, count: int
    ) -> None:
        command = module("bench.generator", str(store(models_dir)), model)
        self._children = [
            Child(stack, f"generator-{i}", command, folder, piped=True) for i in range(count)
        ]

    def run(self, batch: int, seconds: int, count: int | None = None) -> dict[str, float]:
        """Images a second of ``count`` processes together, None = all; a pass's median times."""
        some = self._children[:count]
        for child in some:
            assert child.process.stdin
            with suppress(BrokenPipeError):  # it ended: told below, where nothing can be read
                print(batch, seconds, file=child.process.stdin, flush=True)
        told = [self._read(child) for child in some]
        return {
            "per_s": sum(each["per_s"] for each in told),
            "p50_ms": median(each["p50_ms"] for each in told),
            "p99_ms": max(each["p99_ms"] for each in told),
        }

    @staticmethod
    def _read(child: Child) -> dict[str, float]:
        assert child.process.stdout
        if not (line := child.process.stdout.readline()):
            raise child.failure("ended")
        told: dict[str, float] = json.loads(line)
        return told
