"""Cards and problems as pages; the same resources as JSON."""

from html.parser import HTMLParser

import httpx
import pytest

from app.api.pages import card_page
from app.rendering.html import page
from app.rendering.schemas import ModelCard
from tests.app.api.helpers import problem

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"}
PATHS = ["/models", "/models/tiny-vae-v1", "/problems", "/problems/overloaded"]
VOID = {"meta", "link", "img"}


class Reader(HTMLParser):
    """Checks that every element is closed, and keeps addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("path", PATHS)
async def test_a_browser_gets_a_page_and_others_json(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers=BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "content-security-policy" in answer.headers
    assert answer.headers["vary"] == "Accept"
    read = Reader(answer.text)
    for address in read.addresses:  # every link leads somewhere, on this host
        assert address.startswith("/")
        assert (await client.get(address)).status_code == 200, address
    for accept in ({}, {"accept": "*/*"}, {"accept": "application/json"}):
        plain = await client.get(path, headers=accept)
        assert plain.headers["content-type"] == "application/json"
        assert plain.json()
    assert (await client.get(path, headers={"accept": "image/png"})).status_code == 406


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/nowhere", 404, "What this means"),
        ("/generate?label=77", 422, "label"),
        ("/models/gone-v1", 404, "tiny-vae-v1"),
        ("/generate?n=%3Cscript%3E", 422, "n"),
    ],
)
async def test_an_error_is_a_page_to_a_browser_and_a_problem_to_others(
    client: httpx.AsyncClient, path: str, status: int, says: str
) -> None:
    answer = await client.get(path, headers=BROWSER)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    read = Reader(answer.text)
    assert says in read.text
    told = (await client.get(path)).json()
    assert told["title"] in read.text
    assert told["detail"] in read.text
    assert answer.headers["x-request-id"] in read.text
    for address in read.addresses:
        assert (await client.get(address)).status_code == 200, address
    java = "text/html, image/gif, image/jpeg, */*; q=0.2"
    for accept in ("*/*", "application/json", "image/avif,image/webp,*/*;q=0.8", java):
        plain = await client.get(path, headers={"accept": accept})
        assert plain.headers["content-type"] == "application/problem+json"
        assert plain.headers["vary"] == "Accept"


async def test_a_card_says_what_its_json_says(client: httpx.AsyncClient) -> None:
    card = (await client.get("/models/tiny-vae-v1")).json()
    read = Reader((await client.get("/models/tiny-vae-v1", headers=BROWSER)).text)
    for value in (card["name"], card["digest"], card["engine"], str(card["latent_dim"])):
        assert value in read.text


async def test_what_a_checkpoint_says_is_text_and_not_markup(client: httpx.AsyncClient) -> None:
    told = (await client.get("/models/tiny-vae-v1")).json()
    bad = "<script>alert('x')</script>&\"'"
    told |= {"name": bad, "labels": [bad], "data": {bad: {bad: [bad]}}, "pictures": {bad: bad}}
    text = card_page(ModelCard(**told), "")
    assert "<script" not in text
    assert Reader(text).text.count(bad) >= 5
    assert "<b>" not in page("<b>", "", "")


async def test_every_problem_has_a_page(client: httpx.AsyncClient) -> None:
    for slug, about in (await client.get("/problems")).json().items():
        assert (await client.get(f"/problems/{slug}")).json() == about
    problem(await client.get("/problems/none"), 404, "not-found")


async def test_pages_forbid_foreign_hosts(client: httpx.AsyncClient) -> None:
    for path in ("/", "/docs", "/redoc"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe-inline" not in (await client.get("/")).headers["content-security-policy"]


async def test_files_of_the_page_are_asked_for_anew(client: httpx.AsyncClient) -> None:
    answer = await client.get("/static/page.css")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"
    same = {"if-none-match": answer.headers["etag"]}
    again = await client.get("/static/page.css", headers=same)
    assert again.status_code == 304
    assert again.headers["cache-control"] == "no-cache"
