"""What proxies say of a request: who sent it, and the address that the client asked for.

Only those in GENSERVE_TRUSTED_PROXIES are believed; from others these headers change nothing:

    X-Forwarded-For     the client is the first address from the right that is no trusted proxy
    X-Forwarded-Host    host and port that the client asked for
    X-Forwarded-Proto   http or https
    X-Forwarded-Prefix  path under which the proxy serves this service, which it has removed

Where one of the first three is missing, ``Forwarded`` (RFC 7239) counts. Of a list of hosts or
protocols, the leftmost is the one that the client used; prefixes of several proxies follow each
other. What cannot be read is ignored.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.access import FORWARDED_HOST, HOST
from app.settings import ROOT_PATH, Network

_FOR, _HOST, _PROTO = b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"
_PREFIX, _FORWARDED = b"x-forwarded-prefix", b"forwarded"
FORWARDING = (_FOR, _HOST, _PROTO, _PREFIX, _FORWARDED)  # the headers
_MAX_ROOT = 256  # characters
_MAX_HOPS = 32  # addresses read from the right; longer lists are forged
_MAX_ADDRESS = 64  # characters
# Of a Forwarded header; possessive, and with an end for what is not closed, so that no value makes
# them read a part twice.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*+(?:"|\\?$))++')
_PAIR = re.compile(r'(?<![A-Za-z])([A-Za-z]++)=(?:"((?:[^"\\]|\\.)*+)"|([^;,"\s]*))')

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Headers = Iterable[tuple[bytes, bytes]]


def _unmapped(ip: _Address) -> _Address:
    return getattr(ip, "ipv4_mapped", None) or ip


@lru_cache(4096)
def _parse_address(text: str) -> _Address | None:
    """An address as proxies write it: alone, with a port, in brackets; None = it is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return _unmapped(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


class TrustedProxies:
    """The networks whose proxies are believed.

    Args:
        networks: None = no proxy is.
    """

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = networks
        self.trusts = lru_cache(4096)(self._trusts)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def _trusts(self, address: str | None) -> bool:
        """Whether a peer's address is a trusted proxy's."""
        ip = _parse_address(address or "")
        return ip is not None and self._contain(ip)

    def _contain(self, ip: _Address) -> bool:
        return any(ip in network for network in self._networks)

    def client(self, peer: str, forwarded_for: str) -> str:
        """The address of a request's client.

        Args:
            peer: Address of the trusted proxy that is connected.
            forwarded_for: X-Forwarded-For, several joined with commas.

        Returns:
            The first address from the right that is no trusted proxy's; where there is none, the
            leftmost. Left of what is no address nothing counts: a proxy that can be trusted has
            not written it.
        """
        client, rest = peer, forwarded_for
        for _ in range(_MAX_HOPS):
            rest, comma, entry = rest.rpartition(",")
            ip = _parse_address(entry) if len(entry) <= _MAX_ADDRESS else None
            if ip is None:
                break
            client = str(ip)
            if not comma or not self._contain(ip):
                break
        return client

    def client_of(self, peer: str, headers: Headers) -> str:
        """The address of the client whose request a trusted proxy passes on; where it names none,
        the proxy's."""
        return self.client(peer, _given(headers).get(_FOR, ""))


def _given(headers: Headers) -> dict[bytes, str]:
    """What proxies say in the headers of a request, by header."""
    lines: dict[bytes, list[str]] = {}
    for name, value in headers:
        if name in FORWARDING:
            lines.setdefault(name, []).append(value.decode("latin-1"))
    given = {name: ",".join(values) for name, values in lines.items()}
    return _forwarded(given.pop(_FORWARDED)) | given if _FORWARDED in given else given


def _forwarded(header: str) -> dict[bytes, str]:
    """A Forwarded header in the form of the X-Forwarded headers."""
    elements = [
        {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(element)}
        for element in _ELEMENT.findall(header)
    ]
    if not elements:
        return {}
    first = {_HOST: elements[0].get("host", ""), _PROTO: elements[0].get("proto", "")}
    return first | {_FOR: ",".join(element.get("for", "?") for element in elements)}


def _first(values: str) -> str:
    return values.partition(",")[0].strip()


def _root_path(prefixes: str) -> str:
    """The prefixes of all proxies as one path without a slash at its end; empty = none, or one of
    them is no path."""
    parts = [part.strip().removesuffix("/") for part in prefixes[: 2 * _MAX_ROOT].split(",")]
    root = "".join(parts)
    is_path = len(root) <= _MAX_ROOT and all(map(ROOT_PATH.fullmatch, parts))
    return root if is_path else ""


class Forwarded(NamedTuple):
    """What proxies say of a request; None or empty = nothing."""

    client: str | None = None  # address
    scheme: str | None = None
    host: str | None = None
    root: str = ""  # path under which clients find the service


def read_forwarded(proxies: TrustedProxies, peer: str, headers: Headers) -> Forwarded:
    """What a request's headers say of it.

    Args:
        proxies: Those to believe.
        peer: Address of the trusted proxy that is connected.
        headers: Of the request, their names in lower case.
    """
    given = _given(headers)
    forwarded_for, scheme = given.get(_FOR), _first(given.get(_PROTO, "")).lower()
    host = _first(given.get(_HOST, "")).lower()
    return Forwarded(
        proxies.client(peer, forwarded_for) if forwarded_for else None,
        scheme if scheme in ("http", "https") else None,
        host if HOST.fullmatch(host) else None,
        _root_path(given[_PREFIX]) if _PREFIX in given else "",
    )


class ForwardedMiddleware:
    """Puts a request's client and address where ASGI has them: ``client``, ``scheme``,
    ``root_path`` and ``path``; and the forwarded host under ``FORWARDED_HOST``.

    Plain ASGI, around all other middleware. With a root path, ``path`` begins with it, as ASGI
    wants it, whether the proxy has removed it or not.

    Args:
        app: What is inside.
        proxies: Those to believe.
        root_path: Of the service, where no proxy names one.
        own: First segments of the service's own paths. A root path that looks like one of them is
            taken to be removed by the proxy.
    """

    def __init__(
        self, app: ASGIApp, proxies: TrustedProxies, root_path: str, own: frozenset[str]
    ) -> None:
        self.app = app
        self._proxies = proxies
        self._root_path = root_path
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = self._apply(scope)
        await self.app(scope, receive, send)

    def _apply(self, scope: Scope) -> Scope:
        peer = (scope.get("client") or ("",))[0]
        root = self._root_path
        changes: dict[str, Any] = {}
        if self._proxies and self._proxies.trusts(peer):
            said = read_forwarded(self._proxies, peer, scope["headers"])
            if said.client:
                changes["client"] = (said.client, 0)
            if said.scheme:
                changes["scheme"] = said.scheme
            if said.host:
                changes[FORWARDED_HOST] = said.host
            root = said.root or root
        if root:
            path = scope["path"]
            removed = path != root and not path.startswith(f"{root}/")
            if removed or root.split("/")[1] in self._own:
                path = root + path
            elif path == root:
                path += "/"
            changes |= {"root_path": root, "path": path}
        return {**scope, **changes} if changes else scope
