"""What people stumbled over in their first hour with the page."""

import base64
from typing import Any

from playwright.sync_api import Page, expect

from tests.explorer.page import look_at, open_draw, pixels, settled
from tests.shipped import VAE


def test_a_tap_draws_a_dot_and_is_encoded(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    page.locator("#pad").click()
    settled(page)
    drawn = page.evaluate("document.getElementById('pad').toDataURL()").split(",")[1]
    dot = pixels(base64.b64decode(drawn)) > 128
    assert 250 < dot.sum() < 600  # a disc of 22 pixels
    expect(page.locator("#draw-done")).to_contain_text("280 × 280 pixels")


def test_a_pressed_button_under_the_mouse_can_be_read(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    settled(page)
    pressed = page.locator("button[aria-pressed=true]:visible").first
    colours = "b => [getComputedStyle(b).color, getComputedStyle(b).backgroundColor]"
    before = pressed.evaluate(colours)
    pressed.hover()
    assert pressed.evaluate(colours) == before
    assert before[0] != before[1]


def test_a_card_tells_images_from_times_that_they_were_seen(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#models")
    settled(page)
    card = page.locator("article, section, .card").filter(has_text=VAE).last
    expect(card).to_contain_text("Learned from 58,800 images of MNIST, each seen 100 times.")


def test_the_page_says_that_a_written_line_cannot_be_verified(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#write")
    settled(page)
    expect(page.locator("#view-write")).to_contain_text("Verify cannot check it")


def test_who_writes_a_name_is_told_what_can_be_written(page: Page, shipped: Any) -> None:
    look_at(page, shipped.url, "label=7")
    page.locator("#try-text").fill("Anna")
    expect(page.locator("#try-strip")).to_have_text("Type some of 0 1 2 3 4 5 6 7 8 9.")
