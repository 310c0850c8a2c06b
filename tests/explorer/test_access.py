"""For everybody: axe-core's rules, phones, colours of one's own, no motion."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.explorer.conftest import Serve
from tests.explorer.page import (
    VIEWS,
    axe_finds,
    follow,
    hold,
    nothing_overflows,
    pixels,
    settled,
    tile,
    unfold,
    watched,
)


def test_axe_finds_nothing_on_a_phone_and_nothing_overflows(page: Page, shipped: Any) -> None:
    """Dark on every other view."""
    page.set_viewport_size({"width": 360, "height": 740})
    for view in VIEWS:
        dark = view in ("draw", "write", "how", "models")
        page.emulate_media(color_scheme="dark" if dark else "light")
        follow(page, shipped.url, view)
        assert axe_finds(page) == [], view
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


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
    with watched(browser, url, **wish) as page:
        for view, query in [*((view, "") for view in VIEWS), ("look", "label=Q&pick=3")]:
            follow(page, url, view, query)
            assert axe_finds(page) == [], view
            nothing_overflows(page)


# What reaches over the right edge of the box that it stands in.
SPILT = """() => [...document.querySelectorAll(":is(.end, .try, .card, .lane, .how, .suspect) *")]
    .filter((one) => one.checkVisibility() && !one.matches(".visually-hidden, .choice"))
    .filter((one) => {
        const box = one.parentElement.closest(".end, .try, .card, .lane, .how, .suspect");
        return box && one.getBoundingClientRect().right > box.getBoundingClientRect().right + 1;
    })
    .map((one) => one.outerHTML)"""


def test_nothing_spills_from_its_box_at_any_width(page: Page, shipped: Any) -> None:
    """Among them an upright tablet, A4 paper, and 1280 pixels at 400 %."""
    for view in VIEWS:
        follow(page, shipped.url, view)
        for width in (320, 360, 600, 720, 768, 794, 820, 940, 1000, 1130, 1400):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(SPILT) == [], f"{view}, {width} pixels wide"
            nothing_overflows(page)


# Phones, and colours of one's own


@pytest.mark.parametrize("width", [320, 390])
def test_all_tabs_are_seen_on_a_phone(browser: Any, shipped: Any, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 740}, reduced_motion="reduce")
    page.goto(shipped.url)
    tile(page, 0)
    for tab in page.get_by_role("tab").all():
        expect(tab).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.fixture
def forced(browser: Any) -> Iterator[Page]:
    opened = browser.new_page(
        viewport={"width": 1000, "height": 900},
        forced_colors="active",
        color_scheme="dark",
        reduced_motion="reduce",
    )
    yield opened
    opened.close()


def colours(page: Page, selector: str, prop: str) -> list[str]:
    return list(
        page.locator(selector).evaluate_all(
            "(found, prop) => found.map(each => getComputedStyle(each)[prop])", prop
        )
    )


def test_forced_colours_keep_what_only_colour_shows(forced: Page, shipped: Any) -> None:
    page = forced
    page.goto(f"{shipped.url}/#speed")
    expect(page.locator("#speed-last .part")).to_have_count(4)
    (ground,) = colours(page, "body", "backgroundColor")
    parts = colours(page, "#speed-last .part", "backgroundColor")
    assert len(set(parts)) == 4
    assert parts[:3] == colours(page, "#speed-last .swatch", "backgroundColor")
    assert ground not in parts
    # One tab is underlined, one button pressed.
    lines = colours(page, "[role=tab]", "borderBottomColor")
    assert [line == ground for line in lines] == [view != "speed" for view in VIEWS]
    unfold(page, "#request-code-of")
    curl, python = (
        colours(page, f"#request-{name}", "backgroundColor") for name in ("curl", "python")
    )
    assert curl != python
    words = pixels(page.locator("#request-curl").screenshot())
    height, width = words.shape
    middle = words[height // 2 - 6 : height // 2 + 6, width // 2 - 12 : width // 2 + 12]
    assert np.ptp(middle) > 60  # they can be read
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#announce")).to_have_text("Request copied")
    assert np.ptp(pixels(page.locator("#announce").screenshot())[4:-4, 16:-16]) > 100
    # Numerals of both maps, the first view's too, are painted for a dark ground, whatever the
    # page's is.
    page.emulate_media(color_scheme="light", forced_colors="active")
    page.get_by_role("tab", name="Draw").click()
    assert colours(page, ".plane", "backgroundColor") == ["rgb(11, 12, 16)"] * 2
    strip = pixels(page.locator("#latents input").first.screenshot())[:, :12]
    assert np.ptp(strip) > 100  # a line, and the ground around it


# Without motion


@pytest.mark.parametrize("wish", ["reduce", "no-preference"])
def test_nothing_moves_by_itself_with_reduced_motion(browser: Any, shipped: Any, wish: Any) -> None:
    page = browser.new_page(reduced_motion=wish)
    page.clock.install()
    page.goto(f"{shipped.url}/#morph")
    expect(page.locator("#morph-frame")).to_be_visible()
    settled(page)
    let_go = hold(page, "/generate")
    page.locator("#morph-b").get_by_role("button", name="Another seed").click()
    expect(page.locator("#progress")).to_be_visible()
    moving = page.evaluate("document.getAnimations().length")
    assert (moving == 0) == (wish == "reduce")
    let_go()
    settled(page)
    # A morph plays when it is told to, and is at rest before and after.
    place = page.locator("#morph-scrub")
    assert place.input_value() == "0"
    page.clock.run_for(300)
    assert place.input_value() == "0"
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('#morph-scrub').value > 1")
    page.get_by_role("button", name="Pause").click()
    stopped = place.input_value()
    page.clock.run_for(300)
    assert place.input_value() == stopped
    page.close()


def test_nothing_is_animated_with_reduced_motion(browser: Any, serve: Serve) -> None:
    """Not even while a response is awaited."""
    url = serve("letters")
    with watched(browser, url, reduced_motion="reduce") as page:
        for view in VIEWS:
            follow(page, url, "verify")
            let_go = hold(page, "/")
            page.get_by_role("tab", name=re.compile(view, re.IGNORECASE)).click()
            expect(page.locator(f"#view-{view}")).to_be_visible()
            if view != "verify":  # which requests nothing
                expect(page.locator("#progress")).to_be_visible()
            assert page.evaluate("document.getAnimations().length") == 0
            let_go()
