"""The first view: pictures of one label, one enlarged, three things to try, the request."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.explorer.conftest import Serve
from tests.explorer.page import (
    asked,
    draw_on,
    is_shown,
    look_at,
    pixels,
    red,
    settled,
    shown,
    tile,
    unfold,
    watched,
    written,
)
from tests.shipped import CGAN, GAN, SIGNS


def seeds_of(page: Page) -> list[int]:
    """Of the pictures, as their names say."""
    names = page.locator(".tile img").evaluate_all("all => all.map(one => one.alt)")
    return [int(name.rpartition(" ")[2]) for name in names]


def test_the_first_screen_says_what_it_shows_and_draws_it_now(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    tile(page, 23)
    heading = page.get_by_role("heading", level=2).first
    expect(heading).to_have_text(
        "None of these sevens was ever written or photographed. Networks drew them just now."
    )
    expect(page.locator(".panel b")).to_have_text([CGAN, SIGNS])
    first = seeds_of(page)
    for place, model in ((2, CGAN), (14, SIGNS)):
        query = f"model={model}&label=7&seed={first[place]}&truncation=0.7"
        expected = httpx.get(f"{shipped.url}/generate?{query}").content
        assert (shown(tile(page, place).locator("img")) == red(expected)).all()
    page.get_by_role("button", name="12 others").click()
    expect(page.locator(f".tile img[alt='7, seed {first[0]}']")).to_have_count(0)
    page.get_by_role("group", name="Label").get_by_role("button", name="3").click()
    expect(heading).to_contain_text("None of these threes")
    image = tile(page, 5).locator("img")
    expect(image).to_have_attribute("alt", re.compile("^3, seed"))


def test_every_model_that_knows_the_label_is_shown_beside_the_others(
    browser: Any, serve: Serve
) -> None:
    url = serve("side by side")
    with watched(browser, url) as page:
        look_at(page, url, "label=7&seeds=1-12")
        expect(page.locator(".panel b")).to_have_count(2)
        names = page.locator(".panel b").all_inner_texts()
        assert sorted(names) == ["signs-cgan-v1", "tiny-cgan-v1"]
        heading = page.get_by_role("heading", level=2).first
        expect(heading).to_contain_text("None of these sevens was ever written or photographed.")
        expect(page.locator(".tile img")).to_have_count(24)
        page.locator("#look-model").select_option(label="signs-cgan-v1 (conditional GAN)")
        expect(page.locator(".panel b")).to_have_text(["signs-cgan-v1"])
        expect(page).to_have_url(re.compile("model=signs-cgan-v1"))


def test_the_wall_lives_until_it_is_held_still(browser: Any, shipped: Any) -> None:
    with watched(browser, shipped.url, reduced_motion="no-preference") as page:
        page.clock.install()
        look_at(page, shipped.url, f"model={CGAN}&label=7&seeds=1-24")
        ways = asked(page, "/interpolate")
        page.clock.run_for(1000)
        page.wait_for_function("() => !document.querySelector('.panels').dataset.never")
        with page.expect_request("**/interpolate*"):
            page.clock.run_for(3000)
        for _ in range(40):
            page.clock.run_for(200)
            if set(seeds_of(page)) != set(range(1, 25)):
                break
        assert set(seeds_of(page)) != set(range(1, 25))  # one has another style now
        page.get_by_role("button", name="Hold still").click()
        page.clock.run_for(2000)
        settled(page)
        before = len(ways)
        page.clock.run_for(10_000)
        assert len(ways) == before
        # The link has what is shown.
        link = page.get_by_role("button", name="Copy link to this view")
        link.click()
        assert page.locator(".tile").count() == 24


def test_nothing_moves_for_those_who_want_less_motion(page: Page, shipped: Any) -> None:
    page.clock.install()
    look_at(page, shipped.url, f"model={CGAN}&label=7&seeds=1-24")
    ways = asked(page, "/interpolate")
    page.clock.run_for(10_000)
    assert not ways
    assert seeds_of(page) == list(range(1, 25))
    expect(page.locator("#look-pause")).to_be_hidden()


def test_a_year_in_one_hand_and_a_drawing_that_changes(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    strip = page.locator("#try-strip")
    expect(strip).to_have_attribute("aria-label", re.compile(r"^2026 with seed \d+"))
    hand = strip.get_attribute("aria-label")
    page.locator("#try-text").fill("7x1")
    expect(strip.locator("img")).to_have_count(2)
    expect(strip).to_have_attribute("aria-label", re.compile("^71 with seed"))
    page.get_by_role("button", name="Another hand").click()
    expect(strip).not_to_have_attribute("aria-label", str(hand).replace("2026", "71"))
    # A point on the small map.
    decoded = page.locator("#try-decoded")
    expect(decoded).to_have_attribute("src", re.compile("^data:"))
    before = decoded.get_attribute("src")
    page.locator("#try-plane-handle").press("Shift+ArrowRight")
    expect(decoded).not_to_have_attribute("src", str(before))
    # A drawing on its way to another picture.
    page.locator("#try-pad").scroll_into_view_if_needed()
    with page.expect_request("**/interpolate*"):
        draw_on(page, "#try-pad")
    is_shown(page.get_by_role("img", name="Your drawing on its way to"))
    # It is on the other pad too, and cleared there it is cleared here.
    page.get_by_role("tab", name="Draw").click()
    page.wait_for_url(re.compile("strokes="))
    settled(page)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("tab", name="Look").click()
    expect(page.locator("#try-pad-hint")).to_be_visible()


def test_a_click_enlarges_and_the_style_stays_under_another_label(page: Page, shipped: Any) -> None:
    look_at(page, shipped.url, "label=7&seeds=1-6")
    tile(page, 1).click()
    dialog = page.get_by_role("dialog", name="7, seed 2")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="4", exact=True).click()
    large = page.get_by_role("img", name=f"A 4 with seed 2 from {CGAN}")
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
    page.locator("#detail").get_by_role("button", name="Truncation").press("Enter")
    expect(page.locator("#detail").locator(".glossary:popover-open")).to_contain_text(
        "pulled to the average"
    )
    page.keyboard.press("Escape")
    permalink = page.get_by_role("link", name="Its address").get_attribute("href")
    assert permalink
    assert httpx.get(shipped.url + permalink).content == expected
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#detail")).to_be_hidden()
    focused = page.evaluate("document.activeElement.querySelector('img').alt")
    assert focused == "7, seed 2"  # where it was left


def test_truncation_and_another_model_are_in_the_address(page: Page, shipped: Any) -> None:
    look_at(page, shipped.url, "label=9&seeds=1-12")
    page.locator("#look-truncation").focus()
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#look-truncation-value")).to_have_text("0.60")
    expected = httpx.get(f"{shipped.url}/generate?label=9&seed=12&truncation=0.6").content
    written(page)
    assert re.search(r"seeds=1-12.*truncation=0\.6$", page.url)
    assert (shown(tile(page, 11).locator("img")) == pixels(expected)).all()
    # The link alone shows the same.
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    settled(page)
    assert (shown(tile(page, 11).locator("img")) == pixels(expected)).all()
    expect(page.locator("#look-truncation-value")).to_have_text("0.60")
    page.get_by_role("combobox", name="Model").select_option(label=f"{GAN} (GAN)")
    page.wait_for_url(re.compile(rf"model={GAN}"))
    settled(page)
    seed = seeds_of(page)[2]
    expected = httpx.get(f"{shipped.url}/generate?model={GAN}&seed={seed}&truncation=0.6").content
    assert (shown(tile(page, 2).locator("img")) == pixels(expected)).all()
    expect(page.locator("#look-choose")).to_contain_text("takes no label")
    # The label is remembered meanwhile.
    page.locator("#look-model").select_option(label=f"{CGAN} (conditional GAN)")
    expect(page.locator("#look-labels [aria-pressed=true]")).to_have_text("9")


def test_a_truncation_changed_in_the_dialog_is_in_the_link(page: Page, shipped: Any) -> None:
    look_at(page, shipped.url, "label=5&seeds=1-6&truncation=0.8")
    tile(page, 2).click()
    page.locator("#detail-truncation").fill("0.3")
    page.wait_for_url(re.compile(r"label=5&.*truncation=0\.8&pick=3&pick_truncation=0\.3"))
    settled(page)
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("#detail-truncation-value")).to_have_text("0.30")
    large = page.get_by_role("img", name=f"A 5 with seed 3 from {CGAN}")
    expect(large).to_be_visible()
    expected = httpx.get(f"{shipped.url}/generate?label=5&seed=3&truncation=0.3").content
    assert (shown(large) == pixels(expected)).all()
    expect(page.locator("#look-truncation-value")).to_have_text("0.80")
    page.keyboard.press("Escape")
    page.wait_for_url(re.compile(r"seeds=1-6&truncation=0\.8$"))


def test_the_request_behind_the_view_is_shown_and_runs(
    page: Page, shipped: Any, tmp_path: Path
) -> None:
    look_at(page, shipped.url, "label=3&seeds=1-6")
    tile(page, 0).click()
    is_shown(page.get_by_role("img", name=f"A 3 with seed 1 from {CGAN}"))
    page.keyboard.press("Escape")
    code = page.locator("#request-code")
    expect(code).to_contain_text("seeds=1&")
    unfold(page, "#request-code-of")
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

    page.route("**/generate?*label=3&seeds=1-6*", hold)  # what the view shows
    page.goto(f"{shipped.url}/#look?model={CGAN}&label=3&seeds=1-6")
    page.locator(".tile").first.click()
    expect(page.locator("#request-code")).to_contain_text("seeds=1&")
    page.keyboard.press("Escape")
    held[0].continue_()
    tile(page, 0)
    settled(page)
    expect(page.locator("#request-code")).to_contain_text("seeds=1&")


@pytest.mark.parametrize("word", ["latent space", "spread"])
def test_a_word_explains_itself_where_it_stands(page: Page, shipped: Any, word: str) -> None:
    page.goto(f"{shipped.url}/#draw")
    settled(page)
    page.locator("#view-draw").get_by_role("button", name=word).press("Enter")
    expect(page.locator(".glossary:popover-open")).to_contain_text(word.capitalize())
    page.keyboard.press("Escape")
    expect(page.locator(".glossary:popover-open")).to_have_count(0)


def test_a_seed_explains_itself_over_the_enlarged_picture(page: Page, shipped: Any) -> None:
    look_at(page, shipped.url, "label=7&pick=3")
    page.locator("#detail").get_by_role("button", name="Seed", exact=True).click()
    expect(page.locator(".glossary:popover-open")).to_contain_text("a seed, a single number")
