"""The real nginx and haproxy in front of the real service."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from typing import Any

import httpx
import pytest

from bench.proxies import PROXIES, flooding, missing, running_proxy, timed_posts

pytestmark = pytest.mark.slow

PLAIN = "/generate?label=7&seed=42"
ADDRESS = re.compile(r'["\'](/[^"\'\s]*|[a-z]+://[^"\'\s]*)["\']')


def needs(name: str) -> None:
    if why := missing(name):
        pytest.skip(why)


@pytest.fixture(scope="module")
def service(start_server: Any, tiny_store: Any) -> Iterator[str]:
    """One that believes the proxies on this machine, and closes idle connections after a second."""
    options = ["--trusted-proxies", "127.0.0.1,::1", "--allowed-hosts", "digits.example.com"]
    options += ["--keep-alive-seconds", "1", "--workers", "1", "--models-dir", str(tiny_store)]
    with start_server(*options) as server:
        yield server.url


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, service: str) -> Iterator[str]:
    """The address of a proxy."""
    needs(request.param)
    with running_proxy(request.param, service, keep_alive_s=1) as url:
        yield url


def test_posts_timed_to_the_keep_alive_limit_all_get_an_answer(proxy: str) -> None:
    """``python -m bench.proxies --posts 3200`` sends more."""
    statuses = asyncio.run(timed_posts(proxy, 96, pause_s=1.0))
    assert statuses == {200: 96}


def test_every_address_below_a_prefix_leads_back_through_the_proxy(proxy: str) -> None:
    html, host = {"accept": "text/html"}, {"host": "digits.example.com"}
    with httpx.Client(base_url=proxy, headers=host, timeout=30) as client:
        for path in ("/", "/docs", "/redoc", "/models", "/models/tiny-cgan-v1", "/problems"):
            page = client.get(f"/api{path}", headers=html)
            assert page.status_code == 200
            for address in sorted(set(ADDRESS.findall(unescape(page.text)))):
                assert address.startswith("/api/"), (path, address)
                if "n=64" not in address:  # more than this service's models are asked for
                    assert client.get(address).status_code == 200, address
        answer = client.get(f"/api{PLAIN}")
        assert answer.headers["content-location"].startswith("/api/generate?")
        assert client.get(answer.headers["content-location"]).content == answer.content
        known = {"if-none-match": answer.headers["etag"]}
        assert client.get(f"/api{PLAIN}", headers=known).status_code == 304
        item = client.get(f"/api{PLAIN}&format=json").json()["items"][0]
        assert client.get(item["permalink"]).content == answer.content
        problem = client.get("/api/nothing").json()["type"]
        assert problem == "/api/problems/not-found"
        assert client.get(problem).status_code == 200
        assert client.get("/api/openapi.json").json()["servers"] == [{"url": "/api"}]
        verified = client.post(
            "/api/verify", content=answer.content, headers={"content-type": "image/png"}
        )
        assert verified.json()["verdict"] == "same"
        assert client.get(PLAIN).headers["content-location"].startswith("/generate?")


def test_a_page_of_the_forwarded_host_may_post_and_others_may_not(proxy: str) -> None:
    with httpx.Client(base_url=proxy, headers={"host": "digits.example.com"}) as client:
        own = client.post(PLAIN, headers={"origin": "http://digits.example.com"})
        assert own.status_code == 200
        assert client.post(PLAIN, headers={"origin": "http://evil.example.com"}).status_code == 403
        assert client.get(PLAIN, headers={"host": "evil.example.com"}).status_code == 421


@pytest.mark.parametrize("name", PROXIES)
def test_a_flood_of_one_client_leaves_another_its_answers(
    name: str, start_server: Any, tiny_store: Any
) -> None:
    """Each counts by its own address, though both come through the proxy."""
    needs(name)
    options = ["--models-dir", str(tiny_store), "--max-batch", "16", "--workers", "1"]
    options += ["--trusted-proxies", "127.0.0.1", "--max-queue-ms", "500"]
    program = ("-m", "tests.faulty_service", "row_s=0.002")
    with (
        start_server(*options, program=program) as server,
        running_proxy(name, server.url) as url,
        flooding(url),
    ):
        transport = httpx.HTTPTransport(local_address="127.0.0.3")
        with httpx.Client(base_url=url, transport=transport, timeout=30) as client:
            statuses = [client.post("/generate?label=7").status_code for _ in range(20)]
        assert statuses == [200] * 20


def test_curl_offering_http2_gets_the_same_answer(service: str) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    body = json.dumps({"z": [[0.5, 0.5, 0.5]]})
    command = ["curl", "-sS", "-H", "Content-Type: application/json", "-d", body]
    for path in ("/decode?format=npy", "/decode?format=json"):
        url = service + path
        plain = subprocess.run([*command, url], capture_output=True, check=True, timeout=30)
        offering = [*command, "--http2", url, "--next", *command[1:], "--http2", url]
        twice = subprocess.run(offering, capture_output=True, check=True, timeout=30)
        assert plain.stdout
        assert twice.stdout == plain.stdout * 2
