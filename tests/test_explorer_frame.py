"""The explorer's frame: notices, focus, addresses, keys, forced colours, and what may go wrong."""

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
import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from app.seeds import MAX_SEED
from tests.explorer import cell, drop, pixels, settled, shown
from tests.shipped import CGAN, VAE

VIEWS = ["board", "draw", "morph", "write", "cost", "models", "verify"]
KEY = "a-key-of-the-tests-alone"


def broken(route: Route) -> None:
    """Something went wrong in the service."""
    problem = {"title": "Internal error", "detail": "it is logged", "status": 500}
    route.fulfill(status=500, content_type="application/problem+json", body=json.dumps(problem))


def focused_heading(page: Page, text: str) -> None:
    expect(page.locator("h2:focus")).to_have_text(text)


# Notices


def test_what_fails_under_an_open_dialog_is_told_and_tried_again_there(
    other_page: Page, shipped: Any
) -> None:
    page = other_page
    page.goto(shipped.url)
    cell(page, 1, 7)
    settled(page)
    page.route("**/generate?*", broken)
    cell(page, 1, 7).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("#notice")).to_contain_text("Internal error: it is logged")
    large = page.locator("#detail-image")
    expect(large).not_to_have_class(re.compile("loading"))
    page.unroute("**/generate?*")
    dialog.get_by_role("button", name="Try again").click()  # it is not covered by anything
    expect(page.get_by_role("img", name=f"A 7 in style 2 from {CGAN}")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "detail"
    expect(page.locator("#notice")).to_be_hidden()
    page.route("**/generate?*", broken)
    dialog.get_by_role("button", name="4", exact=True).click()
    expect(dialog.locator("#notice")).to_contain_text("Internal error: it is logged")
    assert large.get_attribute("src") is None  # not the 7 under the 4's name
    page.keyboard.press("Escape")
    expect(page.locator("main #notices")).to_have_count(1)  # back where it was


def test_an_overload_is_read_out_once(other_page: Page, shipped: Any) -> None:
    page = other_page
    page.goto(shipped.url)
    cell(page, 0, 0)
    settled(page)
    # What a screen reader is told: changes of live regions but for what is hidden from it.
    page.evaluate(
        """() => {
            window.told = [];
            const said = (region) => {
                const copy = region.cloneNode(true);
                const out = copy.querySelectorAll("[aria-hidden=true], [hidden]");
                for (const element of out) element.remove();
                return copy.textContent.trim();
            };
            const look = (records) => {
                for (const { target, type } of records) {
                    const element = target.nodeType === 1 ? target : target.parentElement;
                    const region = element?.closest("[role=status]");
                    const unheard = type !== "attributes" && element.closest("[aria-hidden=true]");
                    if (!region || unheard) continue;
                    const text = said(region);
                    if (text && told[told.length - 1] !== text) told.push(text);
                }
            };
            const what = { subtree: true, childList: true, characterData: true, attributes: true };
            new MutationObserver(look).observe(document.body, what);
        }"""
    )
    refused: list[str] = []

    def refuse_once(route: Route) -> None:
        if route.request.url in refused:
            route.continue_()
            return
        refused.append(route.request.url)
        headers = {"Retry-After": "3", "Content-Type": "application/problem+json"}
        status = 503 if len(refused) % 2 else 429  # of the service, or of this page's share
        route.fulfill(status=status, headers=headers, body=json.dumps({"title": "Overload"}))

    page.route("**/generate?*format=json", refuse_once)
    page.get_by_role("button", name="New styles").click()
    expect(page.locator("#notice")).to_contain_text("Trying again in 3 s")
    expect(page.locator("#notice")).to_contain_text("Trying again in 2 s")  # seen
    settled(page)
    assert page.evaluate("told") == ["The service is overloaded. Trying again"]


@pytest.mark.parametrize(
    ("kind", "body"), [("text/html", "<p>Please log in"), ("application/json", '{"items": [{"im')]
)
def test_an_answer_that_cannot_be_read_is_no_fault_of_the_page(
    other_page: Page, shipped: Any, kind: str, body: str
) -> None:
    page = other_page
    page.goto(shipped.url)
    settled(page)
    page.route("**/generate?*", lambda route: route.fulfill(content_type=kind, body=body))
    page.get_by_role("button", name="New styles").click()
    expect(page.locator("#notice")).to_contain_text("No answer: What came is not JSON")
    # Nothing is on its way, and nothing looks as if it were.
    expect(page.locator("#board-table")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#board-table .loading")).to_have_count(0)
    page.get_by_role("tab", name="Models").click()
    expect(page.locator("#notice")).to_contain_text("No answer: What came is not a picture")
    expect(page.locator("#model-cards .loading")).to_have_count(0)
    page.unroute("**/generate?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("img", name=f"16 samples of {CGAN}")).to_be_visible()


# Before anything is known


def test_tabs_and_drops_wait_until_it_is_known_what_is_served(page: Page, shipped: Any) -> None:
    held: list[Route] = []
    page.route("**/models", lambda route: held.append(route))
    page.goto(shipped.url)
    expect(page.get_by_role("tab", name="Board")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#progress")).to_be_visible()
    page.get_by_role("tab", name="Draw").click()
    expect(page.get_by_role("tab", name="Draw")).to_have_attribute("aria-selected", "true")
    seven = httpx.get(f"{shipped.url}/generate?label=7&seed=1").content
    page.get_by_role("tab", name="Cost").click()
    drop(page, "main", "seven.png", seven)
    while not held:
        page.wait_for_timeout(10)
    held[0].continue_()
    expect(page.locator("#verify-result")).to_contain_text("Yes: every pixel")
    page.get_by_role("tab", name="Draw").click()
    expect(page.locator("#pad")).to_be_visible()
    expect(page.locator("#draw-empty")).to_be_hidden()


def test_what_is_dropped_and_is_no_picture_is_named(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    cell(page, 0, 0)
    page.evaluate(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["a,b"], "table.csv", { type: "text/csv" }));
            const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
            document.querySelector("#board-table").dispatchEvent(new DragEvent("drop", options));
        }"""
    )
    notice = page.locator("#notice")
    expect(notice).to_contain_text("“table.csv” is none that can be read here: PNG, JPEG and WebP")
    expect(page.get_by_role("tab", name="Board")).to_have_attribute("aria-selected", "true")


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


def test_a_link_to_the_models_opens_at_the_top(browser: Any, shipped: Any) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 400})
    page.goto(f"{shipped.url}/#models")
    settled(page)
    expect(page.get_by_role("img", name=f"16 samples of {VAE}")).to_be_visible()
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollHeight") > 800  # it could be elsewhere
    assert page.evaluate("scrollY") == 0
    # A browser would take a view's name for a place in the page.
    for view in VIEWS:
        assert page.evaluate("view => document.getElementById(view)", view) is None
    page.close()


# Addresses


def test_a_truncation_changed_in_the_dialog_is_in_the_link(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#board?truncation=0.8")
    cell(page, 2, 5).click()
    page.locator("#detail-truncation").fill("0.3")
    page.wait_for_url(re.compile(r"truncation=0\.8&label=5&pick=3&pick_truncation=0\.3"))
    settled(page)
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("#detail-truncation-value")).to_have_text("0.30")
    large = page.get_by_role("img", name=f"A 5 in style 3 from {CGAN}")
    expect(large).to_be_visible()
    expected = httpx.get(f"{shipped.url}/generate?label=5&seed=3&truncation=0.3").content
    assert (shown(large) == pixels(expected)).all()
    expect(page.locator("#board-truncation-value")).to_have_text("0.80")
    page.keyboard.press("Escape")
    page.wait_for_url(re.compile(r"#board\?model=[^&]*&seeds=1-6&truncation=0\.8$"))


def test_a_line_from_an_address_is_cut_and_going_back_restores_it(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#write?text={'0123456789' * 9}")
    text = page.get_by_label("Text")
    expect(text).to_have_value("0123456789012345")
    settled(page)
    assert shown(page.locator("#write-strip")).shape == (8 * 28, 16 * 8 * 28)
    # Back to a state whose truncation is 1, which an address leaves out.
    whole = page.evaluate("location.hash")
    page.evaluate("location.hash += '&truncation=0.4'")
    expect(page.locator("#write-truncation-value")).to_have_text("0.40")
    settled(page)
    page.go_back()
    expect(page.locator("#write-truncation-value")).to_have_text("1.00")
    assert page.evaluate("location.hash") == whole
    # And to one with an empty line, which it leaves out too.
    text.fill("")
    page.wait_for_url(re.compile("#write(?!.*text=)"))
    page.evaluate("location.hash += '&text=77'")
    expect(text).to_have_value("77")
    page.go_back()
    expect(text).to_have_value("")


def test_the_last_seeds_there_are(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#board?seeds={MAX_SEED - 8}-{MAX_SEED - 2}")
    cell(page, 6, 9)
    more = page.get_by_role("button", name="Six more rows")
    more.click()
    image = cell(page, 8, 1).locator("img")
    expect(page.locator("#board-table tbody tr")).to_have_count(9)
    expect(image).to_have_attribute("alt", f"1, style {MAX_SEED}")
    expect(more).to_be_disabled()
    cell(page, 7, 1).click()
    after = page.get_by_role("button", name="Style after")
    after.click()
    expect(page.get_by_role("dialog", name=f"1 in style {MAX_SEED}")).to_be_visible()
    expect(after).to_be_disabled()
    expect(page.get_by_role("button", name="Style before")).to_be_focused()
    page.goto(f"{shipped.url}/#write?text=7&seed={MAX_SEED}&hands={MAX_SEED - 1}")
    expect(page.locator("#write-hands button")).to_have_count(2)
    expect(page.get_by_role("img", name=f"7 in style {MAX_SEED}")).to_be_visible()
    page.goto(f"{shipped.url}/#models?seed={MAX_SEED}")
    sheet = page.get_by_role(
        "img", name=f"16 samples of {CGAN}, seeds {MAX_SEED - 15} to {MAX_SEED}"
    )
    expect(sheet).to_be_visible()
    settled(page)
    expect(page.locator("#notice")).to_be_hidden()


# The focus


def test_the_focus_goes_along_to_another_view(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    cell(page, 0, 3).click()
    page.get_by_role("button", name="Morph from it").press("Enter")
    focused_heading(page, "From one to the other")
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    focused_heading(page, "One row, one hand")
    page.get_by_role("tab", name="Models").click()
    expect(page.get_by_role("tab", name="Models")).to_be_focused()  # a tab keeps it
    page.get_by_role("button", name="On the board").first.press("Enter")
    focused_heading(page, "One row, one hand")
    settled(page)
    page.goto(f"{shipped.url}/#verify")
    saved = httpx.get(f"{shipped.url}/generate?label=6&seed=31").content
    file: Any = {"name": "six.png", "mimeType": "image/png", "buffer": saved}
    page.set_input_files("#verify-file", file)
    page.get_by_role("button", name="Restore its settings").press("Enter")
    expect(page.get_by_role("dialog", name="6 in style 31")).to_be_visible()
    page.keyboard.press("Escape")
    focused_heading(page, "One row, one hand")


def test_a_chosen_hand_keeps_the_focus(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#write")
    page.get_by_role("button", name="Style 5").press("Enter")
    expect(page.get_by_role("img", name="2026 in style 5")).to_be_visible()
    settled(page)
    expect(page.get_by_role("button", name="Style 5")).to_be_focused()


# What is offered, and what is told


def test_encoding_is_offered_where_something_encodes(
    other_page: Page, start_server: Any, tiny_store: Path, tmp_path: Path, shipped: Any
) -> None:
    page = other_page
    page.goto(shipped.url)
    cell(page, 0, 0).click()
    expect(page.get_by_role("button", name="Encode it")).to_be_visible()
    for path in tiny_store.glob("tiny-cgan-v1*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with start_server("--models-dir", str(tmp_path)) as server:
        page.goto(server.url)
        cell(page, 0, 0).click()
        expect(page.get_by_role("button", name="Morph from it")).to_be_visible()
        expect(page.get_by_role("button", name="Encode it")).to_be_hidden()


def test_only_the_verdict_is_read_out(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#verify")
    saved = httpx.get(f"{shipped.url}/generate?label=6&seed=31").content
    file: Any = {"name": "six.png", "mimeType": "image/png", "buffer": saved}
    page.set_input_files("#verify-file", file)
    result = page.locator("#verify-result")
    expect(result).to_contain_text("Truncation")
    said = page.get_by_role("tabpanel").get_by_role("status")
    expect(said).to_have_text("Yes: every pixel is what the recipe makes.")
    assert result.evaluate("box => box.closest('[role=status], [aria-live]')") is None


def test_a_comparison_that_fails_does_not_seem_to_go_on(other_page: Page, shipped: Any) -> None:
    page = other_page
    page.goto(f"{shipped.url}/#verify")
    page.route("**/verify", broken)
    saved = httpx.get(f"{shipped.url}/generate?label=6&seed=31").content
    drop(page, "main", "six.png", saved)
    expect(page.locator("#notice")).to_contain_text("Internal error")
    expect(page.locator("#verify-result")).to_contain_text("Not compared")
    page.unroute("**/verify")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#verify-result")).to_contain_text("Yes: every pixel")


def test_leaving_while_two_hundred_are_sent_ends_it(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#cost")
    settled(page)
    page.route("**/generate?*", lambda route: None)  # never answered
    send = page.get_by_role("button", name="Send 200 at once")
    send.press("Enter")
    summary = page.locator("#cost-summary")
    expect(summary).to_have_text("Sending 200…")
    expect(send).to_be_focused()
    page.get_by_role("tab", name="Verify").click()
    page.get_by_role("tab", name="Cost").click()
    expect(summary).to_have_text("Not all 200 were answered.")
    expect(send).not_to_have_attribute("aria-disabled", "true")


def test_what_a_figure_means_stands_beside_it(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#models")
    card = page.get_by_role("article", name=CGAN)
    meaning = card.get_by_text("share of samples that a classifier takes for the label asked for")
    expect(meaning).to_be_visible()
    assert page.locator("[title]").count() == 0  # neither fingers nor keys reach those


# Phones, and colours of one's own


@pytest.mark.parametrize("width", [320, 390])
def test_all_tabs_are_seen_on_a_phone(browser: Any, shipped: Any, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 740})
    page.goto(shipped.url)
    cell(page, 0, 0)
    for tab in page.get_by_role("tab").all():
        expect(tab).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.fixture
def forced(browser: Any) -> Iterator[Page]:
    opened = browser.new_page(
        viewport={"width": 1000, "height": 900}, forced_colors="active", color_scheme="dark"
    )
    yield opened
    opened.close()


def colours(page: Page, selector: str, prop: str) -> list[str]:
    return list(
        page.locator(selector).evaluate_all(
            "(found, prop) => found.map(each => getComputedStyle(each)[prop])", prop
        )
    )


def test_forced_colours_leave_what_is_told_by_colour(forced: Page, shipped: Any) -> None:
    page = forced
    page.goto(f"{shipped.url}/#cost")
    page.get_by_label("Images in each").select_option("1")
    page.get_by_role("button", name="Send 200 at once").click()
    expect(page.locator("#cost-summary")).to_contain_text("answers in", timeout=60_000)
    (ground,) = colours(page, "body", "backgroundColor")
    assert ground not in colours(page, "#cost-batches .fill", "backgroundColor")
    parts = colours(page, "#cost-last .part", "backgroundColor")
    assert len(set(parts)) == 4
    assert parts == colours(page, "#cost-last .swatch", "backgroundColor")
    assert ground not in parts
    # One tab is underlined, one button pressed.
    lines = colours(page, "[role=tab]", "borderBottomColor")
    assert [line == ground for line in lines] == [view != "cost" for view in VIEWS]
    curl, python = (
        colours(page, f"#made-{name}", "backgroundColor") for name in ("curl", "python")
    )
    assert curl != python
    words = pixels(page.locator("#made-curl").screenshot())
    height, width = words.shape
    middle = words[height // 2 - 6 : height // 2 + 6, width // 2 - 12 : width // 2 + 12]
    assert np.ptp(middle) > 60  # they can be read
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#announce")).to_have_text("Request copied")
    assert np.ptp(pixels(page.locator("#announce").screenshot())[4:-4, 16:-16]) > 100
    # Numerals of the map are painted for a dark ground, whatever the page's is.
    page.emulate_media(color_scheme="light", forced_colors="active")
    page.get_by_role("tab", name="Draw").click()
    assert colours(page, ".plane", "backgroundColor") == ["rgb(11, 12, 13)"]
    strip = pixels(page.locator("#latents input").first.screenshot())[:, :12]
    assert np.ptp(strip) > 100  # a line, and the ground around it


# A key


def enter(page: Page, key: str) -> None:
    page.get_by_role("textbox", name="Key").fill(key)
    page.keyboard.press("Enter")


@pytest.fixture(scope="module")
def locked(start_server: Any) -> Iterator[Any]:
    """The shipped service, for those who have the key."""
    with start_server("--api-keys", KEY) as server:
        yield server


def test_a_key_is_asked_for_and_then_every_view_works(other_page: Page, locked: Any) -> None:
    page = other_page
    page.goto(f"{locked.url}/#board?seeds=1-6")
    lock = page.get_by_role("form", name="This service asks for a key")
    expect(lock).to_be_visible()
    expect(page.get_by_role("textbox", name="Key")).to_be_focused()
    expect(page.get_by_role("textbox", name="Key")).to_have_attribute("type", "password")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    assert [violation["id"] for violation in found["violations"]] == []
    enter(page, "too short")
    expect(lock).to_contain_text("16 to 256 letters")
    enter(page, f"{KEY}-not")
    expect(lock).to_contain_text("does not take this key")
    enter(page, KEY)
    expect(lock).to_be_hidden()
    cell(page, 5, 9)
    for view, seen in (
        ("Draw", "Reconstruction of your picture"),
        ("Morph", "on the way"),
        ("Write", "2026 in style 4"),
        ("Models", f"16 samples of {CGAN}"),
    ):
        page.get_by_role("tab", name=view).click()
        picture = page.get_by_role("img", name=seen)
        expect(picture).to_be_visible()
        assert shown(picture).max() > 200
        settled(page)
    card = page.get_by_role("article", name=CGAN)
    card.get_by_text("Pictures of its card").click()
    assert shown(card.get_by_role("img", name="Samples, none chosen")).max() > 200
    page.get_by_role("tab", name="Cost").click()
    expect(page.locator("#cost-now div")).to_have_count(9)
    expect(page.locator("#cost-last .stack")).to_be_visible()
    saved = httpx.get(
        f"{locked.url}/generate?label=6&seed=31", headers={"Authorization": f"Bearer {KEY}"}
    ).content
    drop(page, "main", "six.png", saved)
    expect(page.locator("#verify-result")).to_contain_text("Yes: every pixel")
    expect(page.locator("#notice")).to_be_hidden()
    # It is in no address, and it lasts as long as the tab.
    assert KEY not in page.url
    assert page.evaluate("JSON.stringify([localStorage, document.cookie])") == '[{},""]'
    page.reload()
    expect(page.locator("#verify-drop")).to_be_visible()
    page.get_by_role("button", name="Forget the key").click()
    expect(lock).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_with_a_key_pictures_are_saved_linked_and_asked_for_by_programs(
    other_page: Page, locked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = other_page
    page.goto(locked.url)
    enter(page, KEY)
    cell(page, 0, 3).click()
    expect(page.get_by_role("img", name=f"A 3 in style 1 from {CGAN}")).to_be_visible()
    with page.expect_download() as saving:
        page.get_by_role("link", name="Save as PNG").click()
    assert saving.value.suggested_filename == f"{CGAN}-3-1.png"
    show = {"Authorization": f"Bearer {KEY}"}
    large = httpx.get(f"{locked.url}/generate?label=3&seed=1&scale=10", headers=show).content
    assert (pixels(saving.value.path().read_bytes()) == pixels(large)).all()
    page.keyboard.press("Escape")
    settled(page)
    # The request names the key and does not show it.
    code = page.locator("#made-code")
    expect(code).to_contain_text("seeds=1&")
    monkeypatch.setenv("GENSERVE_KEY", KEY)
    command = code.inner_text()
    page.get_by_role("button", name="Python").click()
    expect(code).to_contain_text("httpx.get(")
    program = code.inner_text()
    assert KEY not in command + program
    expected = pixels(httpx.get(f"{locked.url}/generate?label=3&seed=1", headers=show).content)
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert (pixels((tmp_path / "0.png").read_bytes()) == expected).all()
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    (item,) = json.loads((tmp_path / "answer.json").read_text())["items"]
    assert (pixels(base64.b64decode(item["image"])) == expected).all()
    # A link is followed with it.
    cell(page, 0, 3).click()
    expect(page.get_by_role("img", name=f"A 3 in style 1 from {CGAN}")).to_be_visible()
    page.get_by_role("link", name="Permalink").click()
    page.wait_for_url("blob:**")
    assert (shown(page.locator("img")) == expected).all()


def test_a_key_that_is_taken_back_is_asked_for_again_where_one_is(
    other_page: Page, locked: Any
) -> None:
    page = other_page
    page.goto(locked.url)
    enter(page, KEY)
    cell(page, 0, 0)
    settled(page)
    known: list[str] = []

    def taken_back(route: Route) -> None:
        if len(known) < 1:
            known.append(route.request.url)
            route.fulfill(status=401, content_type="application/problem+json", body="{}")
        else:
            route.continue_()

    page.route("**/generate?*", taken_back)
    cell(page, 0, 3).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("#lock-said")).to_contain_text("does not take this key")
    enter(page, KEY)
    expect(dialog.get_by_role("img", name=f"A 3 in style 1 from {CGAN}")).to_be_visible()
    expect(page.locator("#lock")).to_be_hidden()


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


def test_the_icon_needs_no_key(locked: Any) -> None:
    for path in ("/", "/problems"):
        page = httpx.get(locked.url + path, headers={"Accept": "text/html"}).text
        found = re.search(r'rel="icon" href="([^"]+)"', page)
        assert found
        assert pixels(httpx.get(locked.url + found[1]).content).shape == (56, 56)


def test_the_address_holds_no_more_rows_than_a_link_may_ask_for(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#board?seeds=1-598")
    page.get_by_role("button", name="Six more rows").click()
    expect(page.get_by_role("button", name="Six more rows")).to_be_disabled()
    page.wait_for_url(re.compile("seeds=1-600"))
    expect(page.locator("#board-table tbody tr")).to_have_count(600)


def test_a_view_that_never_opened_has_no_controls_that_could_fail(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#board?model=nope")
    expect(page.locator("#notice")).to_contain_text("The link was made with nope")
    expect(page.locator("#view-board")).to_have_js_property("inert", True)
    page.get_by_role("button", name="Show what is served now").click()
    cell(page, 0, 0)
    expect(page.locator("#view-board")).to_have_js_property("inert", False)


def test_an_answer_for_a_view_that_was_left_is_not_told_in_the_next(
    page: Page, shipped: Any
) -> None:
    page.route("**/generate**", lambda route: None)  # no answer comes
    page.goto(f"{shipped.url}/#cost")
    page.wait_for_function("document.body.dataset.working !== undefined")
    page.get_by_role("tab", name="Verify").click()
    settled(page)  # what was asked for there is given up


def test_the_state_of_the_service_is_shown_however_late_it_is_told(
    page: Page, shipped: Any
) -> None:
    page.add_init_script(
        """const honest = window.fetch;
        window.fetch = async (...asked) => {
            const late = `${asked[0]}`.includes("/status") ? 1500 : 0;
            await new Promise((done) => setTimeout(done, late));
            return honest(...asked);
        };"""
    )
    page.goto(f"{shipped.url}/#cost")
    expect(page.locator("#cost-now")).to_contain_text("Answered requests", timeout=10_000)


def test_an_answer_that_comes_late_does_not_replace_the_request_shown(
    page: Page, shipped: Any
) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/generate?*label=0&seeds=1-6*", hold)  # of the board, what it shows
    page.goto(shipped.url)
    cell(page, 0, 3).click()
    expect(page.locator("#made-code")).to_contain_text("seeds=1&")
    page.keyboard.press("Escape")
    held[0].continue_()
    cell(page, 0, 0)
    settled(page)
    expect(page.locator("#made-code")).to_contain_text("seeds=1&")
