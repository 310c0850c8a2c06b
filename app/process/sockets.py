"""The sockets that the service listens on."""

import contextlib
import socket


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
