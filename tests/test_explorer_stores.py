"""The explorer beyond the ordinary: other stores, the keyboard alone, a bad network, forged links,
files that are no pictures."""

import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage
from playwright.sync_api import ConsoleMessage, Locator, Page, Request, Route, expect

from tests.conftest import TINY, TINY_GAN, MakeStore
from tests.explorer import settled
from training.networks.configs import GanConfig, VaeConfig
from training.networks.header import Description

VIEWS = ("board", "draw", "morph", "write", "cost", "models", "verify")
PHONE = {"viewport": {"width": 390, "height": 844}}

# What conftest's tiny store lacks. Photos are in colour and of their own data, so no other model
# knows what they show.
NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
PHOTOS = {"name": "photos", "licence": "CC0"}
RGB = {"image_channels": 3, "image_size": 32}
DENSE = GanConfig(architecture="dense", latent_dim=4, channels=(8,))
OTHERS = {
    "photos-cgan-v1": Description(
        "cgan", replace(TINY_GAN, num_classes=10, **RGB), tuple(NAMES), PHOTOS
    ),
    "photos-vae-v1": Description(
        "vae", VaeConfig(latent_dim=3, channels=(4, 4), hidden=8, **RGB), (), PHOTOS
    ),
    "letters-cgan-v1": Description("cgan", replace(DENSE, num_classes=47), tuple(LETTERS)),
    "pets-cgan-v1": Description("cgan", replace(DENSE, num_classes=2), ("cat", "dog")),
    "tiny-gan-v2": Description("gan", DENSE),
    "tiny-vae-v2": Description(
        "vae", VaeConfig(architecture="dense", latent_dim=20, channels=(8,))
    ),
}
STORES = {
    "gan": ["tiny-gan-v1"],
    "vae": ["tiny-vae-v1"],
    "cgan": ["tiny-cgan-v1"],
    "photos": ["photos-cgan-v1", "photos-vae-v1"],
    "letters": ["letters-cgan-v1", "tiny-vae-v1"],
    "several": [
        *("pets-cgan-v1", "tiny-cgan-v1", "tiny-gan-v1", "tiny-gan-v2", "tiny-vae-v1"),
        "tiny-vae-v2",
    ],
}

Serve = Callable[[str], str]


@pytest.fixture(scope="module")
def serve(
    start_server: Any,
    make_store: MakeStore,
    tiny_store: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serve]:
    """``serve("photos")``: where a service of that store is, one for all tests of the module."""
    urls: dict[str, str] = {}
    with ExitStack() as stack:

        def started(store: str) -> str:
            if store not in urls:
                folder = tmp_path_factory.mktemp(store)
                for name in STORES[store]:
                    source = tiny_store if name in TINY else make_store(OTHERS)
                    for path in source.glob(f"{name}.*"):
                        shutil.copy(path, folder)
                options = ("--models-dir", str(folder), "--workers", "1")
                urls[store] = stack.enter_context(start_server(*options)).url
            return urls[store]

        yield started


@contextmanager
def watched(browser: Any, url: str, *, refusals: bool = False, **context: Any) -> Iterator[Page]:
    """A page that throws nothing, logs no error and asks no other host.

    Args:
        refusals: The service refuses something in this test, which the browser itself logs.
    """
    opened = browser.new_context(**context)
    page = opened.new_page()
    errors: list[str] = []
    hosts: set[str] = set()

    def listen(message: ConsoleMessage) -> None:
        told_by_browser = refusals and message.text.startswith("Failed to load resource")
        if message.type == "error" and not told_by_browser:
            errors.append(message.text)

    def note(request: Request) -> None:
        hosts.add(urlsplit(request.url).netloc)

    page.on("console", listen)
    page.on("pageerror", lambda error: errors.append(f"thrown: {error}"))
    page.on("request", note)
    yield page
    opened.close()
    assert errors == []
    assert hosts - {""} == {urlsplit(url).netloc}  # data: and blob: have none


def opened(page: Page, url: str, view: str, query: str = "") -> Locator:
    """The view of an address, loaded anew, at rest; its panel."""
    page.goto("about:blank")
    page.goto(f"{url}/#{view}{'?' + query if query else ''}")
    panel = page.locator(f"#view-{view}")
    expect(panel).to_be_visible()
    at_rest(page)
    return panel


def at_rest(page: Page) -> None:
    """Nothing is under way, and nothing looks as if it were."""
    settled(page)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    expect(page.locator(".loading:visible")).to_have_count(0)
    expect(page.locator("#progress")).to_be_hidden()
    assert page.evaluate("document.getAnimations().length") == 0


def nothing_overflows(page: Page) -> None:
    width, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= seen, f"{page.url} is {width} pixels wide on {seen}"


CONTROLS = (
    "a[href]:visible, button:visible, select:visible, input:visible, summary:visible, "
    "[role=slider]:visible"
)

# Elements of a snapshot that a screen reader's user chooses by name.
NAMED = re.compile(
    r"^\s*- '?(button|link|textbox|combobox|slider|spinbutton|tab|tabpanel|grid|option|img|dialog)\b"
    r"(?! \")",
    re.MULTILINE,
)


