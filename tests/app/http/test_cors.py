"""Pages of other origins: refused, unless their origin is listed."""

from typing import Any

import httpx
import pytest

from app.http.cors import EXPOSED

PLAIN = "/generate?label=7&seed=42"
OTHER = "https://other.example.com"
LISTED = ("https://app.example.com", "http://localhost:3000")


@pytest.fixture
async def listing(make_client: Any) -> Any:
    return await make_client(cors_origins=", ".join(LISTED), api_keys="k" * 16)


def from_page(origin: str, **more: str) -> dict[str, str]:
    return {"origin": origin, "sec-fetch-site": "cross-site", **more}


KEY = {"authorization": f"Bearer {'k' * 16}"}


@pytest.mark.parametrize("origin", LISTED)
async def test_pages_of_listed_origins_may_use_the_service(
    listing: httpx.AsyncClient, origin: str
) -> None:
    for method, path, status in (
        ("GET", PLAIN, 200),
        ("POST", PLAIN, 200),
        ("GET", "/nothing", 404),
        ("POST", "/generate?label=x", 422),
    ):
        answer = await listing.request(method, path, headers=from_page(origin, **KEY))
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == origin
        assert "origin" in answer.headers["vary"].lower()
        exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
        assert {"x-seed", "content-location", "retry-after", "x-request-id"} <= set(exposed)
        assert "access-control-allow-credentials" not in answer.headers
    unknown = await listing.get(PLAIN, headers=from_page(origin))  # a page can read why
    assert (unknown.status_code, unknown.headers["access-control-allow-origin"]) == (401, origin)


async def test_a_preflight_is_answered_without_a_key(listing: httpx.AsyncClient) -> None:
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-timeout-ms",
    }
    answer = await listing.options("/decode", headers=from_page(LISTED[0], **asked))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == LISTED[0]
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert "origin" in answer.headers["vary"].lower()
    refused = await listing.options("/decode", headers=from_page(OTHER, **asked))
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    "origin", [OTHER, "null", "https://app.example.com:444", "http://localhost"]
)
async def test_pages_of_other_origins_may_not(listing: httpx.AsyncClient, origin: str) -> None:
    posted = await listing.post(PLAIN, headers=from_page(origin, **KEY))
    assert posted.status_code == 403
    read = await listing.get(PLAIN, headers=from_page(origin, **KEY))
    assert "access-control-allow-origin" not in {*read.headers, *posted.headers}


async def test_without_a_list_no_header_allows_anything(client: httpx.AsyncClient) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        answer = await client.request(method, PLAIN, headers=from_page(LISTED[0]))
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (answer.status_code == 403) == (method == "POST")


async def test_every_response_varies_by_origin_where_origins_are_listed(make_wire: Any) -> None:
    for listed in (LISTED[0], None):
        wire = await make_wire(cors_origins=listed)
        for path in (PLAIN, "/livez", "/models", "/nothing"):
            varying = (await wire.get(path)).headers.get_list("vary")
            assert ("Origin" in varying) == (listed is not None)


async def test_a_page_may_read_every_header_that_the_openapi_declares(
    client: httpx.AsyncClient,
) -> None:
    spec = (await client.get("/openapi.json")).json()
    responses = [
        response
        for item in spec["paths"].values()
        for operation in item.values()
        for response in operation["responses"].values()
    ]
    responses += spec["components"]["responses"].values()
    declared = {name for response in responses for name in response.get("headers", ())}
    assert declared - {"Cache-Control"} <= {*EXPOSED}
