"""The explorer beyond the ordinary: other stores, the keyboard alone, a bad network, forged links,
files that are no pictures."""

import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
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
from playwright.sync_api import ConsoleMessage, FilePayload, Locator, Page, Request, Route, expect

from tests.conftest import TINY, TINY_GAN, MakeStore
from tests.explorer import settled
from training.networks.configs import GanConfig, VaeConfig
from training.networks.header import Description

VIEWS = ("board", "draw", "morph", "write", "cost", "models", "verify")
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}}

# What conftest's tiny store lacks. Photos are in colour and of their own data, so no other model
# knows what they show.
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
PHOTOS = {"name": "photos", "licence": "CC0"}
RGB: dict[str, Any] = {"image_channels": 3, "image_size": 32}
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
    r"^\s*- '?(button|link|textbox|combobox|slider|spinbutton|tab|tabpanel|grid|option|img"
    r"|dialog)\b(?! \")",
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


# By keyboard alone


# What has the focus, and what is wrong with how that is seen. A field that is not seen itself (a
# file's) lies under a label that stands for it.
FOCUS = """() => {
    const one = document.activeElement;
    if (!one || one === document.body) return null;
    one.dataset.visited = "";
    const seen = one.matches(".visually-hidden") ? one.closest("label") : one;
    const name = `${one.tagName} ${one.id || one.textContent.trim().slice(0, 30)}`;
    const wrong = [];
    if (!one.matches(":focus-visible")) wrong.push("no :focus-visible");
    const { outlineStyle, outlineWidth } = getComputedStyle(seen);
    if (outlineStyle === "none" || parseFloat(outlineWidth) < 2) wrong.push("no outline");
    const box = seen.getBoundingClientRect();
    const x = box.left + box.width / 2;
    const shows = (y) => {
        const top = document.elementFromPoint(x, y);
        // On the map what is focused may lie under the point.
        return top && (seen.contains(top) || top.contains(seen) || seen.closest("#plane"));
    };
    const places = [0.1, 0.5, 0.9].map((share) => box.top + share * box.height);
    if (!places.some(shows)) wrong.push("out of sight");
    return { name, wrong };
}"""

# What the Tab key has to reach and has not.
MISSED = """() => [...document.querySelectorAll(
        "a[href], button, select, input, summary, textarea, [tabindex]")]
    .filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility()
        && !("visited" in one.dataset))
    .map((one) => one.outerHTML.slice(0, 90))"""


def walk(page: Page, key: str) -> list[str]:
    """Press Tab, or Shift+Tab, until the page is left; what is wrong on the way."""
    found: list[str] = []
    for _ in range(250):
        page.keyboard.press(key)
        focus = page.evaluate(FOCUS)
        if focus is None:
            return found
        found += [f"{focus['name']}: {wrong}" for wrong in focus["wrong"]]
    raise AssertionError(f"{key} does not lead out of the page; it is at {focus}")


@pytest.mark.parametrize(("view", "width"), [*((view, 1000) for view in VIEWS), ("draw", 390)])
def test_tab_leads_through_everything_and_out_again(
    browser: Any, serve: Serve, view: str, width: int
) -> None:
    url = serve("several")
    with watched(browser, url, viewport={"width": width, "height": 700}) as page:
        opened(page, url, view)
        assert walk(page, "Tab") == []
        assert page.evaluate(MISSED) == []
        assert walk(page, "Shift+Tab") == []


