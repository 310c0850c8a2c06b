"""The board: labels across, styles down, one picture enlarged, the request that made it."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, Route, expect

from tests.explorer.page import cell, is_shown, pixels, settled, shown
from tests.shipped import CGAN, GAN


def test_the_board_has_a_column_a_label_and_a_row_a_style(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    heads = page.locator("#board-table thead th")
    expect(heads).to_have_text(["style", *map(str, range(10))])
    image = cell(page, 2, 7).locator("img")
    expected = httpx.get(f"{shipped.url}/generate?label=7&seed=3").content
    assert (shown(image) == pixels(expected)).all()
    assert image.get_attribute("alt") == "7, style 3"


def test_a_click_enlarges_and_the_style_stays_under_another_label(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    cell(page, 1, 7).click()
    dialog = page.get_by_role("dialog", name="7 in style 2")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="4", exact=True).click()
    large = page.get_by_role("img", name=f"A 4 in style 2 from {CGAN}")
    expect(large).to_be_visible()
    expected = httpx.get(f"{shipped.url}/generate?label=4&seed=2").content
    assert (shown(large) == pixels(expected)).all()
    # Saving gives the API's own file, larger.
    with page.expect_download() as saving:
        page.get_by_role("link", name="Save as PNG").click()
    assert saving.value.suggested_filename == f"{CGAN}-4-2.png"
    saved = saving.value.path().read_bytes()
    large_png = httpx.get(f"{shipped.url}/generate?label=4&seed=2&scale=10").content
    assert (pixels(saved) == pixels(large_png)).all()
    permalink = page.get_by_role("link", name="Permalink").get_attribute("href")
    assert permalink
    assert httpx.get(shipped.url + permalink).content == expected
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()


def test_the_board_by_keyboard_alone(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    cell(page, 0, 0)
    while page.evaluate("document.activeElement.getAttribute('role')") != "gridcell":
        page.keyboard.press("Tab")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "End", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("dialog", name="8 in style 2")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    focused = page.evaluate("document.activeElement.querySelector('img').alt")
    assert focused == "8, style 2"  # where it was left


def test_truncation_more_rows_and_another_model_are_in_the_address(
    page: Page, shipped: Any
) -> None:
    page.goto(shipped.url)
    cell(page, 5, 9)
    page.get_by_role("button", name="Six more rows").click()
    cell(page, 11, 9)
    page.locator("#board-truncation").focus()
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#board-truncation-value")).to_have_text("0.60")
    expected = httpx.get(f"{shipped.url}/generate?label=9&seed=12&truncation=0.6").content
    page.wait_for_url(re.compile(r"seeds=1-12.*truncation=0\.6"))
    expect(page.locator("#board-table")).not_to_have_attribute("aria-busy", "true")
    assert (shown(cell(page, 11, 9).locator("img")) == pixels(expected)).all()
    # The link alone shows the same.
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert (shown(cell(page, 11, 9).locator("img")) == pixels(expected)).all()
    expect(page.locator("#board-truncation-value")).to_have_text("0.60")
    page.get_by_role("combobox", name="Model").select_option(label=GAN)
    expected = httpx.get(f"{shipped.url}/generate?model={GAN}&seed=3&truncation=0.6").content
    page.wait_for_url(re.compile(rf"model={GAN}"))
    expect(page.locator("#board-table")).not_to_have_attribute("aria-busy", "true")
    assert (shown(cell(page, 0, 2).locator("img")) == pixels(expected)).all()


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


def test_the_address_holds_no_more_rows_than_a_link_may(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#board?seeds=1-598")
    page.get_by_role("button", name="Six more rows").click()
    expect(page.get_by_role("button", name="Six more rows")).to_be_disabled()
    page.wait_for_url(re.compile("seeds=1-600"))
    expect(page.locator("#board-table tbody tr")).to_have_count(600)


def test_the_request_behind_the_view_is_shown_and_runs(
    page: Page, shipped: Any, tmp_path: Path
) -> None:
    page.goto(shipped.url)
    cell(page, 0, 3).click()
    is_shown(page.get_by_role("img", name=f"A 3 in style 1 from {CGAN}"))
    page.keyboard.press("Escape")
    code = page.locator("#request-code")
    expect(code).to_contain_text("seeds=1&")
    command = code.inner_text()
    assert command.startswith(f"curl '{shipped.url}/generate?model={CGAN}@")
    page.get_by_role("button", name="Python").click()
    expect(code).to_contain_text("httpx.get(")
    expected = pixels(httpx.get(f"{shipped.url}/generate?label=3&seed=1").content)
    subprocess.run([sys.executable, "-c", code.inner_text()], cwd=tmp_path, check=True)
    assert (pixels((tmp_path / "0.png").read_bytes()) == expected).all()
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    told = json.loads((tmp_path / "response.json").read_text())["items"][0]
    assert (pixels(base64.b64decode(told["image"])) == expected).all()


def test_an_answer_that_comes_late_does_not_replace_the_request_shown(
    page: Page, shipped: Any
) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/generate?*label=0&seeds=1-6*", hold)  # of the board, what it shows
    page.goto(shipped.url)
    cell(page, 0, 3).click()
    expect(page.locator("#request-code")).to_contain_text("seeds=1&")
    page.keyboard.press("Escape")
    held[0].continue_()
    cell(page, 0, 0)
    settled(page)
    expect(page.locator("#request-code")).to_contain_text("seeds=1&")
