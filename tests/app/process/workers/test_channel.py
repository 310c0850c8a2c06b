"""Both ends of the channel between supervisor and worker, in one process."""

import logging
import resource
import socket
import sys
from collections.abc import Iterator

import pytest

from app.process.workers.channel import (
    CLOSED,
    CLOSING,
    FAILED,
    HEARTBEAT,
    READY,
    READY_ON_GPU,
    SupervisorChannel,
    WorkerChannel,
    open_channel,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")

Ends = tuple[SupervisorChannel, WorkerChannel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    supervisor, worker = open_channel()
    yield supervisor, worker
    supervisor.close()
    worker.close()


def test_messages_arrive_in_order(ends: Ends) -> None:
    supervisor, worker = ends
    assert supervisor.messages() == b""
    worker.send_ready(on_gpu=False)
    worker.send_ready(on_gpu=True)
    worker.send_heartbeat(alive=True)
    worker.send_heartbeat(alive=False)
    worker.send_closed()
    worker.send_closing()
    assert supervisor.messages() == READY + READY_ON_GPU + HEARTBEAT + FAILED + CLOSED + CLOSING


def test_messages_for_which_there_was_no_room_are_sent_with_a_later_one(ends: Ends) -> None:
    supervisor, worker = ends
    sent = 100_000  # more than a socket holds
    for _ in range(sent):
        worker.send_closed()
    received = 0
    while got := supervisor.messages():
        received += got.count(CLOSED)
    assert received < sent
    while received < sent:
        worker.send_heartbeat(alive=True)
        got = supervisor.messages()
        assert got
        received += got.count(CLOSED)
    assert received == sent


def test_a_connection_is_served_by_whom_it_is_handed_to(ends: Ends) -> None:
    supervisor, worker = ends
    client, server = socket.socketpair()
    with client:
        with server:
            assert supervisor.hand_over(server)
        (received,) = worker.connections()
        with received:
            received.sendall(b"hello")
        assert client.recv(16) == b"hello"
        assert client.recv(16) == b""
    assert list(worker.connections()) == []


def test_a_full_channel_takes_no_connection(ends: Ends) -> None:
    supervisor, worker = ends
    client, server = socket.socketpair()
    with client, server:
        handed = 0
        while supervisor.hand_over(server):
            handed += 1
        received = list(worker.connections())
        assert len(received) == handed > 0
        for connection in received:
            connection.close()
        assert supervisor.hand_over(server)


def test_each_end_notices_that_the_other_is_gone() -> None:
    supervisor, worker = open_channel()
    worker.close()
    with pytest.raises(EOFError):
        supervisor.messages()
    client, server = socket.socketpair()
    with client, server:
        assert not supervisor.hand_over(server)
    supervisor.close()
    supervisor, worker = open_channel()
    supervisor.close()
    with pytest.raises(EOFError):
        list(worker.connections())
    worker.send_closed()  # to nobody, and no error
    worker.close()


def test_a_connection_for_which_no_descriptor_is_left_is_reported_closed(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor, worker = ends
    client, server = socket.socketpair()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with client, server:
        assert supervisor.hand_over(server)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (server.fileno(), hard))
            with caplog.at_level(logging.ERROR):
                assert list(worker.connections()) == []
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "no file descriptor is left" in caplog.text
    assert supervisor.messages() == CLOSED
