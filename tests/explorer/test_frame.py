"""The frame around the views: tabs, drops, focus, headers, views opened or left early."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.explorer.page import drop, settled, tile


def test_tabs_and_drops_wait_until_it_is_known_what_is_served(page: Page, shipped: Any) -> None:
    held: list[Route] = []
    page.route("**/models", lambda route: held.append(route))
    with page.expect_request("**/models"):
        page.goto(shipped.url)
    expect(page.get_by_role("tab", name="Look")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#progress")).to_be_visible()
    page.get_by_role("tab", name="Draw").click()
    expect(page.get_by_role("tab", name="Draw")).to_have_attribute("aria-selected", "true")
    seven = httpx.get(f"{shipped.url}/generate?label=7&seed=1").content
    page.get_by_role("tab", name="Speed").click()
    drop(page, "main", "seven.png", seven)
    held[0].continue_()
    expect(page.locator("#verify-result")).to_contain_text("Verified: the recipe")
    page.get_by_role("tab", name="Draw").click()
    expect(page.locator("#pad")).to_be_visible()
    expect(page.locator("#draw-empty")).to_be_hidden()


def test_text_can_be_dropped_into_a_field(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#write")
    settled(page)
    taken = page.evaluate(
        """() => {
            const transfer = new DataTransfer();
            transfer.setData("text/plain", "1984");
            const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
            const event = new DragEvent("drop", options);
            return !document.querySelector("#write-text").dispatchEvent(event);
        }"""
    )
    assert taken is False


def test_a_view_that_never_opened_has_no_controls_that_could_fail(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#look?model=nope")
    expect(page.locator("#notice")).to_contain_text("The link was made with nope")
    expect(page.locator("#view-look")).to_have_js_property("inert", True)
    page.get_by_role("button", name="Open without the link's settings").click()
    tile(page, 0)
    expect(page.locator("#view-look")).to_have_js_property("inert", False)


def test_a_response_for_a_view_that_was_left_is_not_shown_in_the_next(
    page: Page, shipped: Any
) -> None:
    page.route("**/generate**", lambda route: None)  # no answer comes
    page.goto(f"{shipped.url}/#speed")
    page.wait_for_function("document.body.dataset.working !== undefined")
    page.get_by_role("tab", name="Verify").click()
    settled(page)  # what was asked for there is given up


# The focus


def focused_heading(page: Page, text: str) -> None:
    expect(page.locator("h2:focus")).to_contain_text(text)


def test_the_focus_goes_along_to_another_view(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    tile(page, 0).click()
    page.get_by_role("button", name="Morph from here").press("Enter")
    focused_heading(page, "From one picture to another")
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    focused_heading(page, "was ever written or photographed.")
    page.get_by_role("tab", name="Models").click()
    expect(page.get_by_role("tab", name="Models")).to_be_focused()  # a tab keeps it
    page.get_by_role("button", name="Look at its pictures").first.press("Enter")
    focused_heading(page, "existed a second ago.")
    settled(page)
    page.goto(f"{shipped.url}/#verify")
    saved = httpx.get(f"{shipped.url}/generate?label=6&seed=31").content
    file: Any = {"name": "six.png", "mimeType": "image/png", "buffer": saved}
    page.set_input_files("#verify-file", file)
    page.get_by_role("button", name="Look at its settings").press("Enter")
    expect(page.get_by_role("dialog", name="6, seed 31")).to_be_visible()
    page.keyboard.press("Escape")
    focused_heading(page, "was ever written.")


def test_the_tabs_by_keyboard_and_back(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    tile(page, 0)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.get_by_role("tab", name="Look").focus()
    page.keyboard.press("End")
    expect(page.get_by_role("tab", name="Verify")).to_be_focused()
    expect(page.locator("#verify-drop")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="Models")).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page.locator("#verify-drop")).to_be_visible()
    page.go_back()
    expect(page.locator("#look-panels")).to_be_visible()


# Headers


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/problems"])
def test_a_page_may_load_and_do_no_more_than_it_needs(shipped: Any, path: str) -> None:
    answer = httpx.get(shipped.url + path, headers={"Accept": "text/html"})
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'self'"
    for name in ("object-src", "base-uri", "form-action", "frame-ancestors"):
        assert policy[name] == "'none'"
    docs = path in ("/docs", "/redoc")
    assert ("'unsafe-inline'" in policy.get("script-src", "")) == docs
