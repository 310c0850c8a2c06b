"""How the queue tells clients apart: by API key, else by address."""

import hashlib
import ipaddress
from contextvars import ContextVar
from functools import lru_cache

# The client of the present request; set around all routes, so that none can forget it.
current_client: ContextVar[str | None] = ContextVar("current_client", default=None)


@lru_cache(4096)
def by_address(address: str | None) -> str | None:
    """The client at an address; None = the address is unknown or not one of IP.

    Public IPv6 addresses count by their 64-bit network, since a host is assigned a whole one.
    In private networks neighbours share it, so there each address counts.
    """
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None and not (ip.is_private or ip.is_link_local):
            return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
        return str(ip.ipv4_mapped or ip)
    return str(ip)


def by_key(token: bytes) -> str:
    """The client with an API key, named by the key's digest."""
    return f"key {hashlib.sha256(token).hexdigest()}"
