"""Access control by host, origin and key, on the fast path and on the full route."""

import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from app.http.access import Hosts
from app.settings import Settings
from tests.app.full_route import FULL_ROUTE

KEY, OTHER = "k" * 16, "Another-key_0123456789"
PLAIN = "/generate?label=7&seed=42"


def problem(answer: httpx.Response, status: int, slug: str) -> Any:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["type"] == f"/problems/{slug}"
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:8000", "192.168.1.20", "[::1]:8000", "[::ffff:10.0.0.1]", "10.0.0.1."),
        *("localhost:8000", "LOCALHOST", "app.localhost", "my-machine:8000", "my_container"),
        *("printer.local", "genserve.default.svc.cluster.local:80", "host.docker.internal"),
        *(
            "genserve.default",
            "genserve.default:80",
            "genserve.prod.svc",
            "g.default.svc.cluster-1",
        ),
        *("genserve.team-a", "genserve.ml2", "nas.lan", "nas.home.arpa", "nas.home", "a.corp"),
        *("fritz.box", "nas.fritz.box", "NAS.FRITZ.BOX", "nas.intranet", "nas.localdomain"),
    ],
)
def test_names_that_no_stranger_can_own_are_answered_to(host: str) -> None:
    assert Hosts().allows(host)


@pytest.mark.parametrize(
    "host",
    [
        *("example.com", "evil.example.com:8000", "127.0.0.1.evil.com", "localhost.evil.com"),
        *("evil.com.", "1.2.3", "1.2.3.4.5", "xn--e1afmkfd.com", "locallocal.com"),
        *("", " ", "a b", "a/b", "user@localhost", "[::1", "localhost:port", "a..b\r", "é"),
        *("[::1].evil.com", "x" * 300, "localhost:123456"),
        # Top-level domains that anyone can register under, some of which are namespaces elsewhere.
        *(
            "genserve.dev",
            "genserve.app",
            "genserve.prod",
            "evil.box",
            "evilfritz.box",
            "a.cluster",
        ),
        *("default.com", "svc.com", "lan.com", "a.xn--p1ai", "a.xn--e1-2", "a.1b", "a.0x7f"),
    ],
)
def test_public_names_and_what_is_no_name_are_not(host: str) -> None:
    assert not Hosts().allows(host)


def test_listed_names_are_answered_to() -> None:
    hosts = Hosts(["api.example.com", " *.example.org"])
    for name in ("api.example.com", "API.example.com:443", "a.example.org", "a.b.example.org"):
        assert hosts.allows(name)
    for name in ("example.com", "x.api.example.com", "example.org", "badexample.org"):
        assert not hosts.allows(name)
    assert Hosts(["*"]).allows("any.example.net")
    assert not Hosts(["*"]).allows("any example")


async def test_a_public_name_is_misdirected_on_both_ways(make_wire: Any) -> None:
    wire = await make_wire(allowed_hosts="api.example.com")
    for extra in ({}, FULL_ROUTE):
        for host in ("test", "api.example.com", "127.0.0.1:9"):
            assert (await wire.get(PLAIN, headers={"host": host, **extra})).status_code == 200
        answer = await wire.get(PLAIN, headers={"host": "evil.example.com", **extra})
        assert "GENSERVE_ALLOWED_HOSTS" in problem(answer, 421, "misdirected-request")["detail"]
        wrong = await wire.get(PLAIN, headers={"host": "a b", **extra})
        problem(wrong, 400, "malformed-request")
    for path in ("/", "/docs", "/openapi.json", "/v2", "/metrics", "/nothing"):
        answer = await wire.get(path, headers={"host": "evil.example.com"})
        assert answer.status_code == 421
    for path in ("/livez", "/readyz", "/v2/health/live"):
        assert (await wire.get(path, headers={"host": "probe.example.com"})).status_code == 200


CROSS = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "http://test:3000"},
    {"sec-fetch-site": "CROSS-SITE"},
    {"sec-fetch-site": "x"},
    {"origin": "http://evil.example.com"},
    {"origin": "null"},
    {"origin": "http://test:3000"},
    {"origin": "http://nottest"},
    {"sec-fetch-site": "cross-site", "origin": "http://test"},
]
OWN = [
    {"sec-fetch-site": "same-origin", "origin": "http://test"},
    {"sec-fetch-site": "same-origin", "origin": "https://behind-a-proxy.example.com"},
    {"sec-fetch-site": "none"},
    {"origin": "http://test"},
    {"origin": "https://TEST"},
    {},
]