def tab_to(page: Page, wanted: Locator, key: str = "Tab") -> None:
    for _ in range(250):
        if wanted.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead to {wanted}")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_all_seven_views_are_used_by_keyboard_alone(browser: Any, serve: Serve) -> None:
    url = serve("letters")
    with watched(browser, url, viewport={"width": 1000, "height": 700}) as page:
        # Who listens only when the key is pressed may be too late for the browser to hear of it.
        page.on("filechooser", lambda _: None)
        # The board: skip to it, enlarge a picture, another label, and back.
        opened(page, url, "board")
        press(page, "Tab", "Enter")
        expect(page.locator("#panel")).to_be_focused()
        tab_to(page, page.locator("#board-table td").first)
        press(page, "ArrowDown", "ArrowRight", "Enter")
        dialog = page.get_by_role("dialog", name="1 in style 2")
        expect(dialog).to_be_visible()
        tab_to(page, dialog.get_by_role("button", name="A", exact=True))
        press(page, "Enter")
        is_shown(page.get_by_role("img", name="A A in style 2 from letters-cgan-v1"))
        # It is encoded, and the point moved.
        tab_to(page, page.get_by_role("button", name="Encode it"))
        press(page, "Enter")
        is_shown(page.get_by_role("img", name="Reconstruction of your picture"))
        at_rest(page)
        tab_to(page, page.get_by_role("slider", name="Drag the point"))
        press(page, "ArrowRight", "Shift+ArrowUp")
        is_shown(page.get_by_role("img", name="What the moved point decodes to"))
        page.wait_for_url(re.compile(r"#draw\?.*z="))
        tab_to(page, page.locator("#traverse summary"))
        press(page, "Enter")
        is_shown(page.get_by_role("img", name="varied, a row each"))
        # Back to the tabs, on to Morph.
        tab_to(page, page.get_by_role("tab", name="Draw"), "Shift+Tab")
        press(page, "ArrowRight")
        is_shown(page.get_by_role("img", name="Picture 1 of 16 on the way"))
        end = page.get_by_role("group", name="End")
        tab_to(page, end.get_by_role("combobox", name="Label"))
        press(page, "Q")
        expect(end.locator("h3")).to_have_text("End: Q, style 4")
        at_rest(page)
        tab_to(page, page.get_by_role("button", name="Play"), "Shift+Tab")
        press(page, " ")
        expect(page.get_by_role("button", name="Pause")).to_be_focused()
        press(page, " ")
        tab_to(page, page.locator("#tab-morph"), "Shift+Tab")
        # Write.
        press(page, "ArrowRight")
        tab_to(page, page.get_by_label("Text"))
        press(page, "Control+a", "C", "A", "T")
        is_shown(page.get_by_role("img", name="CAT in style 4"))
        tab_to(page, page.get_by_role("button", name="Style 6"))
        press(page, "Enter")
        is_shown(page.get_by_role("img", name="CAT in style 6"))
        tab_to(page, page.locator("#tab-write"), "Shift+Tab")
        # Cost.
        press(page, "ArrowRight")
        tab_to(page, page.get_by_role("button", name="Ask for one picture"))
        with page.expect_response(re.compile("/generate")):
            press(page, "Enter")
        tab_to(page, page.locator("#tab-cost"), "Shift+Tab")
        # Models, and from a card to the board and back.
        press(page, "ArrowRight")
        card = page.get_by_role("article", name="tiny-vae-v1")
        tab_to(page, card.get_by_role("button", name="On the board"))
        press(page, "Enter")
        expect(page.locator("#board-lead")).to_contain_text("This model knows no labels")
        page.go_back()
        at_rest(page)
        # Verify.
        tab_to(page, page.locator("#tab-models"))
        press(page, "ArrowRight")
        tab_to(page, page.get_by_label("Drop a PNG or WebP here"))
        with page.expect_file_chooser():
            press(page, "Enter")


# For everybody


@pytest.mark.parametrize(
    "wish",
    [
        {"forced_colors": "active", "reduced_motion": "reduce"},
        {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},  # 1280 at 200 %
    ],
    ids=["forced colours", "200 percent"],
)
def test_axe_finds_nothing_and_nothing_overflows(
    browser: Any, serve: Serve, wish: dict[str, Any]
) -> None:
    url = serve("letters")
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text()
    with watched(browser, url, **wish) as page:
        for view, query in [*((view, "") for view in VIEWS), ("board", "label=Q&pick=3")]:
            opened(page, url, view, query)
            page.evaluate(axe)
            found = page.evaluate("axe.run({resultTypes: ['violations']})")
            told = [(one["id"], [n["html"] for n in one["nodes"]]) for one in found["violations"]]
            assert told == [], view
            assert len(found["passes"]) > 20  # it did look
            nothing_overflows(page)


def test_nothing_moves_for_who_wants_that(browser: Any, serve: Serve) -> None:
    """Nor while it is waited for an answer."""
    url = serve("letters")
    with watched(browser, url, reduced_motion="reduce") as page:
        page.add_init_script(slow(300))
        for view in VIEWS:
            page.goto("about:blank")
            page.goto(f"{url}/#{view}")
            expect(page.locator(f"#view-{view}")).to_be_visible()
            if view not in ("verify",):
                expect(page.locator("#progress")).to_be_visible()
            assert page.evaluate("document.getAnimations().length") == 0


