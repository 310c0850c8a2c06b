"""The latents' sliders: their order, mean and spread, what each does."""

import re
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.explorer.page import PNG, latent_nats, liveliest, open_draw, pixels, settled, shown


def test_latents_are_sorted_by_kl_and_the_dead_are_set_apart(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    kl = latent_nats(shipped)
    order = liveliest(shipped)
    ids = page.locator("#latents input").evaluate_all("inputs => inputs.map(i => i.id)")
    assert ids == [f"latent-{index}" for index in order]
    dead = page.locator("#latents .dead input").evaluate_all("inputs => inputs.map(i => i.id)")
    assert dead == [f"latent-{index}" for index in order if kl[index] < 0.01]
    before = shown(page.locator("#decoded"))
    page.locator(f"#latent-{order[0]}").fill("3")
    settled(page)
    expect(page.get_by_role("img", name="Decoded point")).to_be_visible()
    assert (shown(page.locator("#decoded")) != before).any()
    page.get_by_role("button", name="Back to my picture").click()
    expect(page.get_by_role("img", name="Reconstruction of your image")).to_be_visible()
    assert (shown(page.locator("#decoded")) == before).all()
    page.get_by_role("button", name="A sample near it").click()
    expect(page.locator("#decoded-caption")).to_contain_text("away from your picture")


def test_the_ends_of_a_slider_are_pictures_of_what_it_would_do(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    index = liveliest(shipped)[0]
    images = page.locator(".latent", has=page.locator(f"#latent-{index}")).locator("img")
    expect(images.nth(1)).to_have_attribute("src", re.compile("^data:"))
    z = [float(one.input_value()) for one in page.locator("#latents input").all()]
    for image, end in zip(images.all(), (-4, 4), strict=True):
        page.locator(f"#latent-{index}").fill(str(end))
        settled(page)
        decoded = shown(page.locator("#decoded"))
        # The slider's own steps are coarser than the point: a grey level here and there.
        assert np.abs(shown(image).astype(int) - decoded).max() <= 2
    assert len(z) == 64


def test_a_phone_shows_the_latents_on_two_screens(page: Page, shipped: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    open_draw(page, shipped)
    box = page.locator("#latents").bounding_box()
    assert box
    assert box["height"] < 2 * 740
    assert page.locator("#latents input").count() == 64


# Mean and spread


def row_of(page: Page, index: int) -> Locator:
    return page.locator(".latent", has=page.locator(f"#latent-{index}"))


def test_mean_and_spread_stand_beside_each_slider_in_figures(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)  # with a first 3
    index = liveliest(shipped)[0]
    digit = httpx.get(f"{shipped.url}/generate?label=3&seed=1&truncation=0.7").content
    found = httpx.post(f"{shipped.url}/encode", content=digit, headers={"content-type": PNG})
    (item,) = found.json()["items"]
    mean, spread = item["mu"][index], np.exp(item["logvar"][index] / 2)
    row, slider = row_of(page, index), page.locator(f"#latent-{index}")
    expect(row.locator(".posterior-text")).to_have_text(f"{mean:.2f} ± {spread:.2f}")
    said = f"{mean:.2f}; mean {mean:.2f}, standard deviation {spread:.2f}"
    expect(slider).to_have_attribute("aria-valuetext", said)
    # Moved away, the slider says where it is and where the encoder put it.
    slider.fill("3")
    said = f"3.00; mean {mean:.2f}, standard deviation {spread:.2f}"
    expect(slider).to_have_attribute("aria-valuetext", said)
    # The bar is where the slider would stand for the mean, as wide as the spread, and not under it.
    slider.fill("0")
    band, track = row.locator(".band").bounding_box(), slider.bounding_box()
    assert band
    assert track
    assert band["y"] >= track["y"] + track["height"] - 1
    unit = (track["width"] - 16) / 8  # pixels of a standard deviation of the prior
    assert band["width"] == pytest.approx(max(2, 2 * spread * unit), abs=0.5)
    at = track["x"] + track["width"] / 2 + (mean - spread) * unit
    assert band["x"] == pytest.approx(at, abs=0.5)
    page.get_by_role("button", name="Clear").click()
    expect(row.locator(".posterior-text")).to_have_text("")
    expect(slider).to_have_attribute("aria-valuetext", "0.00")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_spread_is_seen_in_forced_colours(page: Page, shipped: Any, scheme: Any) -> None:
    page.emulate_media(forced_colors="active", color_scheme=scheme)
    open_draw(page, shipped)
    row = row_of(page, liveliest(shipped)[0])
    strip = pixels(row.locator(".posterior").screenshot())
    ground = np.median(strip)
    seen = (np.abs(strip.astype(int) - ground) > 60).any(axis=0)
    assert 2 <= seen.sum() <= 20  # the bar, with ground to both sides
    track = pixels(row.locator(".track").screenshot())
    assert (np.abs(track.astype(int) - ground) > 60).any(axis=0).mean() > 0.8
