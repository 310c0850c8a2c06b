"""The sockets that the service listens on."""

import contextlib
import ctypes
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
# Of classic BPF: code, jumps if true and if false, operand.
_NO_SYN = (
    (0x30, 0, 0, 13),  # load the byte at 13
    (0x45, 0, 1, 0x02),  # is its bit SYN set?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # else take all of it
)


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of ``host``; they do not listen yet.

    Args:
        host: Name or address; empty or ``::`` = all, of both families.
        port: 0 = any free one, the same for all addresses.

    Raises:
        OSError: an address is not this machine's, or the port is taken.
    """
    host = host.removeprefix("[").removesuffix("]")
    found = socket.getaddrinfo(
        None if host in ("", "::") else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        bound = socket.socket(family, kind, protocol)
        sockets.append(bound)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted ones inherit it
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address[0], port, *address[2:]))
        port = bound.getsockname()[1]
    return sockets


def ignore_new_clients(listener: socket.socket) -> None:
    """Have the kernel drop what opens a connection to a listening socket, from now on.

    Whoever then accepts until nothing is left, and closes the socket, resets no client that came
    in between: a packet that is dropped is sent again after a second, and refused. Reset is still
    whoever had begun to connect, and whose last packet of the handshake is under way. Elsewhere
    than on Linux nothing changes.

    Source: the kernel's Documentation/networking/filter.rst; a socket of TCP is shown each packet
    from its TCP header on, in which byte 13 has the flags (RFC 9293, section 3.1).
    """
    if sys.platform != "linux":
        return
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _NO_SYN)
    kept = ctypes.create_string_buffer(program)
    given = struct.pack("HP", len(_NO_SYN), ctypes.addressof(kept))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, given)


def url(sockets: list[socket.socket]) -> str:
    """The service's address for a browser on this machine."""
    host, port = sockets[0].getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def raise_descriptor_limit() -> None:
    """Allow this process as many file descriptors as it may have: a connection takes one."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
