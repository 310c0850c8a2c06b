"""Requests through proxies: whom the service believes, and the addresses that it then writes."""

import json
import re
import time
from collections.abc import Iterable
from html import unescape
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from app.core.clients import current_client
from app.http.access import FORWARDED_HOST
from app.http.forwarded import ForwardedMiddleware, TrustedProxies
from app.settings import Settings
from tests.app.full_route import FULL_ROUTE
from tests.app.http.raw_connection import RawConnection

PROXY = "10.1.2.3"
NETWORKS = Settings(trusted_proxies="10.0.0.0/8, 127.0.0.1,fd00::/8").proxy_networks
PLAIN = "/generate?label=7&seed=42"


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ('"[2001:db8::7]:4711"', "2001:db8::7"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::1"),
        # The proxies are left out, whatever a client has written before them.
        ("203.0.113.9, 10.9.9.9, fd00::1", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("unknown, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1, 203.0.113.9,10.0.0.2", "203.0.113.9"),
        ("::ffff:10.9.9.9, 10.0.0.2", "10.9.9.9"),
        ("10.0.0.7", "10.0.0.7"),
        # What is no address ends the list: nothing left of it counts.
        ("203.0.113.9, unknown", PROXY),
        ("203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
        ("203.0.113.9, ,10.0.0.2", "10.0.0.2"),
        ("", PROXY),
        (",,,", PROXY),
        ("1.2.3", PROXY),
        ("999.1.1.1", PROXY),
        ("example.com", PROXY),
        ("1.2.3.4.5:80", PROXY),
        ("9" * 70_000, PROXY),
        (",".join(["203.0.113.9"] + ["10.0.0.1"] * 10_000), "10.0.0.1"),
    ],
)
def test_the_client_is_the_first_address_from_the_right_that_is_no_proxy(
    forwarded_for: str, client: str
) -> None:
    assert TrustedProxies(NETWORKS).client(PROXY, forwarded_for) == client


def test_only_addresses_in_the_networks_are_trusted() -> None:
    proxies = TrustedProxies(NETWORKS)
    for address in ("10.0.0.1", "127.0.0.1", "fd00::1", "::ffff:10.1.1.1"):
        assert proxies.trusts(address)
    for other in ("11.0.0.1", "127.0.0.2", "::1", "2001:db8::1", "", "testclient", None):
        assert not proxies.trusts(other)
    assert not TrustedProxies()


@pytest.mark.parametrize("value", ["10.0.0.5/8", "example.com", "10.0.0.0/33", "*", "10.0.0.1 ::1"])
def test_a_network_that_is_none_is_refused_at_the_start(value: str) -> None:
    with pytest.raises(ValidationError, match=r"such as 10\.0\.0\.0/8"):
        Settings(trusted_proxies=value)


@pytest.mark.parametrize(
    "value", ["api", "//evil.com", "/a//b", "/a/..", "/a b", "/?", "http://a/b"]
)
def test_a_root_path_that_is_none_is_refused_at_the_start(value: str) -> None:
    with pytest.raises(ValidationError, match="is no path such as /api"):
        Settings(root_path=value)
    assert Settings(root_path="/a/b/").root_path == "/a/b"
    assert Settings(root_path="/").root_path == ""


async def applied(
    headers: Iterable[tuple[str, str]], peer: str = PROXY, path: str = "/generate", root: str = ""
) -> dict[str, Any]:
    """What the middleware makes of a request."""
    seen: dict[str, Any] = {}

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.update(scope)

    scope = {
        "type": "http",
        "scheme": "http",
        "path": path,
        "root_path": "",
        "client": (peer, 1),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
    middleware = ForwardedMiddleware(
        app, TrustedProxies(NETWORKS), root, frozenset({"generate", "models", "v2", ""})
    )
    await middleware(scope, None, None)  # type: ignore[arg-type]
    return seen


ALL = [
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-Host", "Digits.example.com:8443"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Prefix", "/api/"),
]


async def test_what_a_trusted_proxy_says_counts_and_what_others_say_does_not() -> None:
    seen = await applied(ALL)
    assert seen["client"][0] == "203.0.113.9"
    assert seen[FORWARDED_HOST] == "digits.example.com:8443"
    assert (seen["scheme"], seen["root_path"], seen["path"]) == ("https", "/api", "/api/generate")
    forwarded = [("Forwarded", 'for="[2001:db8::7]:1";host=a.example.com;proto=https')]
    for headers in (ALL, forwarded):
        stranger = await applied(headers, peer="192.0.2.1")
        assert stranger == await applied(headers, peer="192.0.2.1", root="")
        assert (stranger["client"], stranger["scheme"]) == (("192.0.2.1", 1), "http")
        assert (stranger["root_path"], stranger["path"]) == ("", "/generate")
        assert FORWARDED_HOST not in stranger


async def test_the_standard_header_counts_where_the_usual_ones_are_missing() -> None:
    value = 'for=198.51.100.1, for="[2001:db8::7]:1";by=10.0.0.1 , For=10.0.0.2;proto=http'
    seen = await applied([("Forwarded", "host=a.example.com;proto=HTTPS;" + value)])
    assert (seen["client"][0], seen["scheme"]) == ("2001:db8::7", "https")
    assert seen[FORWARDED_HOST] == "a.example.com"
    seen = await applied([("Forwarded", value), *ALL])
    assert (seen["client"][0], seen["scheme"]) == ("203.0.113.9", "https")
    for odd in ("", ";", "for", '"', "for=_hidden", "for=unknown, for=_x", 'for="\\', "=,=,=", "é"):
        seen = await applied([("Forwarded", odd)])
        assert seen["client"][0] == PROXY


@pytest.mark.parametrize(
    "part", ["for=", '"', '"\\', "a", 'a="\\"', ",", "a=,", '="', ";", "for=::1,"]
)
async def test_a_long_header_takes_no_longer_than_its_length(part: str) -> None:
    """Reading a part twice for each other part would take minutes."""
    began = time.monotonic()
    for name in ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Prefix"):
        await applied([(name, part * (65_000 // len(part)))])
    assert time.monotonic() - began < 10


async def test_several_headers_of_a_name_are_one_list() -> None:
    lines = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "10.0.0.4, 10.0.0.5")]
    assert (await applied(lines))["client"][0] == "203.0.113.9"
    lines = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")]
    assert (await applied(lines))["scheme"] == "https"
    lines = [("X-Forwarded-Prefix", "/a, /b/"), ("X-Forwarded-Prefix", "/")]
    assert (await applied(lines))["root_path"] == "/a/b"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("X-Forwarded-Proto", value) for value in ("", "ftp", "https://", "javascript")),
        *(
            ("X-Forwarded-Host", value)
            for value in ("", "a b", "evil/..", "a@b", "<b>", "é", "x" * 999)
        ),
        *(
            ("X-Forwarded-Prefix", value)
            for value in ("", "api", "//evil.com", "/a/../b", '/"><b>')
        ),
        *(
            ("X-Forwarded-Prefix", value)
            for value in ("/a" * 200, "/é", "/a?b", "/a, b", "/\\evil")
        ),
    ],
)
async def test_garbage_changes_nothing(name: str, value: str) -> None:
    assert {**await applied([(name, value)]), "headers": []} == {**await applied([]), "headers": []}


