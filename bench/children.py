"""Child processes of a run: started once, and stopped at its end whatever happened."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from email.message import Message
from pathlib import Path

from bench import processes

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
START_S = 180  # importing torch takes seconds, on a busy machine many
STOP_S = 30  # longer than the service drains when idle
PNG_START = b"\x89PNG"
POLL_S = 0.02  # of a start: its seconds are told to a tenth


class BenchError(Exception):
    """The run cannot go on; the message says what was seen."""


def _environment() -> dict[str, str]:
    """Ours, but that modules are kept compiled: what an installer left out a first start compiles,
    and no later one does."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


class Child:
    """A command, stopped with all that it started when ``stack`` is left.

    In a session of its own, so that Ctrl-C ends the measuring first and the servers after it.

    Args:
        stack: Stops it.
        name: Of its log, and in errors.
        command: What to run, in the repository's root.
        logs: Folder for the log.
        piped: Whether we write to and read from it.
        env: Added to the environment.
    """

    def __init__(
        self,
        stack: ExitStack,
        name: str,
        command: Sequence[str],
        logs: Path,
        piped: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self._log, self._mark = name, logs / f"{name}.log", uuid.uuid4().hex
        pipe = subprocess.PIPE if piped else None
        self.started = time.monotonic()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or log,
                stderr=log,
                text=True,
                start_new_session=True,
                env={**_environment(), **(env or {}), processes.MARK: self._mark},
            )
        stack.callback(self._stop)

    def processes(self) -> list[processes.Process]:
        """Itself and all that it started, as they are now."""
        return processes.of(self.process.pid, self._mark)

    def failure(self, what: str) -> BenchError:
        """An error that quotes the end of the child's log."""
        tail = self._log.read_text(errors="replace").splitlines()[-15:]
        return BenchError("\n  ".join([f"{self.name}: {what}; the end of its log:", *tail]))

    def _stop(self) -> None:
        with suppress(ProcessLookupError):
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        for _ in range(100):  # what is left: orphaned workers, daemons, and what these start anew
            left = [p for p in self.processes() if p.state != "Z"]
            if not left:
                break
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.05)
        self.process.wait(STOP_S)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback on which nobody listens now."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


class Server(Child):
    """A child that listens on a free port of the loopback.

    Args:
        stack, name, logs, env: As of ``Child``.
        command: With {host} and {port} where the address belongs.
    """

    def __init__(
        self,
        stack: ExitStack,
        name: str,
        command: Sequence[str],
        logs: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://{HOST}:{self.port}"
        address = {"host": HOST, "port": str(self.port)}
        command = [word.format(**address) for word in command]
        env = {name: value.format(**address) for name, value in (env or {}).items()}
        super().__init__(stack, name, command, logs, env=env)

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Message, bytes]:
        """Status, headers and body of one answer; BenchError if there is none.

        Args:
            method: Of the request.
            path: With its query.
            body: JSON; None = an empty body.
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self.failure(f"{method} {path} gave {error!r}") from error
        finally:
            connection.close()

    def wait(self, method: str, path: str, body: str | None = None) -> float:
        """Return when ``path`` answers 200: seconds since the start of the process."""
        until, seen = self.started + START_S, ""
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise self.failure(f"ended with status {self.process.returncode}")
            with suppress(BenchError):
                status, _, content = self.ask(method, path, body)
                if status == 200:
                    return time.monotonic() - self.started
                seen = f"{status} {content[:200]!r}"
            time.sleep(POLL_S)
        raise self.failure(f"{path} gave {seen or 'nothing'} for {START_S} s")

    def picture(self, path: str, body: str | None = None) -> tuple[Message, bytes]:
        """Headers and body of one POST, which must be answered 200 with a PNG."""
        status, headers, content = self.ask("POST", path, body)
        if status != 200 or PNG_START not in content:  # Triton puts a JSON header before it
            raise self.failure(f"POST {path} gave {status} {content[:300]!r}")
        return headers, content

    def fresh(self, path: str, body: str | None = None) -> Message:
        """Headers of a picture; BenchError if the same question gives the same picture twice."""
        headers, first = self.picture(path, body)
        if first == self.picture(path, body)[1]:
            raise self.failure("the same picture twice: this noise is not fresh")
        return headers

    def pss_mib(self) -> float:
        """MiB of memory of all its processes together."""
        return processes.pss(self.processes()) / 2**20


def module(*arguments: str) -> list[str]:
    """A command: ``python -m <arguments>``, with our interpreter."""
    return [sys.executable, "-m", *arguments]
