"""A service that asks for a key."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.explorer.page import drop, pixels, settled, shown, tile, unfold
from tests.shipped import CGAN

KEY = "a-key-of-the-tests-alone"


def enter(page: Page, key: str) -> None:
    page.get_by_role("textbox", name="Key").fill(key)
    page.keyboard.press("Enter")


@pytest.fixture(scope="module")
def locked(start_server: Any) -> Iterator[Any]:
    """The shipped service, for those who have the key."""
    with start_server("--api-keys", KEY) as server:
        yield server


def test_after_a_key_is_entered_every_view_works(other_page: Page, locked: Any) -> None:
    page = other_page
    page.goto(f"{locked.url}/#look?seeds=1-6")
    lock = page.get_by_role("form", name="This service needs an API key")
    expect(lock).to_be_visible()
    expect(page.get_by_role("textbox", name="Key")).to_be_focused()
    expect(page.get_by_role("textbox", name="Key")).to_have_attribute("type", "password")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    assert [violation["id"] for violation in found["violations"]] == []
    enter(page, "too short")
    expect(lock).to_contain_text("16 to 256 letters")
    enter(page, f"{KEY}-not")
    expect(lock).to_contain_text("does not accept this key")
    enter(page, KEY)
    expect(lock).to_be_hidden()
    tile(page, 5)
    for view, seen in (
        ("Draw", "Reconstruction of your image"),
        ("Morph", "on the path"),
        ("Write", "2026 with seed 4"),
        ("Models", f"16 samples of {CGAN}"),
    ):
        page.get_by_role("tab", name=view).click()
        picture = page.get_by_role("img", name=seen)
        expect(picture).to_be_visible()
        assert shown(picture).max() > 200
        settled(page)
    page.get_by_role("tab", name="Speed").click()
    expect(page.locator("#speed-last .stack").first).to_be_visible()
    saved = httpx.get(
        f"{locked.url}/generate?label=6&seed=31", headers={"Authorization": f"Bearer {KEY}"}
    ).content
    drop(page, "main", "six.png", saved)
    expect(page.locator("#verify-result")).to_contain_text("Verified: the recipe")
    expect(page.locator("#notice")).to_be_hidden()
    # It is in no address, and it lasts as long as the tab.
    assert KEY not in page.url
    assert page.evaluate("JSON.stringify([localStorage, document.cookie])") == '[{},""]'
    page.reload()
    expect(page.locator("#verify-drop")).to_be_visible()
    page.get_by_role("button", name="Forget the key").click()
    expect(lock).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_with_a_key_saving_links_and_snippets_work(
    other_page: Page, locked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = other_page
    page.goto(f"{locked.url}/#look?label=3&seeds=1-6&truncation=1")
    enter(page, KEY)
    tile(page, 0).click()
    expect(page.get_by_role("img", name=f"A 3 with seed 1 from {CGAN}")).to_be_visible()
    with page.expect_download() as saving:
        page.get_by_role("link", name="Save as PNG").click()
    assert saving.value.suggested_filename == f"{CGAN}-3-1.png"
    show = {"Authorization": f"Bearer {KEY}"}
    large = httpx.get(f"{locked.url}/generate?label=3&seed=1&scale=10", headers=show).content
    assert (pixels(saving.value.path().read_bytes()) == pixels(large)).all()
    page.keyboard.press("Escape")
    settled(page)
    # The request names the key and does not show it.
    code = page.locator("#request-code")
    expect(code).to_contain_text("seeds=1&")
    monkeypatch.setenv("GENSERVE_KEY", KEY)
    unfold(page, "#request-code-of")
    command = code.inner_text()
    page.get_by_role("button", name="Python").click()
    expect(code).to_contain_text("httpx.get(")
    program = code.inner_text()
    assert KEY not in command + program
    expected = pixels(httpx.get(f"{locked.url}/generate?label=3&seed=1", headers=show).content)
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert (pixels((tmp_path / "0.png").read_bytes()) == expected).all()
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    (item,) = json.loads((tmp_path / "response.json").read_text())["items"]
    assert (pixels(base64.b64decode(item["image"])) == expected).all()
    # A link is followed with it.
    tile(page, 0).click()
    expect(page.get_by_role("img", name=f"A 3 with seed 1 from {CGAN}")).to_be_visible()
    page.get_by_role("link", name="Its address").click()
    page.wait_for_url("blob:**")
    assert (shown(page.locator("img")) == expected).all()


def test_a_revoked_key_is_requested_again_in_the_open_view(other_page: Page, locked: Any) -> None:
    page = other_page
    page.goto(f"{locked.url}/#look?label=3&seeds=1-6")
    enter(page, KEY)
    tile(page, 0)
    settled(page)
    known: list[str] = []

    def taken_back(route: Route) -> None:
        if len(known) < 1:
            known.append(route.request.url)
            route.fulfill(status=401, content_type="application/problem+json", body="{}")
        else:
            route.continue_()

    page.route("**/generate?*", taken_back)
    tile(page, 0).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("#lock-message")).to_contain_text("does not accept this key")
    enter(page, KEY)
    expect(dialog.get_by_role("img", name=f"A 3 with seed 1 from {CGAN}")).to_be_visible()
    expect(page.locator("#lock")).to_be_hidden()


def test_the_icon_needs_no_key(locked: Any) -> None:
    for path in ("/", "/problems"):
        page = httpx.get(locked.url + path, headers={"Accept": "text/html"}).text
        found = re.search(r'rel="icon" href="([^"]+)"', page)
        assert found
        assert pixels(httpx.get(locked.url + found[1]).content).shape == (56, 56)
