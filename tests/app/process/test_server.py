"""The server of one process, without a socket."""

import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from app.process.server import DrainingServer
from app.process.workers.channel import open_channel
from app.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")


def test_one_stop_that_reaches_a_worker_twice_does_not_drop_its_work() -> None:
    """Ctrl-C reaches it from the terminal and, as SIGTERM, from the supervisor."""
    now = 100.0
    supervisor, worker = open_channel()
    app = FastAPI()
    app.state.fast_path = SimpleNamespace(draining=False)
    server: Any = DrainingServer(
        uvicorn.Config(app), app, Settings(), channel=worker, clock=lambda: now
    )
    server.handle_exit(signal.SIGTERM, None)
    server.handle_exit(signal.SIGINT, None)
    assert server.should_exit
    assert app.state.fast_path.draining  # each response closes its connection from now on
    assert not server.force_exit
    now += 1
    server.handle_exit(signal.SIGINT, None)  # the second Ctrl-C, which does not wait
    assert server.force_exit
    supervisor.close()
    worker.close()
