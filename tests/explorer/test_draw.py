"""Drawing: the pad, what it encodes, what comes late, one pointer at a time."""

import base64
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage
from playwright.sync_api import Page, expect

from tests.explorer.page import (
    HOLD,
    PNG,
    draw_a_seven,
    drop,
    file_of,
    held,
    hold,
    liveliest,
    middle_of,
    open_draw,
    pixels,
    red,
    settled,
    shown,
    tile,
    watched,
    written,
)
from tests.shipped import SIGNS, SIGNS_VAE


def draw_again(page: Page) -> None:
    """A seven, after a button has moved the page."""
    page.evaluate("scrollTo(0, 0)")
    draw_a_seven(page)


def blackened(page: Page) -> bool:
    """Whether nothing is on the pad."""
    drawn = page.evaluate("document.getElementById('pad').toDataURL()").split(",")[1]
    return not pixels(base64.b64decode(drawn)).any()


def test_a_drawing_is_encoded_and_decoded_and_the_link_draws_it_again(
    page: Page, shipped: Any
) -> None:
    open_draw(page, shipped)
    draw_a_seven(page)
    written(page)
    assert "strokes=" in page.url
    expect(page.locator("#decoded-caption")).to_have_text("Drawn again from its numbers")
    settled(page)
    drawn = shown(page.locator("#decoded"))
    assert drawn.shape == (28, 28)
    assert drawn.max() > 200
    sent = page.evaluate("document.getElementById('pad').toDataURL()").split(",")[1]
    kept = httpx.post(f"{shipped.url}/reconstruct", json={"images": [sent]}).content
    # The page sends four decimals of each latent: a grey level here and there.
    assert np.abs(drawn.astype(int) - pixels(kept)).max() <= 2
    said = page.locator("#draw-done")
    expect(said).to_contain_text("Your image of 280 × 280 pixels: centred.")
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.get_by_role("img", name="Reconstruction of your image")).to_be_visible()
    settled(page)
    assert (shown(page.locator("#decoded")) == drawn).all()


