"""Verifying: a saved picture is made anew and compared."""

from typing import Any

import httpx
from playwright.sync_api import Page, expect

from tests.explorer.page import broken, drop, pixels, shown, tile
from tests.shipped import CGAN, STORE


def test_a_saved_picture_is_verified_and_restores_its_settings(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    tile(page, 0)
    query = f"model={CGAN}&label=6&seed=31&truncation=0.7&scale=4"
    saved = httpx.get(f"{shipped.url}/generate?{query}").content
    drop(page, "#look-panels", "six.png", saved)  # anywhere on the page
    verdict = page.locator("#verify-result")
    expect(verdict).to_contain_text("Verified: the recipe reproduces every pixel.")
    remade = page.get_by_role("img", name="The recipe's image")
    assert (shown(remade) == pixels(saved)).all()
    page.get_by_role("button", name="Look at its settings").click()
    expect(page.get_by_role("dialog", name="6, seed 31")).to_be_visible()
    expect(page.locator("#detail-truncation-value")).to_have_text("0.70")
    page.go_back()
    expect(page.get_by_role("tab", name="Verify")).to_have_attribute("aria-selected", "true")


def test_a_file_that_is_not_ours_is_no_error_of_the_page(other_page: Page, shipped: Any) -> None:
    other_page.goto(f"{shipped.url}/#verify")
    expect(other_page.locator("#verify-drop")).to_be_visible()
    other_page.set_input_files("#verify-file", STORE / f"{CGAN}.png")
    expect(other_page.locator("#verify-result")).to_contain_text("The picture has no recipe")
    expect(other_page.locator("#notice")).to_be_hidden()


def test_only_the_verdict_is_read_out(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#verify")
    saved = httpx.get(f"{shipped.url}/generate?label=6&seed=31").content
    file: Any = {"name": "six.png", "mimeType": "image/png", "buffer": saved}
    page.set_input_files("#verify-file", file)
    result = page.locator("#verify-result")
    expect(result).to_contain_text("Truncation")
    said = page.get_by_role("tabpanel").get_by_role("status")
    expect(said).to_have_text("Verified: the recipe reproduces every pixel.")
    assert result.evaluate("box => box.closest('[role=status], [aria-live]')") is None


def test_a_comparison_that_fails_does_not_seem_to_go_on(other_page: Page, shipped: Any) -> None:
    page = other_page
    page.goto(f"{shipped.url}/#verify")
    page.route("**/verify", broken)
    saved = httpx.get(f"{shipped.url}/generate?label=6&seed=31").content
    drop(page, "main", "six.png", saved)
    expect(page.locator("#notice")).to_contain_text("Internal error")
    expect(page.locator("#verify-result")).to_contain_text("Not verified")
    page.unroute("**/verify")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#verify-result")).to_contain_text("Verified: the recipe")
