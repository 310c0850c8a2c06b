"""The map of the latent space: the point that is dragged, the digits around it."""

import json
import re
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.explorer.page import (
    asked,
    liveliest,
    middle_of,
    open_draw,
    pixels,
    settled,
    shown,
    written,
)
from tests.shipped import CGAN


def test_dragging_the_point_leaves_no_queue_of_stale_requests(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    requests = asked(page, "/decode")
    page.locator("#plane").scroll_into_view_if_needed()
    box = page.locator("#plane").bounding_box()
    handle = page.locator("#plane-handle").bounding_box()
    assert box
    assert handle
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    for move in range(1, 21):
        page.mouse.move(box["x"] + box["width"] * (0.5 + 0.02 * move), box["y"] + 60 + 5 * move)
    page.mouse.up()
    expect(page.get_by_role("img", name="Decoded point")).to_be_visible()
    written(page)
    # Not those for the sliders' ends, sent where the point rests: on a slow machine on its way too.
    places = [json.loads(request.post_data or "")["z"] for request in requests]
    places = [z for z in places if len(z) == 1]
    assert 1 <= len(places) <= 21
    # The picture is that of the last place.
    last = places[-1]
    expected = httpx.post(f"{shipped.url}/decode", json={"z": last}).content
    assert (shown(page.locator("#decoded")) == pixels(expected)).all()
    told = [float(text) for text in re.findall(r"z=([^&]*)", page.url)[0].split(",")]
    assert np.abs(np.array(told) - np.array(last[0])).max() < 0.006


def test_on_a_slow_network_one_request_is_open_and_overdue_ones_are_cancelled(
    page: Page, shipped: Any
) -> None:
    page.clock.install()
    open_draw(page, shipped)
    # Each answer takes half a second: in that time 20 moves pass.
    page.evaluate(
        """() => {
            const send = window.fetch;
            window.counts = { sent: 0, open: 0, most: 0, cancelled: 0 };
            window.fetch = async (address, options) => {
                counts.sent += 1;
                counts.most = Math.max(counts.most, ++counts.open);
                try {
                    await new Promise((resolve, reject) => {
                        const timer = setTimeout(resolve, 500);
                        options.signal.addEventListener("abort", () => {
                            clearTimeout(timer);
                            counts.cancelled += 1;
                            reject(options.signal.reason);
                        });
                    });
                    return await send(address, options);
                } finally {
                    counts.open -= 1;
                }
            };
        }"""
    )
    page.locator("#plane-handle").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
        page.clock.run_for(30)
    settled(page)
    counts = page.evaluate("counts")
    assert counts["most"] == 1
    assert counts["cancelled"] >= 1
    assert counts["sent"] - counts["cancelled"] <= 2
    expect(page.get_by_role("img", name="Decoded point")).to_be_visible()


def test_the_map_shows_an_image_and_a_click_loads_it(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    expect(page.locator("#plane-axes")).to_contain_text(
        "latents {} and {}".format(*liveliest(shipped))
    )
    page.locator("#plane").scroll_into_view_if_needed()
    box = page.locator("#plane").bounding_box()
    assert box
    # Walk over the map until a digit is hit, as one does who looks for one.
    tip = page.locator("#plane-tip")
    for step in range(200):
        x, y = 20 + 37 * step % (box["width"] - 40), 30 + 17 * step % (box["height"] - 60)
        page.mouse.move(box["x"] + x, box["y"] + y)
        if tip.is_visible():
            break
    label, seed = tip.inner_text().split(", ")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url(re.compile(rf"from={CGAN}@\w+,{label},{seed},1"))
    expect(page.get_by_role("img", name="Reconstruction of your image")).to_be_visible()


def test_a_map_of_points_that_do_not_differ_has_axes(page: Page, shipped: Any) -> None:
    """As of an encoder that says nothing, or whose labels' means lie on one line."""
    page.goto(f"{shipped.url}/#verify")
    same = [[1.0, 2.0, 3.0]] * 4
    line = [[1.0 * i, 2.0 * i, -1.0 * i] for i in range(4)]
    for points in (same, line):
        axes = np.array(
            page.evaluate(
                """async points => (await import("/static/algebra.js")).principal(points)""", points
            )
        )
        assert axes @ axes.T == pytest.approx(np.eye(2), abs=1e-9)
    assert abs(axes[0] @ np.array([1, 2, -1])) == pytest.approx(6**0.5)
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(200, 5)) * [0.5, 3, 1, 2, 0.1]
    axes = np.array(
        page.evaluate(
            """async points => (await import("/static/algebra.js")).principal(points)""",
            cloud.tolist(),
        )
    )
    _, _, expected = np.linalg.svd(cloud - cloud.mean(0))
    assert np.abs(np.sum(axes * expected[:2], axis=1)) == pytest.approx(np.ones(2), abs=1e-6)


# The map by keyboard


def test_an_image_of_the_map_is_reached_and_loaded_by_keyboard(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    digits = page.get_by_role("listbox", name="Images on the map")
    expect(digits.get_by_role("option")).to_have_count(120)
    page.locator("#plane-handle").focus()
    page.keyboard.press("Tab")
    focused = digits.locator(":focus")
    expect(focused).to_have_attribute("aria-label", "0, seed 1000")
    tip = page.locator("#plane-tip")
    expect(tip).to_have_text("0, 1000")
    page.keyboard.press("End")
    expect(focused).to_have_attribute("aria-label", "9, seed 1011")
    page.keyboard.press("PageUp")
    expect(focused).to_have_attribute("aria-label", "9, seed 1010")
    page.keyboard.press("7")
    expect(focused).to_have_attribute("aria-label", "7, seed 1000")
    page.keyboard.press("7")
    expect(focused).to_have_attribute("aria-label", "7, seed 1001")

    def place() -> Any:
        return np.array(middle_of(focused))

    for key, way in (
        ("ArrowRight", (1, 0)),
        ("ArrowLeft", (-1, 0)),
        ("ArrowDown", (0, 1)),
        ("ArrowUp", (0, -1)),
    ):
        before = place()
        page.keyboard.press(key)
        step = place() - before
        assert step @ way > 0
        assert abs(step @ way[::-1]) <= abs(step @ way) + 1
    name = focused.get_attribute("aria-label")
    assert name
    label, seed = name.split(", seed ")
    expect(tip).to_have_text(f"{label}, {seed}")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(rf"from={CGAN}@\w+,{label},{seed},1"))
    expect(focused).to_have_attribute("aria-label", name)  # one goes on from there
    settled(page)
    loaded = digits.get_by_role("option", selected=True)
    expect(loaded).to_have_attribute("aria-label", name)
    # Tab goes on; back again, the list is where it was left.
    page.keyboard.press("Tab")
    expect(tip).to_be_hidden()
    page.keyboard.press("Shift+Tab")
    expect(focused).to_have_attribute("aria-label", name)
