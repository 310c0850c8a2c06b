"""Access control: host names, cross-site requests, API keys."""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.clients import by_address, by_key, current_client
from app.errors import (
    CrossSiteError,
    MalformedRequestError,
    MisdirectedRequestError,
    UnauthorizedError,
    shown,
)

HOST = re.compile(
    r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_-]([a-z0-9._-]{0,251}[a-z0-9_-])?)\.?(:[0-9]{0,5})?"
)
# Endings under which no stranger can register a name.
_LOCAL = (
    # Reserved: RFC 6761, RFC 6762, RFC 8375, and by ICANN in 2024.
    *(".localhost", ".test", ".local", ".home.arpa", ".internal"),
    # Of private networks (RFC 6762, appendix G); ICANN delegates none of them.
    *(".intranet", ".private", ".corp", ".home", ".lan", ".localdomain"),
    # Kubernetes' services: NAME.NAMESPACE.svc, and NAME.NAMESPACE in the first namespace.
    *(".svc", ".default"),
    ".fritz.box",  # AVM's, who make these routers; the rest of .box is for sale
)
# Top-level domains have letters alone, or begin with xn--. Other namespaces of Kubernetes, such as
# team-a or ml2, cannot be any.
_NO_DOMAIN = re.compile(r"(?!xn--)[a-z]+[0-9-][a-z0-9-]*")
FORWARDED_HOST = "genserve.forwarded_host"  # in the scope: the host that a proxy was asked for
# For probes and load balancers: under any host name, and without a key.
HEALTH = ("/livez", "/health", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
SAFE = ("GET", "HEAD", "OPTIONS")
# Pages for a browser, with what they load; none of them holds data of the service.
_PAGES = re.compile(r"/|/(docs|redoc|openapi\.json)|/(static|static-offline-docs|problems)(/.*)?")


class Hosts:
    """The host names under which the service answers.

    IP addresses, names without a dot, names that end in ``_LOCAL`` and names whose last part cannot
    be a top-level domain are always allowed. None of them can be a stranger's domain that points to
    this machine, whose pages a browser would take for the service's own (DNS rebinding). Other
    names have to be listed.

    Args:
        allowed: Names; ``*.name`` = all names below it, ``*`` = any name.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        names = [name.strip().lower().rstrip(".") for name in allowed]
        self._any = "*" in names
        self._names = {name for name in names if name}
        # Clients repeat themselves, so most requests cost one look-up.
        self.allows = lru_cache(1024)(self._allows)

    def _allows(self, host: str) -> bool:
        """Whether the value of a Host header is allowed; False if it is no host name at all."""
        match = HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = match[1]
        if self._any or "." not in name or name.endswith(_LOCAL) or name in self._names:
            return True
        if name == "fritz.box" or _NO_DOMAIN.fullmatch(name.rpartition(".")[2]):
            return True
        above = name.split(".")[1:]
        if any(f"*.{'.'.join(above[place:])}" in self._names for place in range(len(above))):
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def check(self, given: list[str], http_version: str, header: str = "Host") -> None:
        """Check the Host headers of a request, or those of another name that say the same.

        Raises:
            MalformedRequestError: there is not exactly one, or it is no host name.
            MisdirectedRequestError: the name is not allowed.
        """
        if len(given) == 1 and self.allows(given[0]):
            return
        if not given and http_version == "1.0":
            return
        if len(given) != 1 or HOST.fullmatch(given[0].lower()) is None:
            what = f"is {shown(given[0])}" if len(given) == 1 else f"is given {len(given)} times"
            raise MalformedRequestError(
                f"{header} {what}; it must be given once, a name or an address, perhaps with a "
                "port",
                headers={"Connection": "close"},
            )
        raise MisdirectedRequestError(
            f"{header} is {shown(given[0])}, which this service does not answer to; ask for it "
            "by its IP address, localhost or a local name, or list the name in "
            "GENSERVE_ALLOWED_HOSTS"
        )


def check_site(
    method: str,
    site: list[str],
    origin: list[str],
    host: str,
    allowed_origins: frozenset[str] = frozenset(),
) -> None:
    """Refuse cross-site requests (CSRF): those that a page of another origin makes a browser send.

    No page can set these headers itself. GET, HEAD and OPTIONS pass, for links and ``<img>``; no
    page of another origin can read the response, because no CORS header allows it, unless the
    origin is listed (``app.http.cors``).

    Source: http.CrossOriginProtection of Go 1.25.

    Args:
        method: Of the request.
        site: Sec-Fetch-Site headers. Older browsers send none, nor does any browser over plain HTTP
            to a host other than localhost.
        origin: Origin headers.
        host: The Host header.
        allowed_origins: Those whose pages may use the service.

    Raises:
        CrossSiteError: it comes from another origin.
    """
    if method in SAFE or (not site and not origin):
        return
    if len(origin) == 1 and origin[0] in allowed_origins:
        return
    if site:
        if site[0] in ("same-origin", "none") and len(site) == 1:
            return
        header = f"Sec-Fetch-Site is {shown(site[0])}"
    else:
        if len(origin) == 1 and origin[0].partition("://")[2].lower() == host.lower():
            return
        header = f"Origin is {shown(origin[0])}"
    raise CrossSiteError(
        f"{header}: the request comes from a page of another origin. Send it from this service's "
        "own pages, from a program that is no browser, or through a server of your own; or have "
        "the origin listed in GENSERVE_CORS_ORIGINS"
    )


class Keys:
    """API keys, compared in constant time."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def check(self, given: list[bytes]) -> str:
        """Check the Authorization headers of a request.

        Returns:
            The client, as ``app.core.clients`` names it.

        Raises:
            UnauthorizedError: there is not exactly one with a valid key; the error does not say
                what is wrong.
        """
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        token = token.strip(b" ")
        digest = hashlib.sha256(token).digest()
        same = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() != b"bearer" or not any(same):
            raise UnauthorizedError(
                "send one of this service's keys as Authorization: Bearer KEY",
                headers={"WWW-Authenticate": 'Bearer realm="genserve"'},
            )
        return by_key(token)


def root_path(scope: Scope) -> str:
    """The path under which clients find the service, without a slash at its end; mostly empty."""
    # Within a mounted application Starlette keeps the whole one's under this name.
    root: str = scope.get("app_root_path", scope.get("root_path", ""))
    return root


def route_path(scope: Scope) -> str:
    """The path of a request within the service."""
    path: str = scope["path"]
    return path[len(root_path(scope)) :]


def needs_key(method: str, path: str) -> bool:
    """Whether the request needs a key: all but health, pages and OPTIONS do."""
    return method != "OPTIONS" and path not in HEALTH and not _PAGES.fullmatch(path)


class Access:
    """Who may ask for what: the rules for host, origin and key together.

    Args:
        hosts: Under which the service answers.
        keys: Of its clients; none = it is open to all.
        allowed_origins: Those whose pages may use the service.
    """

    HEADERS = (b"host", b"sec-fetch-site", b"origin", b"authorization")  # that decide

    def __init__(
        self, hosts: Hosts, keys: Keys, allowed_origins: frozenset[str] = frozenset()
    ) -> None:
        self.hosts = hosts
        self.keys = keys
        self.allowed_origins = allowed_origins

    def check(
        self,
        method: str,
        path: str,
        given: Mapping[bytes, list[bytes]],
        *,
        forwarded_host: str | None,
        client: str | None,
        http_version: str = "1.1",
    ) -> str | None:
        """Check a request.

        Args:
            method, path, http_version: Of the request; its path within the service.
            given: ``HEADERS`` that it has, with all their values.
            forwarded_host: What a trusted proxy was asked for; None = nothing else than Host.
            client: Who sent it, by its address.

        Returns:
            Who sent it, by its key if it needs one.

        Raises:
            MalformedRequestError, MisdirectedRequestError, CrossSiteError, UnauthorizedError
        """
        if path in HEALTH:
            return client
        host = _texts(given, b"host")
        self.hosts.check(host, http_version)
        if forwarded_host:
            # Beside Host: pages can set this header, and proxies may pass it on.
            self.hosts.check([forwarded_host], "1.1", "X-Forwarded-Host")
        if method not in SAFE:
            site, origin = _texts(given, b"sec-fetch-site"), _texts(given, b"origin")
            check_site(method, site, origin, forwarded_host or "".join(host), self.allowed_origins)
        if self.keys and needs_key(method, path):
            return self.keys.check(given.get(b"authorization", []))
        return client


def _texts(given: Mapping[bytes, list[bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for value in given[name]] if name in given else []


class AccessMiddleware:
    """Checks ``Access``, and sets ``current_client``.

    Plain ASGI, inside ``RequestMiddleware``, which turns the errors raised here into responses.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (path := route_path(scope)) not in HEALTH:
            given: dict[bytes, list[bytes]] = {}
            for name, value in scope["headers"]:
                if name in Access.HEADERS:
                    given.setdefault(name, []).append(value)
            peer = scope.get("client")
            client = self.access.check(
                scope["method"],
                path,
                given,
                forwarded_host=scope.get(FORWARDED_HOST),
                client=by_address(peer[0] if peer else None),
                http_version=scope["http_version"],
            )
            current_client.set(client)
        await self.app(scope, receive, send)