def slow(milliseconds: int) -> str:
    """A script by which each answer of the service comes so much later."""
    return f"""{{
        const send = window.fetch;
        window.fetch = async (...request) => {{
            await new Promise((resolve) => setTimeout(resolve, {milliseconds}));
            return send(...request);
        }};
    }}"""


# When answers are late, or none, or strange

API = re.compile(r"/(generate|encode|decode|reconstruct|interpolate|traverse|verify|status)\b")
ASKING = [view for view in VIEWS if view != "verify"]  # that one asks when it is given a picture


def test_late_answers_are_waited_for_and_shown(browser: Any, serve: Serve) -> None:
    url = serve("several")
    with watched(browser, url) as page:
        page.add_init_script(slow(150))
        for view in ASKING:
            opened(page, url, view)
            expect(page.locator("#notice")).to_be_hidden()
            assert page.locator(f"#view-{view} img:visible").count() > 0 or view == "cost"


def broken_html(route: Route) -> None:
    body = "<!doctype html><h1>Internal</h1><img src=x onerror='window.pwned = 1'>"
    route.fulfill(status=500, content_type="text/html", body=body)


def shut(route: Route) -> None:
    route.abort("connectionreset")


BREAK: dict[str, tuple[Callable[[Route], None], str]] = {
    "cut": (shut, "No answer: The service does not answer. Is it still running?"),
    "html": (broken_html, "Status 500"),
}


@pytest.mark.parametrize("way", BREAK)
def test_a_failure_is_told_in_each_view_and_mended_by_asking_again(
    browser: Any, serve: Serve, way: str
) -> None:
    url = serve("several")
    answer, sentence = BREAK[way]
    with watched(browser, url, refusals=True) as page:
        for view in ASKING:
            opened(page, url, "verify")
            page.route(API, answer)
            page.get_by_role("tab", name=re.compile(view, re.IGNORECASE)).click()
            notice = page.locator("#notice")
            expect(notice).to_contain_text(sentence)
            at_rest(page)
            assert page.evaluate("window.pwned") is None
            assert "<" not in notice.inner_text()
            page.unroute(API)
            page.get_by_role("button", name="Try again").click()
            expect(notice).to_be_hidden()
            at_rest(page)
            shows = "#cost-last .stack" if view == "cost" else f"#view-{view} img:visible"
            expect(page.locator(shows).first).to_be_visible()


def test_offline_is_told_in_each_view(browser: Any, serve: Serve) -> None:
    url = serve("several")
    with watched(browser, url, refusals=True) as page:
        opened(page, url, "verify")
        page.context.set_offline(True)
        for view in ASKING:
            page.get_by_role("tab", name=re.compile(view, re.IGNORECASE)).click()
            expect(page.locator("#notice")).to_contain_text("The service does not answer")
            at_rest(page)
        page.get_by_role("tab", name="Verify").click()
        expect(page.locator("#notice")).to_be_hidden()  # of what is left behind
        page.set_input_files("#verify-file", file_of("own.png", png(28, 28)))
        expect(page.locator("#notice")).to_contain_text("The service does not answer")
        at_rest(page)
        page.context.set_offline(False)
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#verify-result")).to_contain_text("The picture has no recipe")


def test_an_overload_passes_in_each_view(browser: Any, serve: Serve) -> None:
    url = serve("several")
    refused: set[str] = set()

    def refuse_once(route: Route) -> None:
        request = f"{route.request.url} {route.request.post_data_buffer!r}"
        if request in refused or urlsplit(route.request.url).path == "/status":
            route.continue_()
            return
        refused.add(request)
        problem = {"title": "The service has more to do than it can in time", "status": 503}
        headers = {"Retry-After": "1", "Content-Type": "application/problem+json"}
        route.fulfill(status=503, headers=headers, body=json.dumps(problem))

    with watched(browser, url, refusals=True) as page:
        page.clock.install()
        page.goto(f"{url}/#verify")
        expect(page.locator("#verify-drop")).to_be_visible()
        page.route(API, refuse_once)
        for view in ASKING:
            page.get_by_role("tab", name=re.compile(view, re.IGNORECASE)).click()
            expect(page.locator("#notice")).to_contain_text("The service is overloaded")
            for _ in range(60):
                page.clock.run_for(500)
                if not page.locator("body[data-working]").count():
                    break
            at_rest(page)
            expect(page.locator("#notice")).to_be_hidden()
        assert len(refused) >= 10


