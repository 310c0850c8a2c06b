"""HEAD and OPTIONS, which every resource has."""

import re

import httpx
import pytest

GETS = ["/generate?seed=1", "/generate?seed=1&n=3&format=json", "/models", "/models/tiny-gan-v1"]
GETS += ["/livez", "/readyz", "/status", "/problems", "/problems/overloaded", "/", "/docs"]
GETS += ["/openapi.json", "/static/index.html"]


@pytest.mark.parametrize("path", GETS)
async def test_head_answers_as_get_does_without_the_body(
    client: httpx.AsyncClient, path: str
) -> None:
    changing = ("x-request-id", "server-timing", "content-length", "x-seed", "content-location")
    get, head = await client.get(path), await client.head(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    for name in set(get.headers) - set(changing):
        assert head.headers[name] == get.headers[name], name
    assert head.headers.get("content-length", "0") in ("0", get.headers.get("content-length"))
    metrics = (await client.get("/metrics")).text
    counts = re.findall(r'genserve_requests_total\{method="HEAD".*\} (.*)', metrics)
    assert sum(map(float, counts)) > 0


async def test_options_and_405_name_the_methods(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for path, operations in paths.items():
        methods = {method.upper() for method in operations} | {"OPTIONS"}
        methods |= {"HEAD"} if "GET" in methods else set()
        filled = path.replace("{name}", "tiny-gan-v1").replace("{slug}", "overloaded")
        answer = await client.options(filled)
        assert answer.status_code == 204
        assert set(answer.headers["allow"].split(", ")) == methods
        refused = await client.delete(filled)
        assert refused.status_code == 405
        assert refused.headers["allow"] == answer.headers["allow"]
    for path in ("/", "/docs", "/openapi.json", "/static/index.html"):
        answer = await client.options(path)
        assert answer.status_code == 204
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert (await client.options("/nothing")).status_code == 404
    head = await client.head("/encode")
    assert head.status_code == 405
    assert head.headers["allow"] == "OPTIONS, POST"