@pytest.mark.parametrize(
    ("path", "root", "seen"),
    [
        ("/generate", "/api", "/api/generate"),  # removed by the proxy
        ("/api/generate", "/api", "/api/generate"),  # not removed
        ("/", "/api", "/api/"),
        ("/api", "/api", "/api/"),
        ("/apiary", "/api", "/api/apiary"),
        # A root path like one of the service's own: the proxy must remove it.
        ("/models/a", "/models", "/models/models/a"),
        ("/v2/health/live", "/v2", "/v2/v2/health/live"),
    ],
)
async def test_the_path_is_below_the_root_whether_the_proxy_removed_it_or_not(
    path: str, root: str, seen: str
) -> None:
    for headers, setting in (([], root), ([("X-Forwarded-Prefix", root)], "/other")):
        scope = await applied(headers, path=path, root=setting)
        assert (scope["root_path"], scope["path"]) == (root, seen)


@pytest.fixture
async def behind(make_wire: Any) -> Any:
    """A service that believes this machine, and is below /api."""
    return await make_wire(
        trusted_proxies="127.0.0.0/8", root_path="/api", allowed_hosts="digits.example.com"
    )


# Whatever begins like one, in tags and in scripts; but not in quotations of errors.
QUOTED = re.compile("<q>.*?</q>")
ADDRESS = re.compile(r'["\'](/[^"\'\s]*|[a-z]+://[^"\'\s]*)["\']')


async def test_every_address_in_pages_is_below_the_root_and_answers(
    behind: httpx.AsyncClient,
) -> None:
    html = {"accept": "text/html"}
    for headers, root in ((html, "/api"), (html | {"x-forwarded-prefix": "/x/y"}, "/x/y")):
        for path in ("/", "/docs", "/redoc", "/models", "/problems", "/problems/not-found"):
            for asked in (path, root + path):
                page = await behind.get(asked, headers=headers)
                assert page.status_code == 200, asked
                found = set(ADDRESS.findall(unescape(QUOTED.sub("", page.text))))
                assert len(found) > 1
                for address in found:
                    assert address.startswith(f"{root}/"), (path, address)
                    inner = address.removeprefix(root)
                    answer = await behind.get(inner, headers={"x-forwarded-prefix": root})
                    assert answer.status_code == 200, address


