"""A network of its own for this process and its children, with nothing in it but the loopback."""

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

_NEWUSER, _NEWNET = 0x10000000, 0x40000000  # unshare(2)
_SIOCSIFFLAGS, _UP = 0x8914, 0x1  # netdevice(7)


def isolate() -> bool:
    """Whether it could be had: some servers open ports on all addresses, whatever they are told.

    Call it while this process has one thread. Needs root, or user namespaces.
    """
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None).unshare(_NEWNET | (_NEWUSER if user else 0)):
        return False
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _UP))
    return True
