"""Each view with stores that are not ours: one kind alone, photos with names, letters, several."""

import re
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage
from playwright.sync_api import Locator, Page, expect

from tests.explorer.conftest import STORES, Serve
from tests.explorer.page import (
    VIEWS,
    at_rest,
    follow,
    is_shown,
    nothing_overflows,
    tile,
    watched,
)

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}}

CONTROLS = (
    "a[href]:visible, button:visible, select:visible, input:visible, summary:visible, "
    "[role=slider]:visible"
)

# Elements of a snapshot that a screen reader's user chooses by name.
NAMED = re.compile(
    r"^\s*- '?(button|link|textbox|combobox|slider|spinbutton|tab|tabpanel|grid|option|img"
    r"|dialog)\b(?! \")",
    re.MULTILINE,
)


def everything_has_a_name(page: Page) -> None:
    snapshot = page.locator("body").aria_snapshot()
    unnamed = [line for line in snapshot.splitlines() if NAMED.match(line)]
    assert unnamed == []


def wall_is_full(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    """Pictures of every model that knows the label, side by side."""
    conditional = [model for model in models if model["labels"]]
    labels = panel.locator("#look-labels button")
    known = {label for model in conditional for label in model["labels"]}
    assert set(labels.all_inner_texts()) == known
    if known:
        label = panel.locator("#look-labels [aria-pressed=true]").inner_text()
        knowing = [model["name"] for model in conditional if label in model["labels"]]
        assert sorted(panel.locator(".panel b").all_inner_texts()) == knowing
    images = panel.locator(".tile img")
    assert images.count() >= 12
    widths = images.evaluate_all("all => all.map(image => image.naturalWidth)")
    assert set(widths) <= {model["image_shape"][1] for model in models}


def how_shows_what_is_there(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    kinds = {model["kind"] for model in models}
    assert panel.locator("#how-vae").is_visible() == ("vae" in kinds)
    assert panel.locator("#how-gan").is_visible() == bool(kinds & {"gan", "cgan"})
    three = {"gan", "cgan", "vae"} & kinds
    assert panel.locator("#how-three").is_visible() == (len(three) > 1)
    if len(three) > 1:
        assert panel.locator(".way:visible").count() == len(three)
    if "vae" in kinds:
        is_shown(panel.get_by_role("img", name="What the decoder draws of them"))


def draw_is_usable(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    if not any("encode" in model["operations"] for model in models):
        expect(panel.locator(".empty")).to_have_text(
            "No served model can encode a drawing: that needs a VAE that asks for no class."
        )
        expect(panel.locator(CONTROLS)).to_have_count(0)
        return
    expect(panel.locator("#decoded, #decoded-blank").locator("visible=true")).to_have_count(1)
    panel.get_by_role("slider", name="z0").fill("2")
    is_shown(panel.get_by_role("img", name="Decoded point"))


def morph_plays(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    is_shown(panel.get_by_role("img", name="Image 1 of 16 on the path"))
    scrub = panel.get_by_role("slider", name="Position on the path")
    scrub.focus()
    page.keyboard.press("End")
    is_shown(panel.get_by_role("img", name="Image 16 of 16 on the path"))


def write_writes(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    if not any(len(label) == 1 for model in models for label in model["labels"]):
        expect(panel.locator(".empty")).to_have_text(
            "No served model has single characters as labels."
        )
        expect(panel.locator(CONTROLS)).to_have_count(0)
        return
    is_shown(panel.get_by_role("img", name="2026 with seed 4"))
    assert panel.get_by_role("button", name=re.compile(r"^Seed \d")).count() == 8


def speed_is_told(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    expect(panel.locator("#speed-last .stack").first).to_be_visible()
    assert not re.search(r"undefined|NaN|null|Infinity", panel.locator("#speed-last").inner_text())


def models_are_shown(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    expect(panel.get_by_role("article")).to_have_count(len(models))
    for model in models:
        sheet = panel.get_by_role("img", name=f"16 samples of {model['name']}, seeds 1 to 16")
        is_shown(sheet)


def verify_waits(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    expect(panel.get_by_label("Drop a PNG or WebP here")).to_be_visible()


USABLE: dict[str, Callable[[Page, Locator, list[dict[str, Any]]], None]] = {
    "look": wall_is_full,
    "draw": draw_is_usable,
    "morph": morph_plays,
    "write": write_writes,
    "speed": speed_is_told,
    "how": how_shows_what_is_there,
    "models": models_are_shown,
    "verify": verify_waits,
}


@pytest.mark.parametrize("store", STORES)
def test_each_view_is_usable_whatever_is_served(browser: Any, serve: Serve, store: str) -> None:
    url = serve(store)
    models = httpx.get(f"{url}/models").json()["models"]
    with watched(browser, url, **PHONE) as page:
        for view in VIEWS:
            panel = follow(page, url, view)
            expect(page.locator("#notice")).to_be_hidden()
            USABLE[view](page, panel, models)
            at_rest(page)
            nothing_overflows(page)
            everything_has_a_name(page)
            # Words on buttons and over columns are whole.
            cut = panel.locator("button:visible, .button:visible, thead th").evaluate_all(
                "all => all.filter(one => one.scrollWidth > one.clientWidth + 1)"
                ".map(one => one.textContent)"
            )
            assert cut == []


MANY = ("Start the race",)  # test_speed.py runs it


@pytest.mark.parametrize("store", ["gan", "vae", "photos"])
def test_each_button_of_each_view_does_no_harm(browser: Any, serve: Serve, store: str) -> None:
    url = serve(store)
    with watched(browser, url, accept_downloads=True) as page:
        for view in VIEWS:
            panel = follow(page, url, view)
            buttons = panel.get_by_role("button")
            for index in range(min(buttons.count(), 12)):
                button = buttons.nth(index)
                if button.is_disabled() or button.inner_text() in MANY:
                    continue
                if button.evaluate("one => one.matches('input, label')"):  # a file chooser
                    continue
                button.click()
                if page.locator("dialog[open], .glossary:popover-open").count():
                    page.keyboard.press("Escape")
                if panel.is_hidden():
                    page.go_back()
                if view == "morph":
                    page.get_by_role("button", name=re.compile("Play|Pause")).wait_for()
            playing = page.get_by_role("button", name="Pause")
            if playing.is_visible():
                playing.click()
            at_rest(page)
            expect(page.locator("#notice")).to_be_hidden()


@pytest.mark.parametrize("store", ["photos", "vae"])
def test_a_picture_goes_round_in_its_colours(browser: Any, serve: Serve, store: str) -> None:
    """Saved, verified, restored: the page shows the very pixels again."""
    url = serve(store)
    model = httpx.get(f"{url}/models").json()["models"][0]
    query = {"model": model["name"], "seed": "5", "label": (model["labels"] or [None])[-1]}
    answer = httpx.get(f"{url}/generate", params={k: v for k, v in query.items() if v})
    with watched(browser, url, viewport={"width": 1000, "height": 800}) as page:
        follow(page, url, "verify")
        page.set_input_files(
            "#verify-file",
            {"name": "ours.png", "mimeType": "image/png", "buffer": answer.content},
        )
        expect(page.locator("#verify-result")).to_contain_text("Verified: the recipe")
        page.get_by_role("button", name="Look at its settings").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        at_rest(page)
        large = page.locator("#detail-image")
        with PillowImage.open(BytesIO(answer.content)) as picture:
            expected = np.asarray(picture.convert("RGB"))
        assert (colours(large) == expected).all()


def colours(image: Locator) -> Any:
    """The pixels of an <img> in its own size, (H, W, 3)."""
    width, height, data = image.evaluate(
        """async image => {
            await image.decode();
            const [width, height] = [image.naturalWidth, image.naturalHeight];
            const pen = new OffscreenCanvas(width, height).getContext("2d");
            pen.drawImage(image, 0, 0);
            return [width, height, [...pen.getImageData(0, 0, width, height).data]];
        }"""
    )
    return np.array(data, dtype=np.uint8).reshape(height, width, 4)[:, :, :3]


# What is offered


def test_what_the_served_models_cannot_do_is_said(other_page: Page, serve: Serve) -> None:
    page = other_page
    page.goto(serve("gan"))
    tile(page, 23)
    expect(page.locator("#look-labels button")).to_have_count(0)
    for name in ("try-write", "try-space", "try-draw"):
        expect(page.locator(f"#{name}")).to_be_hidden()
    for tab, text in (
        ("Draw", "No served model can encode a drawing"),
        ("Write", "No served model has single characters as labels"),
    ):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel", name=tab)).to_contain_text(text)
    page.get_by_role("tab", name="Morph").click()
    expect(page.locator("#morph-how")).to_contain_text("through the latent space of tiny-gan")


def test_encoding_is_offered_where_something_encodes(
    other_page: Page, serve: Serve, shipped: Any
) -> None:
    page = other_page
    page.goto(shipped.url)
    tile(page, 0).click()
    expect(page.get_by_role("button", name="See it as numbers")).to_be_visible()
    page.goto(serve("cgan"))
    tile(page, 0).click()
    expect(page.get_by_role("button", name="Morph from here")).to_be_visible()
    expect(page.get_by_role("button", name="See it as numbers")).to_be_hidden()


def test_a_picture_is_read_by_the_encoder_of_its_family(browser: Any, serve: Serve) -> None:
    url = serve("side by side")
    with watched(browser, url) as page:
        panel = follow(page, url, "draw", "from=signs-cgan-v1,7,1,1")
        model = panel.get_by_role("combobox", name="Model")
        expect(model.locator("option:checked")).to_have_text("photos-vae-v1 (VAE)")
        decoded = panel.get_by_role("img", name="Reconstruction of your image")
        assert colours(decoded).shape == (32, 32, 3)
        model.select_option(label="tiny-vae-v1 (VAE)")
        at_rest(page)
        assert colours(decoded).shape == (28, 28, 3)
        expect(page).to_have_url(re.compile("from=tiny-cgan-v1"))
        expect(panel.get_by_role("option", name=", seed")).to_have_count(120)