async def test_every_address_in_headers_and_json_is_below_the_root(
    behind: httpx.AsyncClient,
) -> None:
    for headers, root in (({}, "/api"), ({"x-forwarded-prefix": "/x"}, "/x")):
        for path in (
            PLAIN,
            f"{PLAIN}&format=json",
            f"{PLAIN}&n=3&format=zip",
            "/interpolate?seeds=1,2&format=json",
            "/traverse?seed=1&axes=0",
            "/dataset?n=3&seed=1",
        ):
            for extra in (headers, headers | FULL_ROUTE | {"accept": "*/*;q=0.9"}):
                answer = await behind.get(path, headers=extra)
                assert answer.status_code == 200, answer.text
                location = answer.headers["content-location"]
                assert location.startswith(f"{root}{path.partition('?')[0]}?"), location
                again = await behind.get(location, headers=extra)
                assert again.content == answer.content
        items = (await behind.get(f"{PLAIN}&format=json", headers=headers)).json()["items"]
        assert all(item["permalink"].startswith(f"{root}/generate?") for item in items)
        cards = (await behind.get("/models", headers=headers)).json()["models"]
        for card in cards:
            assert all(
                address.startswith(f"{root}/models/") for address in card["pictures"].values()
            )
        spec = (await behind.get("/openapi.json", headers=headers)).json()
        assert spec["servers"] == [{"url": root}]
        for path in (
            "/nothing",
            "/static/nothing",
            "/generate?seed=x",
            "/models/none",
            "/generate?label=x&seed=1",
        ):
            assert (
                (await behind.get(path, headers=headers))
                .json()["type"]
                .startswith(f"{root}/problems/")
            )


async def test_errors_before_any_route_name_the_settings_root(behind: httpx.AsyncClient) -> None:
    async with RawConnection(behind) as connection:
        connection.send(b"rubbish\r\n\r\n")
        _, _, body = await connection.response()
        assert json.loads(body)["type"] == "/api/problems/malformed-request"


async def test_the_forwarded_host_is_checked_beside_the_one_that_the_proxy_asked_for(
    behind: httpx.AsyncClient,
) -> None:
    def forwarded(asked: str, **more: str) -> dict[str, str]:
        return {"x-forwarded-host": asked, "x-forwarded-proto": "https", **more}

    for path in (PLAIN, "/models"):
        for host in ("digits.example.com", "digits.example.com:8443", "192.0.2.1"):
            assert (await behind.get(path, headers=forwarded(host))).status_code == 200
        refused = await behind.get(path, headers=forwarded("evil.example.com"))
        assert refused.status_code == 421
        assert "X-Forwarded-Host is 'evil.example.com'" in refused.json()["detail"]
        # A page at evil.example.com that points to the proxy can set X-Forwarded-Host.
        rebound = forwarded("digits.example.com", host="evil.example.com")
        assert (await behind.get(path, headers=rebound)).status_code == 421
    own = forwarded("digits.example.com", origin="https://digits.example.com")
    assert (await behind.post(PLAIN, headers=own)).status_code == 200
    other = forwarded("digits.example.com", origin="https://evil.example.com")
    assert (await behind.post(PLAIN, headers=other)).status_code == 403


async def test_the_client_of_a_request_is_the_forwarded_one_on_both_ways(
    make_wire: Any, app_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trusted, expected in (("127.0.0.1", "203.0.113.9"), (None, "127.0.0.1")):
        wire = await make_wire(trusted_proxies=trusted)
        service = app_of(wire).state.service
        clients: list[str | None] = []
        begin = service.begin_request

        def seen(
            timeout: Any,
            gone: Any,
            client: Any = None,
            *trace: Any,
            begin: Any = begin,
            to: Any = clients,
            **more: Any,
        ) -> Any:
            to.append(client or current_client.get())
            return begin(timeout, gone, client, *trace, **more)

        monkeypatch.setattr(service, "begin_request", seen)
        for headers in ({}, FULL_ROUTE):
            forwarded = {
                "x-forwarded-for": "198.51.100.1, 203.0.113.9",
                "x-forwarded-proto": "https",
            }
            assert (await wire.get(PLAIN, headers=headers | forwarded)).status_code == 200
        assert clients == [expected, expected]