def test_a_dropped_picture_is_encoded(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    data = httpx.get(f"{shipped.url}/generate?label=5&seed=9").content
    with page.expect_response(lambda answer: "/encode" in answer.url) as encoding:
        drop(page, "#pad", "five.png", data)
    expected = httpx.post(f"{shipped.url}/encode", content=data, headers={"content-type": PNG})
    assert encoding.value.json() == expected.json()
    said = page.locator("#draw-done")
    expect(said).to_contain_text("Your image of 28 × 28 pixels: unchanged.")


def test_a_photo_from_the_camera_is_encoded(browser: Any, shipped: Any) -> None:
    with watched(browser, shipped.url, has_touch=True, is_mobile=True) as page:
        open_draw(page, shipped)
        expect(page.get_by_text("Take a photo")).to_be_visible()
        assert page.locator("#pad-camera").get_attribute("capture") == "environment"
        photo = BytesIO()
        digit = httpx.get(f"{shipped.url}/generate?label=5&seed=9&scale=8").content
        PillowImage.open(BytesIO(digit)).save(photo, "JPEG")
        file = file_of("photo.jpg", photo.getvalue(), "image/jpeg")
        page.set_input_files("#pad-camera", file)
        said = page.locator("#draw-done")
        expect(said).to_contain_text("Your image of 224 × 224 pixels")
        expect(page.locator("#pad-hint")).to_be_hidden()


def test_a_photo_of_a_hand_is_encoded_by_the_model_of_hands(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#draw?model={SIGNS_VAE}")
    settled(page)
    expect(page.locator("#pad-hint")).to_have_text("drawn by a network; a photo here")
    query = f"model={SIGNS}&label=3&seed=4"
    hand = httpx.get(f"{shipped.url}/generate?{query}").content
    page.set_input_files("#pad-file", file_of("hand.png", hand))
    expect(page.locator("#draw-done")).to_contain_text("Your image of 64 × 64 pixels: unchanged.")
    expect(page.locator("#draw-verdict")).to_have_text("This looks most like a 3.")
    kept = httpx.post(
        f"{shipped.url}/reconstruct?model={SIGNS_VAE}", content=hand, headers={"content-type": PNG}
    )
    settled(page)
    far = np.abs(shown(page.locator("#decoded")).astype(int) - red(kept.content))
    assert far.max() <= 2  # as above


# What comes late


@pytest.mark.parametrize("act", ["stroke", "clear"])
def test_a_digit_that_comes_late_does_not_replace_what_was_done(
    page: Page, shipped: Any, act: str
) -> None:
    open_draw(page, shipped)
    let_go = hold(page, "/generate")
    taking = page.get_by_role("group", name="Use a generated sample")
    taking.get_by_role("button", name="5").click()
    held(page)
    if act == "stroke":
        draw_again(page)
    else:
        page.get_by_role("button", name="Clear").click()
        expect(page.get_by_role("button", name="Morph it into another")).to_be_disabled()
    let_go()
    written(page)
    assert "from=" not in page.url
    assert ("strokes=" in page.url) == (act == "stroke")
    assert blackened(page) == (act == "clear")


def test_an_encoding_that_comes_late_leaves_the_point_where_it_was_put(
    page: Page, shipped: Any
) -> None:
    open_draw(page, shipped)
    let_go = hold(page, "/encode")
    draw_a_seven(page)
    held(page)
    slider = page.locator(f"#latent-{liveliest(shipped)[0]}")
    slider.fill("2.5")
    let_go()
    settled(page)
    expect(page.locator("#decoded-caption")).to_contain_text("away from your picture")
    assert slider.input_value() == "2.5"
    # The next picture moves it again.
    page.get_by_role("button", name="Undo").click()
    draw_again(page)
    expect(page.locator("#decoded-caption")).to_have_text("Drawn again from its numbers")


def test_a_stroke_after_a_link_with_a_point_goes_to_its_own_mean(page: Page, shipped: Any) -> None:
    """The link's point is kept for the link's picture alone."""
    open_draw(page, shipped)
    draw_a_seven(page)
    settled(page)
    page.locator(f"#latent-{liveliest(shipped)[0]}").fill("2.5")
    page.wait_for_url(re.compile(r"strokes=.*z="))
    address = page.url
    page.goto("about:blank")
    page.clock.install()
    page.add_init_script(f"({HOLD})('/encode')")
    page.goto(address)
    held(page)
    page.clock.run_for(200)  # overdue: the next request takes its place
    page.mouse.click(*middle_of(page.locator("#pad"), 0.2, 0.8))  # a dot
    page.evaluate("letGo()")
    settled(page)
    expect(page.locator("#decoded-caption")).to_have_text("Drawn again from its numbers")


def test_nothing_is_offered_of_a_mean_that_is_not_known(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    tile(page, 0)
    let_go = hold(page, "/encode")
    page.get_by_role("tab", name="Draw").click()
    held(page)
    for name in ("Back to my picture", "A sample near it"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    let_go()
    for name in ("Back to my picture", "A sample near it"):
        expect(page.get_by_role("button", name=name)).to_be_enabled()


def test_a_picture_that_the_service_refuses_leaves_no_mean_of_another(
    other_page: Page, shipped: Any
) -> None:
    page = other_page
    open_draw(page, shipped)
    large = BytesIO()
    PillowImage.new("1", (12_000, 10_000)).save(large, "PNG")
    page.set_input_files(
        "#pad-file", {"name": "large.png", "mimeType": PNG, "buffer": large.getvalue()}
    )
    expect(page.locator("#notice")).to_contain_text("120 megapixels")
    expect(page.locator("#draw-done")).to_have_text("")
    expect(page.get_by_role("button", name="Back to my picture")).to_be_disabled()
    expect(page.locator("#latents .posterior-text").first).to_have_text("")
    # The same again would be refused again; what is done next takes the notice away.
    expect(page.locator("#notice-action")).to_be_hidden()
    draw_again(page)
    expect(page.locator("#notice")).to_be_hidden()


# One pointer at a time


def test_a_finger_draws(browser: Any, shipped: Any) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto(f"{shipped.url}/#draw")
    expect(page.get_by_role("img", name="Reconstruction of your image")).to_be_visible()
    settled(page)
    box = page.locator("#pad").bounding_box()
    assert box
    touch = context.new_cdp_session(page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        at = [
            {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in points
        ]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    send("touchStart", (0.5, 0.15))
    for step in range(1, 15):
        send("touchMove", (0.5, 0.15 + 0.05 * step))
    send("touchEnd")
    page.wait_for_url(re.compile(r"strokes="))
    settled(page)
    assert page.evaluate("scrollY") == 0  # the page did not move under the finger
    one = shown(page.locator("#decoded"))
    assert one[8:20, 12:16].max() > 150
    assert one[:, :6].max() < 60
    context.close()


def strokes_of(page: Page) -> list[list[tuple[int, int]]]:
    """The drawing in the page's address: strokes of places from 0 to 255."""
    written(page)
    (text,) = re.findall(r"strokes=([\w-]+)", page.url)
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    strokes = []
    while data:
        count, data = data[0], data[1:]
        strokes.append([(data[2 * i], data[2 * i + 1]) for i in range(count)])
        data = data[2 * count :]
    return strokes


@pytest.fixture
def touched(browser: Any, shipped: Any) -> Iterator[tuple[Page, Callable[..., None]]]:
    """Draw on a phone, and ``send("touchMove", (x, y), (x, y))`` with places on the screen."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    open_draw(page, shipped)
    session = context.new_cdp_session(page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
        page.evaluate("new Promise(requestAnimationFrame)")  # a move is told with the next frame

    yield page, send
    context.close()


def test_a_second_finger_draws_nothing(touched: tuple[Page, Callable[..., None]]) -> None:
    page, send = touched
    pad = page.locator("#pad")
    send("touchStart", middle_of(pad, 0.2, 0.2))
    send("touchMove", middle_of(pad, 0.2, 0.4))
    send("touchStart", middle_of(pad, 0.2, 0.4), middle_of(pad, 0.9, 0.9))
    for step in range(1, 5):
        send(
            "touchMove",
            middle_of(pad, 0.2, 0.4 + 0.1 * step),
            middle_of(pad, 0.9, 0.9 - 0.1 * step),
        )
    send("touchMove", middle_of(pad, 0.3, 0.8), middle_of(pad, 0.9, 0.5))
    send("touchEnd")
    settled(page)
    (stroke,) = strokes_of(page)
    assert max(x for x, _ in stroke) < 0.4 * 255
    assert stroke[0] == pytest.approx((51, 51), abs=2)
    assert stroke[-1] == pytest.approx((76, 204), abs=2)


def test_a_second_finger_does_not_drag_the_point(
    touched: tuple[Page, Callable[..., None]],
) -> None:
    page, send = touched
    frame, handle = page.locator("#plane"), page.locator("#plane-handle")
    frame.scroll_into_view_if_needed()
    send("touchStart", middle_of(handle))
    send("touchMove", middle_of(frame, 0.3, 0.3))
    place = handle.get_attribute("aria-valuetext")
    send("touchStart", middle_of(frame, 0.3, 0.3), middle_of(frame, 0.9, 0.9))
    send("touchMove", middle_of(frame, 0.3, 0.3), middle_of(frame, 0.8, 0.9))
    assert handle.get_attribute("aria-valuetext") == place
    send("touchMove", middle_of(frame, 0.5, 0.3), middle_of(frame, 0.8, 0.9))
    moved = handle.get_attribute("aria-valuetext")
    assert moved != place
    # What the system takes away stays where it was, and the next press is one of its own.
    send("touchCancel")
    assert handle.get_attribute("aria-valuetext") == moved
    send("touchStart", middle_of(handle))
    send("touchMove", middle_of(frame, 0.3, 0.3))
    send("touchEnd")
    assert handle.get_attribute("aria-valuetext") == place


def test_a_pad_that_is_cleared_under_the_pointer_stays_clear(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    pad = page.locator("#pad")
    page.mouse.move(*middle_of(pad, 0.3, 0.3))
    page.mouse.down()
    page.mouse.move(*middle_of(pad, 0.5, 0.5))
    page.locator("#pad-clear").dispatch_event("click")
    page.mouse.move(*middle_of(pad, 0.7, 0.3), steps=4)
    page.mouse.up()
    written(page)
    assert blackened(page)
    assert "strokes=" not in page.url
    # Nothing is said of it, until the point is moved.
    expect(page.locator("#decoded")).to_be_hidden()
    expect(page.locator("#draw-verdict")).to_have_text("")
    page.locator("#plane-handle").press("ArrowRight")
    expect(page.locator("#decoded")).to_be_visible()
    expect(page.locator("#draw-verdict")).to_contain_text("The point lies")
