"""The explorer by keyboard alone."""

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.explorer.conftest import Serve
from tests.explorer.page import VIEWS, at_rest, follow, is_shown, watched

# What has the focus, and what is wrong with how that is seen. A field that is not seen itself (a
# file's) lies under a label that stands for it.
FOCUS = """() => {
    const one = document.activeElement;
    if (!one || one === document.body) return null;
    one.dataset.visited = "";
    const seen = one.matches(".visually-hidden") ? one.closest("label") : one;
    const name = `${one.tagName} ${one.id || one.textContent.trim().slice(0, 30)}`;
    const wrong = [];
    if (!one.matches(":focus-visible")) wrong.push("no :focus-visible");
    const { outlineStyle, outlineWidth } = getComputedStyle(seen);
    if (outlineStyle === "none" || parseFloat(outlineWidth) < 2) wrong.push("no outline");
    const box = seen.getBoundingClientRect();
    const x = box.left + box.width / 2;
    const shows = (y) => {
        const top = document.elementFromPoint(x, y);
        // On the map what is focused may lie under the point.
        return top && (seen.contains(top) || top.contains(seen) || seen.closest("#plane"));
    };
    const places = [0.1, 0.5, 0.9].map((share) => box.top + share * box.height);
    if (!places.some(shows)) wrong.push("out of sight");
    return { name, wrong };
}"""

# What the Tab key has to reach and has not.
MISSED = """() => [...document.querySelectorAll(
        "a[href], button, select, input, summary, textarea, [tabindex]")]
    .filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility()
        && !("visited" in one.dataset))
    .map((one) => one.outerHTML.slice(0, 90))"""


def walk(page: Page, key: str) -> list[str]:
    """Press Tab, or Shift+Tab, until the page is left; what is wrong on the way."""
    found: list[str] = []
    for _ in range(250):
        page.keyboard.press(key)
        focus = page.evaluate(FOCUS)
        if focus is None:
            return found
        found += [f"{focus['name']}: {wrong}" for wrong in focus["wrong"]]
    raise AssertionError(f"{key} does not lead out of the page; it is at {focus}")


@pytest.mark.parametrize(("view", "width"), [*((view, 1000) for view in VIEWS), ("draw", 390)])
def test_tab_leads_through_everything_and_out_again(
    browser: Any, serve: Serve, view: str, width: int
) -> None:
    url = serve("several")
    with watched(browser, url, viewport={"width": width, "height": 700}) as page:
        follow(page, url, view)
        assert walk(page, "Tab") == []
        assert page.evaluate(MISSED) == []
        assert walk(page, "Shift+Tab") == []


def tab_to(page: Page, wanted: Locator, key: str = "Tab") -> None:
    for _ in range(250):
        if wanted.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead to {wanted}")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_all_eight_views_are_used_by_keyboard_alone(browser: Any, serve: Serve) -> None:
    url = serve("letters")
    with watched(browser, url, viewport={"width": 1000, "height": 700}) as page:
        # Who listens only when the key is pressed may be too late for the browser to hear of it.
        page.on("filechooser", lambda _: None)
        # Skip to the pictures, enlarge one, another label, and back.
        follow(page, url, "look", "label=1&seeds=1-6")
        press(page, "Tab", "Enter")
        expect(page.locator("#panel")).to_be_focused()
        tab_to(page, page.locator(".tile").nth(1))
        press(page, "Enter")
        dialog = page.get_by_role("dialog", name="1, seed 2")
        expect(dialog).to_be_visible()
        tab_to(page, dialog.get_by_role("button", name="A", exact=True))
        press(page, "Enter")
        is_shown(page.get_by_role("img", name="A A with seed 2 from letters-cgan-v1"))
        # It is encoded, and the point moved.
        tab_to(page, page.get_by_role("button", name="See it as numbers"))
        press(page, "Enter")
        is_shown(page.get_by_role("img", name="Reconstruction of your image"))
        at_rest(page)
        tab_to(page, page.get_by_role("slider", name="Drag the point"))
        press(page, "ArrowRight", "Shift+ArrowUp")
        is_shown(page.get_by_role("img", name="Decoded point"))
        page.wait_for_url(re.compile(r"#draw\?.*z="))
        # Back to the tabs, on to Write.
        tab_to(page, page.get_by_role("tab", name="Draw"), "Shift+Tab")
        press(page, "ArrowRight")
        tab_to(page, page.get_by_role("textbox", name="Text"))
        press(page, "Control+a", "C", "A", "T")
        is_shown(page.get_by_role("img", name="CAT with seed 4"))
        tab_to(page, page.get_by_role("button", name="Seed 6"))
        press(page, "Enter")
        is_shown(page.get_by_role("img", name="CAT with seed 6"))
        tab_to(page, page.locator("#tab-write"), "Shift+Tab")
        # Morph.
        press(page, "ArrowRight")
        is_shown(page.get_by_role("img", name="Image 1 of 16 on the path"))
        end = page.get_by_role("group", name="End")
        tab_to(page, end.get_by_role("combobox", name="Label"))
        press(page, "Q")
        expect(end.locator("h3")).to_have_text("End: Q, seed 4")
        at_rest(page)
        tab_to(page, page.get_by_role("button", name="Play"), "Shift+Tab")
        press(page, " ")
        expect(page.get_by_role("button", name="Pause")).to_be_focused()
        press(page, " ")
        tab_to(page, page.locator("#tab-morph"), "Shift+Tab")
        # How it works: sample again.
        press(page, "ArrowRight")
        at_rest(page)
        tab_to(page, page.get_by_role("button", name="Another sample"))
        with page.expect_response(re.compile("/decode")):
            press(page, "Enter")
        tab_to(page, page.locator("#tab-how"), "Shift+Tab")
        # Speed.
        press(page, "ArrowRight")
        tab_to(page, page.get_by_role("button", name="Request one picture"))
        with page.expect_response(re.compile("/generate")):
            press(page, "Enter")
        tab_to(page, page.locator("#tab-speed"), "Shift+Tab")
        # Models, and from a card to its pictures and back.
        press(page, "ArrowRight")
        card = page.get_by_role("article", name="tiny-vae-v1")
        tab_to(page, card.get_by_role("button", name="Look at its pictures"))
        press(page, "Enter")
        expect(page.locator(".panel b")).to_have_text("tiny-vae-v1")
        page.go_back()
        at_rest(page)
        # Verify.
        tab_to(page, page.locator("#tab-models"))
        press(page, "ArrowRight")
        tab_to(page, page.get_by_label("Drop a PNG or WebP here"))
        with page.expect_file_chooser():
            press(page, "Enter")