def everything_has_a_name(page: Page) -> None:
    snapshot = page.locator("body").aria_snapshot()
    unnamed = [line for line in snapshot.splitlines() if NAMED.match(line)]
    assert unnamed == []


def is_shown(image: Locator) -> None:
    expect(image).to_be_visible()
    assert image.evaluate("async image => { await image.decode(); return image.naturalWidth; }") > 0


# What is served


def board_is_full(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    model = next(m for m in models if m["name"] == panel.locator("select").evaluate(OPTION))
    columns = len(model["labels"]) or 10
    images = panel.locator("td img")
    expect(images).to_have_count(6 * columns)
    size = model["image_shape"][1]
    widths = images.evaluate_all("all => all.map(image => image.naturalWidth)")
    assert set(widths) == {size}
    heads = panel.locator("thead th")
    assert heads.all_inner_texts()[1:] == model["labels"]


OPTION = "select => select.selectedOptions[0].textContent"


def draw_is_usable(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    if not any("encode" in model["operations"] for model in models):
        expect(panel.locator(".empty")).to_have_text(
            "None of the served models can encode: that takes a VAE."
        )
        expect(panel.locator(CONTROLS)).to_have_count(0)
        return
    expect(panel.locator("#decoded, #decoded-blank").locator("visible=true")).to_have_count(1)
    panel.get_by_role("slider", name="z0").fill("2")
    is_shown(panel.get_by_role("img", name="What the moved point decodes to"))


def morph_plays(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    is_shown(panel.get_by_role("img", name="Picture 1 of 16 on the way"))
    scrub = panel.get_by_role("slider", name="Place on the way")
    scrub.focus()
    page.keyboard.press("End")
    is_shown(panel.get_by_role("img", name="Picture 16 of 16 on the way"))


def write_writes(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    if not any(len(label) == 1 for model in models for label in model["labels"]):
        expect(panel.locator(".empty")).to_have_text(
            "No served model has single characters as its labels."
        )
        expect(panel.locator(CONTROLS)).to_have_count(0)
        return
    is_shown(panel.get_by_role("img", name="2026 in style 4"))
    assert panel.get_by_role("button", name="Style", exact=False).count() == 6


def cost_is_told(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    expect(panel.locator("#cost-last .stack")).to_be_visible()
    facts = panel.locator("#cost-now div")
    expect(facts).to_have_count(9)
    for text in facts.all_inner_texts():
        assert not re.search(r"undefined|NaN|null|Infinity|^$", text.split("\n")[1])


def models_are_shown(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    expect(panel.get_by_role("article")).to_have_count(len(models))
    for model in models:
        sheet = panel.get_by_role("img", name=f"16 samples of {model['name']}, seeds 1 to 16")
        is_shown(sheet)


def verify_waits(page: Page, panel: Locator, models: list[dict[str, Any]]) -> None:
    expect(panel.get_by_label("Drop a PNG or WebP here")).to_be_visible()


USABLE: dict[str, Callable[[Page, Locator, list[dict[str, Any]]], None]] = {
    "board": board_is_full,
    "draw": draw_is_usable,
    "morph": morph_plays,
    "write": write_writes,
    "cost": cost_is_told,
    "models": models_are_shown,
    "verify": verify_waits,
}


@pytest.mark.parametrize("store", STORES)
def test_each_view_is_usable_whatever_is_served(browser: Any, serve: Serve, store: str) -> None:
    url = serve(store)
    models = httpx.get(f"{url}/models").json()["models"]
    with watched(browser, url, **PHONE) as page:
        for view in VIEWS:
            panel = opened(page, url, view)
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


MANY = ("Send 200 at once",)  # tests/test_explorer.py sends them


@pytest.mark.parametrize("store", ["gan", "vae", "photos"])
def test_each_button_of_each_view_does_no_harm(browser: Any, serve: Serve, store: str) -> None:
    url = serve(store)
    with watched(browser, url, accept_downloads=True) as page:
        for view in VIEWS:
            panel = opened(page, url, view)
            buttons = panel.get_by_role("button")
            for index in range(min(buttons.count(), 12)):
                button = buttons.nth(index)
                if button.is_disabled() or button.inner_text() in MANY:
                    continue
                if button.evaluate("one => one.matches('input, label')"):  # a file chooser
                    continue
                button.click()
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
    """Saved, verified, restored: the board shows the very pixels again."""
    url = serve(store)
    model = httpx.get(f"{url}/models").json()["models"][0]
    query = {"model": model["name"], "seed": "5", "label": (model["labels"] or [None])[-1]}
    answer = httpx.get(f"{url}/generate", params={k: v for k, v in query.items() if v})
    with watched(browser, url, viewport={"width": 1000, "height": 800}) as page:
        opened(page, url, "verify")
        page.set_input_files(
            "#verify-file",
            {"name": "ours.png", "mimeType": "image/png", "buffer": answer.content},
        )
        expect(page.locator("#verify-result")).to_contain_text("Yes: every pixel")
        page.get_by_role("button", name="Restore its settings").click()
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
