"""Files that are no pictures, or too much of one."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.explorer.conftest import Serve
from tests.explorer.page import (
    MARKUP,
    PNG,
    at_rest,
    file_of,
    follow,
    is_shown,
    open_draw,
    png,
    settled,
    shown,
    tile,
    watched,
)

FILES = [
    ("notes.txt", "text/plain", b"not a picture", "“notes.txt” has the type text/plain"),
    ("broken.png", PNG, b"\x89PNG\r\n\x1a\nnot", "“broken.png” cannot be read"),
    ("drawing.svg", "image/svg+xml", b"<svg/>", "“drawing.svg” has the type image/svg"),
]


@pytest.mark.parametrize(("name", "kind", "data", "said"), FILES)
def test_a_file_that_is_no_picture_is_named_with_the_types_accepted(
    page: Page, shipped: Any, name: str, kind: str, data: bytes, said: str
) -> None:
    file: FilePayload = {"name": name, "mimeType": kind, "buffer": data}
    notice = page.locator("#notice")
    open_draw(page, shipped)
    before = shown(page.locator("#decoded"))
    page.set_input_files("#pad-file", file)
    expect(notice).to_contain_text(said)
    expect(notice).to_contain_text("PNG, JPEG and WebP images are accepted.")
    settled(page)
    assert (shown(page.locator("#decoded")) == before).all()
    page.get_by_role("tab", name="Morph").click()
    settled(page)
    page.locator("#morph-b input[type=file]").set_input_files(file)
    expect(notice).to_contain_text(said)
    settled(page)
    expect(page.locator("#morph-b h3")).to_have_text("End: 8, seed 4")
    expect(page.locator("#morph-frame")).to_be_visible()


def test_what_is_dropped_and_is_no_picture_is_named(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    tile(page, 0)
    page.evaluate(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["a,b"], "table.csv", { type: "text/csv" }));
            const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
            document.querySelector("#look-panels").dispatchEvent(new DragEvent("drop", options));
        }"""
    )
    notice = page.locator("#notice")
    expect(notice).to_contain_text("“table.csv” cannot be read here. PNG, JPEG and WebP")
    expect(page.get_by_role("tab", name="Look")).to_have_attribute("aria-selected", "true")


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """On disk, where a browser takes them without a copy through the test's own process."""
    contents = {
        "large.png": png(28, 28) + bytes(20_000_000),
        "wide.png": png(10_000, 10_000),
        "empty.png": b"",
        "text.png": b"This is no picture.",
        "cut.png": png(64, 64)[:60],
        "page.html": MARKUP.encode(),
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9' "
        b"onload='window.pwned=1'/>",
    }
    folder = tmp_path_factory.mktemp("files")
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in contents]


def told(page: Page) -> Locator:
    """Where a refusal is told: a notice, or the verdict."""
    return page.locator("#notice:visible p, #verify-result .verdict p")


@pytest.mark.parametrize("view", ["draw", "morph", "verify"])
def test_unusable_files_are_named_and_the_next_one_is_used(
    browser: Any, serve: Serve, bad_files: list[Path], view: str
) -> None:
    url = serve("several")
    field = {"draw": "#pad-file", "morph": "#morph-b input[type=file]", "verify": "#verify-file"}
    with watched(browser, url, refusals=True) as page:
        follow(page, url, view)
        for file in bad_files:
            page.set_input_files(field[view], file)
            expect(told(page).first).to_have_text(re.compile(r"\w{4,}"))
            at_rest(page)
            expect(page.locator("#notice")).not_to_contain_text("The page failed")
            assert page.evaluate("window.pwned") is None
            assert page.locator("[onerror], [onload]").count() == 0
        page.set_input_files(field[view], file_of("good.png", png(28, 28)))
        at_rest(page)
        expect(page.locator("#notice")).to_be_hidden()
        shows = {"draw": "#decoded", "morph": "#morph-frame", "verify": "#verify-result img"}
        is_shown(page.locator(shows[view]))
