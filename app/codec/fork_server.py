"""The fork server: one thread, no model, no connection, so that it can fork a codec process at any
time, in milliseconds. The worker cannot: it has threads.

The worker asks with messages of five bytes, an operation and a number that it chose; the answer is
five bytes and, as ancillary data, the worker's end of a socket to the new process. The server ends
its processes when the worker asks, and all of them when the worker has ended.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

from app.codec.codec_process import warm_up, work
from app.fork import STOP_SIGNALS, end_with, fork

FORK, KILL, FORKED, FAILED = b"f", b"k", b"r", b"e"
MESSAGE_BYTES = 5

_REAP_S = 1.0


def message(operation: bytes, number: int) -> bytes:
    """A message of the control socket."""
    return operation + number.to_bytes(4, "big")


class ForkServer:
    """The worker's side of a fork server.

    Args:
        control: The socket to it.
        pid: Of its process, a child of this one.
    """

    def __init__(self, control: socket.socket, pid: int) -> None:
        self.control = control
        self.pid = pid

    @classmethod
    def by_fork(cls) -> "ForkServer":
        """Fork it from this process, with which it shares the memory of all that is loaded.

        To be called before this process has threads or an event loop.

        Raises:
            OSError: there may be no more processes, or no memory.
        """
        ours, theirs = socket.socketpair()
        parent = os.getpid()

        def run() -> int:
            keep = theirs.fileno()  # not the supervisor's channel, nor any connection
            os.closerange(3, keep)
            os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
            serve(theirs, parent)
            return 0

        try:
            pid = fork(run, "the codec's fork server")
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(ours, pid)

    @classmethod
    def by_exec(cls) -> "ForkServer":
        """Start it as a new program: slower, and possible at any time.

        Raises:
            OSError: as ``by_fork``.
        """
        ours, theirs = socket.socketpair()
        packages = str(Path(__file__).parents[2])
        paths = [packages, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OPENBLAS_NUM_THREADS": "1",  # threads do not survive a fork
        }
        command = [sys.executable, "-m", __name__, str(theirs.fileno()), str(os.getpid())]
        try:
            process = subprocess.Popen(  # noqa: S603
                command,
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        process.returncode = 0  # ``wait`` waits for it, not the object's end
        return cls(ours, process.pid)

    def close(self) -> None:
        """Let it end, with all of its processes."""
        self.control.close()

    def wait(self) -> None:
        """Wait until it has ended; it does so at once when its socket is closed."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def serve(control: socket.socket, parent: int) -> None:
    """Serve until the worker ends."""
    for stop in STOP_SIGNALS:  # a drain needs the codec to its end
        signal.signal(stop, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    end_with(parent)
    warm_up()
    pids: dict[int, int] = {}  # number -> process
    try:
        while _serve_next(control, pids):
            pass
    except OSError:
        pass  # the worker has ended while it was answered
    finally:
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids.values():
            os.waitpid(pid, 0)


def _serve_next(control: socket.socket, pids: dict[int, int]) -> bool:
    """Do what the worker asks for next, if it does within a while; False = it has ended.

    Raises:
        OSError: it has ended.
    """
    ready, _, _ = select.select([control], [], [], _REAP_S)
    _reap(pids)
    if not ready:
        return True
    request = control.recv(MESSAGE_BYTES, socket.MSG_WAITALL)
    if len(request) < MESSAGE_BYTES:
        return False
    number = int.from_bytes(request[1:], "big")
    if request[:1] == FORK:
        _fork(control, number, pids)
    elif number in pids:
        os.kill(pids[number], signal.SIGKILL)
        os.waitpid(pids.pop(number), 0)
    return True


def _fork(control: socket.socket, number: int, pids: dict[int, int]) -> None:
    """Fork a process and send the worker its end of the socket."""
    server = os.getpid()
    try:
        ours, theirs = socket.socketpair()
    except OSError:
        control.sendall(message(FAILED, number))
        return
    with ours, theirs:
        try:
            pid = os.fork()
        except OSError:
            control.sendall(message(FAILED, number))
            return
        if not pid:
            _become_process(server, control, ours, theirs)
        pids[number] = pid
        socket.send_fds(control, [message(FORKED, number)], [ours.fileno()])


def _become_process(
    server: int, control: socket.socket, ours: socket.socket, theirs: socket.socket
) -> None:
    """In the child: work, and never return."""
    status = 1
    try:
        end_with(server)
        control.close()
        ours.close()
        work(theirs)
        status = 0
    finally:
        os._exit(status)


def _reap(pids: dict[int, int]) -> None:
    """Forget the processes that have ended."""
    for number, pid in list(pids.items()):
        if os.waitpid(pid, os.WNOHANG)[0]:
            del pids[number]


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