@pytest.mark.parametrize("headers", CROSS)
async def test_what_another_sites_page_posts_is_refused(
    wire: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    headers = {"host": "test", **headers}
    for path in (PLAIN, "/encode", "/dataset"):
        answer = await wire.post(path, headers=headers)
        problem(answer, 403, "cross-site")
        assert "evil" not in answer.text or "'http://evil" in answer.text
    v2 = await wire.post("/v2/models/tiny-gan-v1/infer", headers=headers)
    assert (v2.status_code, list(v2.json())) == (403, ["error"])
    # A picture in the page is no harm; nothing lets the page read it.
    shown = await wire.get(PLAIN, headers=headers)
    assert shown.status_code == 200
    assert not [name for name in shown.headers if name.startswith("access-control")]
    asked = await wire.options(
        "/generate", headers=headers | {"access-control-request-method": "POST"}
    )
    assert asked.status_code == 204
    assert not [name for name in asked.headers if name.startswith("access-control")]


@pytest.mark.parametrize("headers", OWN)
async def test_what_its_own_pages_and_programs_post_is_answered(
    wire: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await wire.post(PLAIN, headers={"host": "test", **headers})).status_code == 200


WRONG: list[list[tuple[str, str | bytes]]] = [
    [],
    [("authorization", "")],
    [("authorization", "Bearer")],
    [("authorization", KEY)],
    [("authorization", f"Basic {KEY}")],
    [("authorization", f"Bearer {KEY}x")],
    [("authorization", f"Bearer {KEY[:-1]}")],
    [("authorization", f"Bearer {KEY},{OTHER}")],
    [("authorization", f"Bearer {KEY} {KEY}")],
    [("authorization", b"Bearer \xff\xfe\xc3\xa9")],
    [("authorization", "Bearer " + "x" * 60_000)],
    [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")],
    [("x-api-key", KEY)],
    [("cookie", f"key={KEY}")],
]


async def test_with_keys_set_a_request_needs_one(make_wire: Any) -> None:
    wire = await make_wire(api_keys=f"{KEY}, {OTHER}")
    answers = []
    for headers in WRONG:
        for extra in ([], list(FULL_ROUTE.items())):
            answer = await wire.get(PLAIN, headers=[*headers, *extra])
            problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == 'Bearer realm="genserve"'
            assert KEY not in answer.text
            answers.append({k: v for k, v in answer.json().items() if k != "request_id"})
    assert all(answer == answers[0] for answer in answers)
    problem(await wire.get(f"{PLAIN}&key={KEY}"), 401, "unauthorized")
    for key in (KEY, OTHER):
        for scheme in ("Bearer", "bearer", "BEARER"):
            answer = await wire.get(PLAIN, headers={"authorization": f"{scheme} {key}"})
            assert answer.status_code == 200
    for path in ("/models", "/status", "/metrics", "/v2", "/v2/models/tiny-gan-v1", "/dataset"):
        assert (await wire.get(path)).status_code == 401
    v2 = await wire.get("/v2")
    assert list(v2.json()) == ["error"]
    open_to_all = ["/", "/docs", "/redoc", "/openapi.json", "/problems", "/problems/unauthorized"]
    open_to_all += ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready"]
    open_to_all += ["/static/index.html"]
    for path in open_to_all:
        assert (await wire.get(path)).status_code == 200, path
    assert (await wire.options("/generate")).status_code == 204


def test_keys_come_from_the_environment_or_a_file_and_are_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{KEY}\n\n{OTHER}\n")
    assert Settings(api_keys_file=path).keys == (KEY, OTHER)
    monkeypatch.setenv("GENSERVE_API_KEYS", f"{OTHER},{KEY},{KEY}")
    settings = Settings()
    assert settings.keys == (OTHER, KEY)
    assert KEY not in repr(settings)
    assert Settings(api_keys_file=path).keys == (OTHER, KEY)
    monkeypatch.delenv("GENSERVE_API_KEYS")
    assert Settings().keys == ()
    for wrong in ("short", "x" * 257, "has a space in it", "é" * 20, "", ", ,"):
        with pytest.raises(ValidationError, match="api_keys") as caught:
            Settings(api_keys=SecretStr(wrong))
        if len(wrong) > 3:
            assert wrong not in str(caught.value)
    with pytest.raises(ValidationError, match="No such file"):
        Settings(api_keys_file=tmp_path / "none")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValidationError, match="it is not text"):
        Settings(api_keys_file=path)


def test_a_file_of_keys_ends_and_is_small(tmp_path: Path) -> None:
    path, pipe, link = tmp_path / "keys", tmp_path / "pipe", tmp_path / "link"
    path.write_text(KEY)
    link.symlink_to(path)
    assert Settings(api_keys_file=link).keys == (KEY,)  # secrets are mounted so
    os.mkfifo(pipe)
    for endless in (pipe, tmp_path, Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(ValidationError, match="it is no regular file"):
            Settings(api_keys_file=endless)
    path.write_text(f"{KEY}\n" * 2**16)
    with pytest.raises(ValidationError, match="it has over 1048576 bytes"):
        Settings(api_keys_file=link)
