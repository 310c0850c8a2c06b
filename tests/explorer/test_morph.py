"""Morphing: from one picture to another, played and saved."""

import base64
import re
from typing import Any

import httpx
from PIL import Image as PillowImage
from playwright.sync_api import Page, expect

from tests.explorer.page import (
    PNG,
    draw_a_seven,
    file_of,
    hold,
    look_at,
    open_draw,
    pixels,
    red,
    settled,
    shown,
    tile,
)
from tests.shipped import CGAN, SIGNS, SIGNS_VAE, VAE


def test_a_morph_plays_scrubs_and_is_saved_as_an_animation(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#morph")
    frame = page.locator("#morph-frame")
    expect(frame).to_be_visible()
    expect(page.locator("#morph-how")).to_contain_text(VAE)  # 3 to 8: through pictures
    start, end = page.locator("#morph-a"), page.locator("#morph-b")
    end.get_by_label("Label").select_option("3")
    expect(page.locator("#morph-how")).to_contain_text(CGAN)  # one label: by seeds
    assert start.locator("h3").inner_text() == "Start: 3, seed 2"
    path = httpx.get(
        f"{shipped.url}/interpolate?label=3&seeds=2,4&truncation=0.7&steps=16&method=slerp"
        "&format=json"
    ).json()["items"]
    page.locator("#morph-scrub").focus()
    page.keyboard.press("End")
    expect(frame).to_have_attribute("alt", "Image 16 of 16 on the path")
    assert (shown(frame) == pixels(base64.b64decode(path[15]["image"]))).all()
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('#morph-scrub').value < 10")
    page.get_by_role("button", name="Pause").click()
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as WebP").click()
    with PillowImage.open(saving.value.path()) as film:
        assert film.format == "WEBP"
        assert getattr(film, "n_frames", 1) == 16
        assert film.size == (8 * 28, 8 * 28)
    page.wait_for_url(re.compile(r"a=.*,3,2,0\.7&b=.*,3,4,0\.7"))


def test_a_morph_takes_the_drawing_and_a_picture_of_the_first_view(
    page: Page, shipped: Any
) -> None:
    open_draw(page, shipped)
    draw_a_seven(page)
    settled(page)
    look_at(page, shipped.url, "label=0&seeds=4")
    tile(page, 0).click()
    page.get_by_role("button", name="Morph to here").click()
    expect(page.locator("#morph-b h3")).to_have_text("End: 0, seed 4")
    page.locator("#morph-a").get_by_role("button", name="My drawing").click()
    expect(page.locator("#morph-a h3")).to_have_text("Start: a drawing")
    expect(page.locator("#morph-how")).to_contain_text("can encode both ends")
    settled(page)
    page.wait_for_url(re.compile(r"a=strokes%3A"))
    # The last picture is what the VAE keeps of the cell.
    zero = httpx.get(f"{shipped.url}/generate?label=0&seed=4").content
    kept = httpx.post(
        f"{shipped.url}/reconstruct", content=zero, headers={"content-type": PNG}
    ).content
    page.locator("#morph-scrub").focus()
    page.keyboard.press("End")
    assert (shown(page.locator("#morph-frame")) == pixels(kept)).all()


def test_a_hand_is_morphed_into_another_style_and_another_sign(page: Page, shipped: Any) -> None:
    look_at(page, shipped.url, "label=7&seeds=4")
    tile(page, 1).click()
    expect(page.get_by_role("img", name=f"A 7 with seed 4 from {SIGNS}")).to_be_visible()
    expect(page.get_by_role("button", name="See it as numbers")).to_be_visible()
    page.get_by_role("button", name="Morph from here").click()
    how = page.locator("#morph-how")
    page.locator("#morph-b").get_by_label("Label").select_option("7")
    settled(page)
    expect(how).to_have_text(f"16 images, through the latent space of {SIGNS}.")
    start = httpx.get(f"{shipped.url}/generate?model={SIGNS}&label=7&seed=4").content
    assert (shown(page.locator("#morph-frame")) == red(start)).all()
    page.locator("#morph-b").get_by_label("Label").select_option("3")
    settled(page)
    expect(how).to_contain_text(f"{SIGNS_VAE}, the model that can encode both ends")
    kept = httpx.post(
        f"{shipped.url}/reconstruct?model={SIGNS_VAE}",
        content=start,
        headers={"content-type": PNG},
    ).content
    assert (shown(page.locator("#morph-frame")) == red(kept)).all()


def test_no_picture_of_an_end_is_left_in_memory(page: Page, shipped: Any) -> None:
    page.add_init_script(
        """window.alive = new Set();
        const make = URL.createObjectURL, drop = URL.revokeObjectURL;
        URL.createObjectURL = (blob) => {
            const address = make(blob);
            alive.add(address);
            return address;
        };
        URL.revokeObjectURL = (address) => {
            alive.delete(address);
            drop(address);
        };"""
    )
    page.clock.install()
    page.goto(f"{shipped.url}/#morph")
    expect(page.locator("#morph-frame")).to_be_visible()
    settled(page)
    digit = httpx.get(f"{shipped.url}/generate?label=5&seed=9").content
    page.locator("#morph-a input[type=file]").set_input_files(
        {"name": "five.png", "mimeType": PNG, "buffer": digit}
    )
    expect(page.locator("#morph-a h3")).to_have_text("Start: a file")
    settled(page)
    let_go = hold(page, "/generate")
    for _ in range(3):  # each is overdue when the next one comes
        page.locator("#morph-b").get_by_role("button", name="Another seed").click()
        page.clock.run_for(200)
    let_go()
    settled(page)
    shown_now = page.locator("#morph-a img").get_attribute("src")
    assert page.evaluate("[...alive]") == [shown_now]


def test_a_seed_that_is_none_is_marked_and_changes_nothing(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#morph")
    start = page.locator("#morph-a")
    seed = start.get_by_label("Seed")
    expect(page.locator("#morph-frame")).to_be_visible()
    for wrong in ("-1", "1.5", "", "9007199254740992"):
        seed.fill(wrong)
        seed.press("Enter")
        assert seed.evaluate("field => field.matches(':user-invalid')"), wrong
        expect(start.locator("h3")).to_have_text("Start: 3, seed 2")
    seed.fill("12")
    seed.press("Enter")
    expect(start.locator("h3")).to_have_text("Start: 3, seed 12")
    assert seed.evaluate("field => !field.matches(':user-invalid')")
    page.goto(f"{shipped.url}/#models?seed=5")
    first = page.get_by_label("First seed")
    first.fill("-5")
    first.press("Enter")
    assert first.evaluate("field => field.matches(':user-invalid')")
    expect(page.get_by_role("img", name="seeds 5 to 20").first).to_be_visible()


def test_a_file_on_the_pad_is_morphed(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    digit = httpx.get(f"{shipped.url}/generate?label=5&seed=9").content
    page.set_input_files("#pad-file", file_of("five.png", digit))
    expect(page.locator("#draw-done")).to_contain_text("28 × 28")
    page.get_by_role("button", name="Morph it into another").click()
    expect(page.locator("#morph-a h3")).to_have_text("Start: a file")
    settled(page)
    assert (shown(page.locator("#morph-a img")) == pixels(digit)).all()
    expect(page.locator("#morph-how")).to_contain_text(VAE)
