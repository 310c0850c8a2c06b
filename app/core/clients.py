"""Who asks, as the queue tells clients apart: by the key that was shown, else by the address."""

import hashlib
import ipaddress
from contextvars import ContextVar
from functools import lru_cache

# Of the request that is being answered; set around the routes, so that none can forget it.
current_client: ContextVar[str | None] = ContextVar("current_client", default=None)


@lru_cache(4096)
def by_address(address: str | None) -> str | None:
    """The client at an address: of IPv6 a network of 64 bits, which is what one host is given out
    there. Within a private network neighbours share one, so there it is the address itself.

    None = nobody in particular: the address is not known, or of no network.
    """
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None and not (found.is_private or found.is_link_local):
            return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
        return str(found.ipv4_mapped or found)
    return str(found)


def by_key(token: bytes) -> str:
    """The client that shows a key, called by the key's digest."""
    return f"key {hashlib.sha256(token).hexdigest()}"
