"""Listening sockets at their end."""

import errno
import socket
import sys

import pytest

from app.process.sockets import bind, ignore_new_clients


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of Linux")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_before_it_closes_a_socket_takes_all_clients_and_no_new_ones(host: str) -> None:
    try:
        (listener,) = bind(host, 0)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with listener:
        listener.listen(16)
        listener.setblocking(False)
        address = listener.getsockname()
        clients = [socket.create_connection(address[:2]) for _ in range(3)]
        for client in clients:
            client.sendall(b"request")
        ignore_new_clients(listener)
        with socket.socket(listener.family) as late:
            late.setblocking(False)
            assert late.connect_ex(address) == errno.EINPROGRESS
            accepted = [listener.accept()[0] for _ in clients]
            with pytest.raises(BlockingIOError):  # the late one did not get in
                listener.accept()
            for connection in accepted:
                assert connection.recv(7) == b"request"
    for one in (*clients, *accepted):
        one.close()
