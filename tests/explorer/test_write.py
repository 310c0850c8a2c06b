"""Writing: a line in one hand."""

import re
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import Page, expect

from tests.explorer.page import pixels, settled, shown


def test_a_year_is_written_in_one_hand_and_saved(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#write")
    page.get_by_role("textbox", name="Text").fill("")
    expect(page.locator("#write-empty")).to_be_visible()
    page.get_by_role("textbox", name="Text").press_sequentially("2 0x26")
    expect(page.locator("#write-hint")).to_contain_text("no “x”")
    page.get_by_role("button", name="Seed 5").click()
    expect(page.get_by_role("img", name="2 026 with seed 5")).to_be_visible()
    with page.expect_download() as saving:
        page.get_by_role("link", name="Save as PNG").click()
    data = saving.value.path().read_bytes()
    strip = pixels(data)
    tiles = []
    for letter in "2 026":
        if letter == " ":
            tiles.append(np.zeros((28, 28), dtype=np.uint8))
        else:
            # The first view's truncation, which the address leaves out.
            answer = httpx.get(f"{shipped.url}/generate?label={letter}&seed=5&truncation=0.7")
            tiles.append(pixels(answer.content))
    assert (strip[::8, ::8] == np.concatenate(tiles, axis=1)).all()
    assert strip.shape == (8 * 28, 8 * 5 * 28)
    assert b"trainedAlgorithmicMedia" in data  # it says that a model made it
    page.wait_for_url(re.compile(r"text=2\+0x26&seed=5"))


def test_a_line_from_an_address_is_cut_and_going_back_restores_it(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#write?text={'0123456789' * 9}")
    text = page.get_by_role("textbox", name="Text")
    expect(text).to_have_value("0123456789012345")
    settled(page)
    assert shown(page.locator("#write-strip")).shape == (8 * 28, 16 * 8 * 28)
    # Back to a state whose truncation is 0.7, which an address leaves out.
    whole = page.evaluate("location.hash")
    page.evaluate("location.hash += '&truncation=0.4'")
    expect(page.locator("#write-truncation-value")).to_have_text("0.40")
    settled(page)
    page.go_back()
    expect(page.locator("#write-truncation-value")).to_have_text("0.70")
    assert page.evaluate("location.hash") == whole
    # And to one with an empty line, which it leaves out too.
    text.fill("")
    page.wait_for_url(re.compile("#write(?!.*text=)"))
    page.evaluate("location.hash += '&text=77'")
    expect(text).to_have_value("77")
    page.go_back()
    expect(text).to_have_value("")


def test_a_chosen_hand_keeps_the_focus(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#write")
    page.get_by_role("button", name="Seed 5").press("Enter")
    expect(page.get_by_role("img", name="2026 with seed 5")).to_be_visible()
    settled(page)
    expect(page.get_by_role("button", name="Seed 5")).to_be_focused()
