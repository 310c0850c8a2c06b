"""Child processes of a run: started once, and stopped at its end whatever happened."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from email.message import Message
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
START_S = 180  # importing torch takes seconds, on a busy machine many
STOP_S = 30  # longer than the service drains when idle


class BenchError(Exception):
    """The run cannot go on; the message says what was seen."""


class Child:
    """``python -m <arguments>``, stopped with its workers when ``stack`` is left.

    In a process group of its own, so that Ctrl-C ends the measuring first and the servers after it.
    """

    def __init__(
        self, stack: ExitStack, name: str, arguments: list[str], logs: Path, piped: bool = False
    ) -> None:
        self.name, self._log = name, logs / name
        pipe = subprocess.PIPE if piped else None
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        stack.callback(self._stop)

    def failure(self, what: str) -> BenchError:
        """An error that quotes the end of the child's log."""
        tail = self._log.read_text(errors="replace").splitlines()[-15:]
        return BenchError("\n  ".join([f"{self.name}: {what}; the end of its log:", *tail]))

    def _stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):  # the second also ends orphaned workers
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)


class Server(Child):
    """A child that listens on a free port of the loopback."""

    def __init__(self, stack: ExitStack, name: str, arguments: list[str], logs: Path) -> None:
        with socket.create_server((HOST, 0)) as listener:
            self.port: int = listener.getsockname()[1]
        address = ["--host", HOST, "--port", str(self.port)]
        super().__init__(stack, name, [*arguments, *address], logs)

    def ask(self, method: str, path: str) -> tuple[int, Message, bytes]:
        """Status, headers and body of one answer; BenchError if there is none."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self.failure(f"{method} {path} gave {error!r}") from error
        finally:
            connection.close()

    def wait(self, method: str, path: str) -> None:
        """Return when ``path`` answers 200."""
        until, seen = time.monotonic() + START_S, ""
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise self.failure(f"ended with status {self.process.returncode}")
            with suppress(BenchError):
                status, _, body = self.ask(method, path)
                if status == 200:
                    return
                seen = f"{status} {body[:200]!r}"
            time.sleep(0.1)
        raise self.failure(f"{path} gave {seen or 'nothing'} for {START_S} s")

    def picture(self, path: str) -> tuple[Message, bytes]:
        """Headers and body of one POST, which must be answered 200 with a PNG."""
        status, headers, body = self.ask("POST", path)
        if status != 200 or not body.startswith(b"\x89PNG"):
            raise self.failure(f"POST {path} gave {status} {body[:300]!r}")
        return headers, body