# Links that nobody made

MARKUP = "<img src=x onerror='window.pwned = 1'>"
FORGED = quote(MARKUP)
HUGE = "9" * 400
LONG = "A" * 60_000
LAST = 2**53 - 1
CGAN, GAN = "tiny-cgan-v1", "tiny-gan-v1"
ENDLESS = ",".join(map(str, range(20_000)))


def each(name: str, *texts: object) -> list[str]:
    return [f"{name}={text}" for text in texts]


LINKS: dict[str, list[str]] = {
    "board": [
        *each("seeds", "NaN", "-1", "9-1", HUGE, f"0-{LAST}", LAST, LAST + 1, ENDLESS, LONG),
        *each("seeds", "1,1,1", f"{LAST - 2}-{LAST}", "1?model=x", "%00"),
        *each("truncation", "NaN", "-1", "2", "1e400", "0.123456", ""),
        *each("label=3&pick", "-1", HUGE, LAST, FORGED),
        *each("pick=1&label", "none", FORGED, LONG),
        *("pick=1", "label=3", f"seeds=1&seeds=2&model={CGAN}&model=x", "%E0%A4%A", "%"),
        *("=&=&==&&&", "__proto__=1&constructor=2", f"x={LONG}"),
        *each("model", "none", FORGED, f"{CGAN}@zzz", "@", LONG),
    ],
    "draw": [
        *each("z", "NaN,NaN,NaN", "1e400,0,0", "1e308,0,0", "99,-99,0", "1,2", ",,", "0,0,0&z=1"),
        *each("z", ",".join(["0"] * 500)),
        *each("strokes", "!!!", "A" * 20_000, "%00", "__8", "BQ", "AQID", FORGED, "%E0%A4%A"),
        *each("from", f"{CGAN},3,-1,1", f"{CGAN},3,{HUGE},1", f"{GAN},,1,1", ",,,"),
        *each("from", f"{CGAN},3,1,NaN", f"{CGAN},3,1,-5", f"{CGAN},3,1,1e400"),
        *each("from", f"{CGAN},99,1,1", f"{CGAN},{FORGED},1,1", f"{GAN},3,1,1"),
        *each("from", "none,3,1,1", FORGED, LONG, "pets-cgan-v1,cat,1,1"),
        *each("plane", "none", FORGED, "__proto__"),
    ],
    "morph": [
        *each("a", f"{CGAN},3,-1,1", f"{CGAN},3,{HUGE},1", f"{CGAN},3,1,NaN", ",,,"),
        *each("a", f"{CGAN},99,1,1", f"{CGAN},{FORGED},1,1", "none,1,1,1", FORGED, LONG),
        *each("b", "strokes:", "strokes:!!!", f"strokes:{LONG}", "strokes:AQID"),
        *each("steps", "0", "9999999", "NaN", "-1"),
        *each("method", "none", FORGED),
        *each("at", "-1", "999999999", HUGE, "NaN", "%E0%A4%A"),
        *(f"a={GAN},,1,1&b={GAN},,2,1", "a=tiny-vae-v1,,1,1&b=tiny-vae-v2,,1,1"),
    ],
    "write": [
        *each("text", FORGED, LONG, "", "%20", "%F0%9F%98%80", "%00%01", "%E0%A4%A", "1" * 17),
        *each("seed", "-1", HUGE, "NaN", LAST),
        *each("hands", "-1", HUGE, LAST),
        *each("truncation", "-1", "1e400", "NaN"),
        *each("model", "none", GAN, "pets-cgan-v1"),
    ],
    "cost": ["each=9999", f"x={FORGED}", "%E0%A4%A", f"x={LONG}"],
    "models": [*each("seed", "-1", "NaN", HUGE, LAST, LAST - 15, FORGED, LONG), "%"],
    "verify": [f"x={FORGED}", "file=/etc/passwd", "%E0%A4%A", f"x={LONG}"],
}


