"""What is measured: the service, two floors and the bare generator, all started and idle."""

import json
import os
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from bench import wrk
from bench.children import HOST, ROOT, BenchError, Child, Server
from bench.generator import BATCH
from bench.report import BARE, FASTAPI, MODEL, OURS, Figure

COUNTERS = ("genserve_images_total{", "genserve_forward_passes_total{")


class Targets:
    """Every process of one run; ``stack`` stops them.

    Args:
        label: Class index that each request asks for.
        models_dir: As of ``python -m app``; None = its default.
    """

    def __init__(self, stack: ExitStack, label: int, models_dir: Path | None) -> None:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = models_dir or Path(os.environ.get("GENSERVE_MODELS_DIR") or ROOT / "models_store")
        store = store.resolve()
        self._path = f"/generate?label={label}"
        uvicorn = ["uvicorn", "--no-access-log", "--log-level", "warning"]
        commands = {
            BARE: [*uvicorn, "bench.floors:bare"],
            FASTAPI: [*uvicorn, "bench.floors:fastapi"],
            OURS: ["app", "--models-dir", str(store)],
        }
        self._servers = {name: Server(stack, name, args, logs) for name, args in commands.items()}
        for name, server in self._servers.items():
            server.wait(*(("GET", "/readyz") if name == OURS else ("POST", self._path)))

        ours = self._servers[OURS]
        headers, first = ours.picture(self._path)
        if first == ours.picture(self._path)[1]:
            raise ours.failure("the same picture twice: this noise is not fresh")
        self.model: str = headers["X-Model"]
        bare = ["bench.generator", str(store), self.model]
        self._generator = Child(stack, MODEL, bare, logs, piped=True)

    def measure(self, number: int, connections: int, target: str, seconds: int) -> Figure:
        """One target for some seconds, in round ``number``."""
        if target == MODEL:
            batch = min(connections, BATCH)
            told = self._generate(batch, seconds)
            return Figure(number, connections, target, images_per_pass=batch, **told)
        server = self._servers[target]
        server.picture(self._path)  # wrk would count a redirect as good
        before = self._counts()
        try:
            told = wrk.run(f"http://{HOST}:{server.port}{self._path}", connections, seconds)
        except BenchError as error:
            raise server.failure(str(error)) from error
        images, passes = (now - then for now, then in zip(self._counts(), before, strict=True))
        rows = images / passes if passes and target == OURS else None
        return Figure(number, connections, target, images_per_pass=rows, **told)

    def _counts(self) -> list[float]:
        """Rows and passes of the service so far."""
        _, _, text = self._servers[OURS].ask("GET", "/metrics")
        lines = [line for line in text.decode().splitlines() if 'operation="generate"' in line]
        return [
            sum(float(line.split()[-1]) for line in lines if line.startswith(name))
            for name in COUNTERS
        ]

    def _generate(self, batch: int, seconds: int) -> dict[str, float]:
        """The generator alone: images a second, and the times of a pass."""
        process = self._generator.process
        assert process.stdin
        assert process.stdout
        with suppress(BrokenPipeError):  # it ended: told below, where nothing can be read
            print(batch, seconds, file=process.stdin, flush=True)
        if not (line := process.stdout.readline()):
            raise self._generator.failure("ended")
        told: dict[str, float] = json.loads(line)
        return told