def nothing_came_of(page: Page) -> None:
    assert page.evaluate("window.pwned") is None
    assert page.locator("[onerror]").count() == 0
    nothing_overflows(page)


@pytest.mark.parametrize("view", VIEWS)
def test_forged_links_open_the_view_and_do_nothing_else(
    browser: Any, serve: Serve, view: str
) -> None:
    url = serve("several")
    with watched(browser, url) as page:
        for query in LINKS[view]:
            panel = opened(page, url, view, query)
            expect(page.locator(f"#tab-{view}")).to_have_attribute("aria-selected", "true")
            nothing_came_of(page)
            # There is something to see, or it is said why not.
            seen = panel.locator("img:visible, .empty:visible, #cost-last, input:visible").count()
            assert seen or page.locator("#notice").is_visible()


@pytest.mark.parametrize(
    "view", ["none", FORGED, "__proto__", "constructor", "toString", "?", "BOARD", LONG, "%E0%A4%A"]
)
def test_a_view_that_there_is_not_is_the_board(browser: Any, serve: Serve, view: str) -> None:
    url = serve("several")
    with watched(browser, url) as page:
        page.goto(f"{url}/#{view}")
        expect(page.locator("#board-table td img").first).to_be_visible()
        at_rest(page)
        nothing_came_of(page)


@pytest.mark.parametrize(
    ("link", "sentence"),
    [
        ("board?model=none", "The link was made with none; served are pets-cgan-v1, tiny-cgan-v1"),
        (f"board?model={FORGED}", f"The link was made with {MARKUP}; served are"),
        (f"board?model={CGAN}@zzz", f"another checkpoint of {CGAN} than the one served now"),
        ("write?model=none", "The link was made with none"),
        ("write?model=tiny-gan-v1", "tiny-gan-v1 draws no single characters; those that do: tiny-"),
        ("morph?a=none,1,1,1", "The link was made with none"),
        ("draw?from=none,1,1,1", "The link was made with none"),
    ],
)
def test_a_link_to_what_is_not_served_says_so_and_leads_on(
    browser: Any, serve: Serve, link: str, sentence: str
) -> None:
    url = serve("several")
    with watched(browser, url) as page:
        page.goto(f"{url}/#{link}")
        notice = page.locator("#notice")
        expect(notice).to_contain_text(sentence)
        at_rest(page)
        page.get_by_role("button", name="Show what is served now").click()
        at_rest(page)
        expect(notice).to_be_hidden()
        assert page.locator("[role=tabpanel] img:visible").count() > 0


# Files that are no pictures, or too much of one


def png(width: int, height: int) -> bytes:
    """A black picture of one bit a pixel: a hundred million pixels take 12 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return len(data).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")

    packed = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    lines = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", lines), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def file_of(name: str, data: bytes, media: str = "image/png") -> FilePayload:
    return FilePayload(name=name, mimeType=media, buffer=data)


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
def test_files_that_cannot_be_used_are_told_and_the_next_one_is_taken(
    browser: Any, serve: Serve, bad_files: list[Path], view: str
) -> None:
    url = serve("several")
    field = {"draw": "#pad-file", "morph": "#morph-b input[type=file]", "verify": "#verify-file"}
    with watched(browser, url, refusals=True) as page:
        opened(page, url, view)
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


@pytest.mark.parametrize(
    ("view", "query", "names"),
    [
        ("board", "seeds=NaN&truncation=2", "seeds, truncation"),
        ("board", "model=tiny-cgan-v1&pick=-1&label=3", "pick"),
        ("board", "model=tiny-cgan-v1&pick=1&label=3&pick_truncation=x", "pick_truncation"),
        ("draw", "z=1,2&plane=none", "z, plane"),
        ("draw", "strokes=!!!", "strokes"),
        ("draw", "plane=none", "plane"),
        ("morph", "steps=0&method=none&at=-1", "steps, method, at"),
        ("write", "seed=-1&hands=x&truncation=%20", "seed, hands, truncation"),
        ("models", "seed=NaN", "seed"),
    ],
)
def test_what_a_link_asks_for_in_vain_is_said(
    browser: Any, serve: Serve, view: str, query: str, names: str
) -> None:
    url = serve("several")
    with watched(browser, url) as page:
        opened(page, url, view, query)
        expect(page.locator("#notice")).to_contain_text(f"What the link says of {names} cannot")
