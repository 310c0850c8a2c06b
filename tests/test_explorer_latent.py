"""The explorer's latent views, Draw and Morph: what comes late, unusual models, no mouse."""

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage
from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.explorer import PNG, asked, cell, draw_a_seven, open_draw, pixels, settled, shown
from tests.shipped import CGAN, GAN

Serve = Callable[..., Any]


# Requests to a path wait from now on, as on a slow network, until letGo() is called.
HOLD = """path => {
    const send = window.fetch;
    let release;
    const gate = new Promise((resolve) => (release = resolve));
    window.waiting = 0;
    window.fetch = async (address, options) => {
        if (address.startsWith(path)) {
            window.waiting += 1;
            await new Promise((resolve, reject) => {
                gate.then(resolve);
                options.signal?.addEventListener("abort", () => reject(options.signal.reason));
            });
        }
        return send(address, options);
    };
    window.letGo = () => {
        window.fetch = send;
        release();
    };
}"""


def hold(page: Page, path: str) -> Callable[[], None]:
    """Keep the page's requests to a path back from now on; call what comes back to let them go."""
    page.evaluate(HOLD, path)
    return lambda: page.evaluate("letGo()")


def held(page: Page) -> None:
    """Wait until a request is kept back."""
    page.wait_for_function("() => window.waiting > 0")


def written(page: Page) -> None:
    """Wait until the address tells of what is shown: it is written five times a second at most."""
    settled(page)
    page.wait_for_timeout(300)


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


def draw_again(page: Page) -> None:
    """A seven, after a button has moved the page."""
    page.evaluate("scrollTo(0, 0)")
    draw_a_seven(page)


def blackened(page: Page) -> bool:
    """Whether nothing is on the pad."""
    drawn = page.evaluate("document.getElementById('pad').toDataURL()").split(",")[1]
    return not pixels(base64.b64decode(drawn)).any()


def middle_of(element: Locator, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
    box = element.bounding_box()
    assert box
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


@pytest.fixture
def serve(start_server: Any, tiny_store: Path, odd_store: Path, tmp_path: Path) -> Serve:
    """``with serve("one-vae-v1", "tiny-cgan-v1") as server``: with these networks and no others."""

    @contextmanager
    def start(*names: str, options: tuple[str, ...] = ()) -> Iterator[Any]:
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        for name in names:
            found = [*tiny_store.glob(f"{name}.*"), *odd_store.glob(f"{name}.*")]
            assert found, name
            for path in found:
                shutil.copy(path, folder)
        with start_server("--models-dir", str(folder), *options) as server:
            yield server

    return start


# Mean and spread


def liveliest(shipped: Any) -> int:
    """The latent of most KL of the model that encodes."""
    found = httpx.get(f"{shipped.url}/models").json()
    card = next(card for card in found["models"] if card["name"] == found["default_encoder"])
    kl = card["metrics"]["kl_per_dimension_nats"]
    return int(np.argmax(kl))


def row_of(page: Page, index: int) -> Locator:
    return page.locator(".latent", has=page.locator(f"#latent-{index}"))


def test_mean_and_spread_stand_beside_each_slider_in_figures(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)  # with a first 3
    index = liveliest(shipped)
    digit = httpx.get(f"{shipped.url}/generate?label=3&seed=1").content
    found = httpx.post(f"{shipped.url}/encode", content=digit, headers={"content-type": PNG})
    (item,) = found.json()["items"]
    mean, spread = item["mu"][index], np.exp(item["logvar"][index] / 2)
    row, slider = row_of(page, index), page.locator(f"#latent-{index}")
    expect(row.locator(".told")).to_have_text(f"{mean:.2f} ± {spread:.2f}")
    said = f"{mean:.2f}; mean {mean:.2f}, spread {spread:.2f}"
    expect(slider).to_have_attribute("aria-valuetext", said)
    # Moved away, the slider says where it is and where the encoder put it.
    slider.fill("3")
    said = f"3.00; mean {mean:.2f}, spread {spread:.2f}"
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
    expect(row.locator(".told")).to_have_text("")
    expect(slider).to_have_attribute("aria-valuetext", "0.00")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_spread_is_seen_in_forced_colours(page: Page, shipped: Any, scheme: Any) -> None:
    page.emulate_media(forced_colors="active", color_scheme=scheme)
    open_draw(page, shipped)
    row = row_of(page, liveliest(shipped))
    strip = pixels(row.locator(".posterior").screenshot())
    ground = np.median(strip)
    seen = (np.abs(strip.astype(int) - ground) > 60).any(axis=0)
    assert 2 <= seen.sum() <= 20  # the bar, with ground to both sides
    track = pixels(row.locator(".track").screenshot())
    assert (np.abs(track.astype(int) - ground) > 60).any(axis=0).mean() > 0.8


def test_sixteen_sliders_are_shown_and_the_rest_is_folded(other_page: Page, serve: Serve) -> None:
    page = other_page
    with serve("many-vae-v1", "tiny-cgan-v1") as server:
        page.goto(f"{server.url}/#draw")
        settled_draw(page)
        inputs = page.locator("#latents input")
        expect(inputs).to_have_count(24)
        visible = [one.is_visible() for one in inputs.all()]
        assert visible == [True] * 16 + [False] * 8
        page.get_by_text("8 more, 6 of them dead: less than 0.01 nats").click()
        assert all(one.is_visible() for one in inputs.all())
        expect(page.locator("#latents details .dead")).to_have_count(6)
        expect(page.locator("#latents .dead")).to_have_count(6)


def test_a_phone_shows_the_latents_on_two_screens(page: Page, shipped: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    open_draw(page, shipped)
    box = page.locator("#latents").bounding_box()
    assert box
    assert box["height"] < 2 * 740
    assert page.locator("#latents input").count() == 64


def settled_draw(page: Page) -> None:
    """Draw with a picture encoded and decoded, and the whole map there."""
    expect(page.locator("#decoded")).to_be_visible()
    expect(page.locator("#latent-mean")).to_be_enabled()
    settled(page)


# What comes late


@pytest.mark.parametrize("act", ["stroke", "clear"])
def test_a_digit_that_comes_late_does_not_replace_what_was_done(
    page: Page, shipped: Any, act: str
) -> None:
    open_draw(page, shipped)
    let_go = hold(page, "/generate")
    taking = page.get_by_role("group", name="Take a generated picture")
    taking.get_by_role("button", name="5").click()
    held(page)
    if act == "stroke":
        draw_again(page)
    else:
        page.get_by_role("button", name="Clear").click()
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
    slider = page.locator(f"#latent-{liveliest(shipped)}")
    slider.fill("2.5")
    let_go()
    settled(page)
    expect(page.locator("#decoded-caption")).to_contain_text("away from the mean")
    assert slider.input_value() == "2.5"
    # The next picture moves it again.
    page.get_by_role("button", name="Undo").click()
    draw_again(page)
    expect(page.locator("#decoded-caption")).to_have_text("Reconstruction: the mean, decoded")


def test_a_stroke_after_a_link_with_a_point_goes_to_its_own_mean(page: Page, shipped: Any) -> None:
    """The link's point is kept for the link's picture alone."""
    open_draw(page, shipped)
    draw_a_seven(page)
    settled(page)
    page.locator(f"#latent-{liveliest(shipped)}").fill("2.5")
    page.wait_for_url(re.compile(r"strokes=.*z="))
    address = page.url
    page.goto("about:blank")
    page.add_init_script(f"({HOLD})('/encode')")
    page.goto(address)
    held(page)
    page.wait_for_timeout(200)  # overdue: the next request takes its place
    page.mouse.click(*middle_of(page.locator("#pad"), 0.2, 0.8))  # a dot
    page.evaluate("letGo()")
    settled(page)
    expect(page.locator("#decoded-caption")).to_have_text("Reconstruction: the mean, decoded")


def test_nothing_is_offered_of_a_mean_that_is_not_known(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    cell(page, 0, 0)
    let_go = hold(page, "/encode")
    page.get_by_role("tab", name="Draw").click()
    held(page)
    for name in ("Back to the mean", "Draw from the spread"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    let_go()
    for name in ("Back to the mean", "Draw from the spread"):
        expect(page.get_by_role("button", name=name)).to_be_enabled()


def test_the_map_is_filled_while_a_slider_of_an_unmeasured_model_is_used(
    other_page: Page, serve: Serve
) -> None:
    """What each latent carries is reckoned when the digits are there, once; the focus stays."""
    page = other_page
    with serve("tiny-vae-v1", "tiny-cgan-v1") as server:
        page.goto(f"{server.url}/#board")
        cell(page, 0, 0)
        let_go = hold(page, "/generate")
        page.get_by_role("tab", name="Draw").click()
        page.locator("#latent-1").focus()
        let_go()
        expect(page.locator("#plane-digits [role=option]")).to_have_count(300)
        settled_draw(page)
        expect(page.locator("#latents .nats").first).to_contain_text("nats")
        expect(page.locator("#latent-1")).to_be_focused()


def test_a_picture_that_the_service_refuses_leaves_no_mean_of_another(
    other_page: Page, shipped: Any
) -> None:
    page = other_page
    open_draw(page, shipped)
    large = BytesIO()
    PillowImage.new("1", (5000, 4000)).save(large, "PNG")
    page.set_input_files(
        "#pad-file", {"name": "large.png", "mimeType": PNG, "buffer": large.getvalue()}
    )
    expect(page.locator("#notice")).to_contain_text("20000000 pixels")
    expect(page.locator("#draw-beside-figure")).to_be_hidden()
    expect(page.get_by_role("button", name="Back to the mean")).to_be_disabled()
    expect(page.locator("#latents .told").first).to_have_text("")
    # The same again would be refused again; what is done next takes the notice away.
    expect(page.locator("#notice-action")).to_be_hidden()
    draw_again(page)
    expect(page.locator("#notice")).to_be_hidden()


# Links and files that cannot be followed


@pytest.mark.parametrize(
    ("view", "end", "said"),
    [
        ("morph", "a={cgan}@000000000000,3,2,1", "another checkpoint of {cgan}"),
        ("morph", "b=gone-v1@000000000000,3,2,1", "made with gone-v1"),
        ("morph", "a={cgan},x,2,1", "{cgan} for another label; it knows 0, 1"),
        ("morph", "b={gan},3,2,1", "{gan} for another label; it knows no labels"),
        ("morph", "a=strokes:!", "a drawing that cannot be read"),
        ("draw", "from={cgan}@000000000000,3,1,1", "another checkpoint of {cgan}"),
    ],
)
def test_a_link_that_cannot_be_followed_is_told_and_left_behind(
    page: Page, shipped: Any, view: str, end: str, said: str
) -> None:
    names = {"cgan": CGAN, "gan": GAN}
    page.goto(f"{shipped.url}/#{view}?{end.format(**names)}")
    notice = page.locator("#notice")
    expect(notice).to_contain_text(said.format(**names))
    page.get_by_role("button", name="Show what is served now").click()
    image = page.locator("#morph-frame" if view == "morph" else "#decoded")
    expect(image).to_be_visible()
    settled(page)
    expect(notice).to_be_hidden()
    assert end.split("=")[1][:12] not in page.url


def test_the_link_of_a_label_with_a_comma_is_read(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#verify")
    expect(page.locator("#verify-drop")).to_be_visible()
    told = page.evaluate(
        """async () => {
            const served = await import("/static/models.js");
            const [model] = served.conditional();
            model.labels.push("a, b");
            const name = served.nameOf({ model, label: "a, b", seed: 7, truncation: 0.5 });
            const { label, seed, truncation } = served.partsOfName(name);
            return { label, seed, truncation };
        }"""
    )
    assert told == {"label": "a, b", "seed": 7, "truncation": 0.5}


def test_points_in_links_are_looked_at(page: Page, shipped: Any) -> None:
    sent = asked(page, "/decode")
    page.goto(f"{shipped.url}/#draw?z={','.join(['1e9'] * 64)}")
    expect(page.locator("#decoded-caption")).to_have_text("Reconstruction: the mean, decoded")
    settled(page)
    expect(page.locator("#notice")).to_contain_text("What the link says of z cannot be followed")
    assert (
        max(abs(value) for one in sent for value in json.loads(one.post_data or "")["z"][0]) < 100
    )


FILES = [
    ("notes.txt", "text/plain", b"not a picture", "“notes.txt” is of the kind text/plain"),
    ("broken.png", PNG, b"\x89PNG\r\n\x1a\nnot", "“broken.png” cannot be read"),
    ("drawing.svg", "image/svg+xml", b"<svg/>", "“drawing.svg” is of the kind image/svg"),
]


@pytest.mark.parametrize(("name", "kind", "data", "said"), FILES)
def test_a_file_that_is_no_picture_is_told_by_name_with_what_is(
    page: Page, shipped: Any, name: str, kind: str, data: bytes, said: str
) -> None:
    file: FilePayload = {"name": name, "mimeType": kind, "buffer": data}
    notice = page.locator("#notice")
    open_draw(page, shipped)
    before = shown(page.locator("#decoded"))
    page.set_input_files("#pad-file", file)
    expect(notice).to_contain_text(said)
    expect(notice).to_contain_text("Accepted are PNG, JPEG and WebP pictures.")
    settled(page)
    assert (shown(page.locator("#decoded")) == before).all()
    page.get_by_role("tab", name="Morph").click()
    settled(page)
    page.locator("#morph-b input[type=file]").set_input_files(file)
    expect(notice).to_contain_text(said)
    settled(page)
    expect(page.locator("#morph-b h3")).to_have_text("End: 8, style 4")
    expect(page.locator("#morph-frame")).to_be_visible()


# One pointer at a time


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


# Unusual models


def test_digits_come_from_a_model_that_the_encoder_knows(other_page: Page, serve: Serve) -> None:
    page = other_page
    with serve("a-cgan-v1", "tiny-cgan-v1", "tiny-vae-v1") as server:
        page.goto(f"{server.url}/#draw")
        settled_draw(page)
        expect(page.locator("#draw-take button")).to_have_count(10)
        page.wait_for_url(re.compile(r"from=tiny-cgan-v1@\w+,3,1,1"))
        page.goto(f"{server.url}/#morph")
        expect(page.locator("#morph-how")).to_contain_text("of tiny-vae-v1")
        page.wait_for_url(re.compile(r"a=tiny-cgan-v1"))


def test_without_such_a_model_the_encoder_gives_the_digits(other_page: Page, serve: Serve) -> None:
    page = other_page
    with serve("a-cgan-v1", "tiny-vae-v1") as server:
        page.goto(f"{server.url}/#draw")
        settled_draw(page)
        page.wait_for_url(re.compile(r"from=tiny-vae-v1@\w+,,1,1"))
        page.locator("#draw-take").get_by_role("button", name="sample").click()
        page.wait_for_url(re.compile(r"from=tiny-vae-v1@\w+,,(?!1,)\d+,1"))
        # No VAE knows the shoes: there is a way from seed to seed, and none from label to label.
        page.get_by_role("tab", name="Morph").click()
        expect(page.locator("#morph-how")).to_contain_text("the latent space of a-cgan-v1")
        page.locator("#morph-b").get_by_label("Label").select_option("0")
        expect(page.locator("#notice")).to_contain_text(
            "need a VAE that learnt from what they show"
        )
        expect(page.locator("#morph-frame")).to_be_hidden()
        expect(page.get_by_role("button", name="Play")).to_be_disabled()


def test_a_vae_of_one_latent(other_page: Page, serve: Serve) -> None:
    page = other_page
    with serve("one-vae-v1", "tiny-cgan-v1") as server:
        page.goto(f"{server.url}/#draw")
        settled_draw(page)
        # No point in the address is none, and not the point 0.
        expect(page.locator("#decoded-caption")).to_have_text("Reconstruction: the mean, decoded")
        page.wait_for_url(re.compile(r"from=tiny-cgan"))
        assert "z=" not in page.url
        expect(page.locator("#plane-axes option")).to_have_text(["the one latent, a row a label"])
        expect(page.locator("#plane-digits [role=option]")).to_have_count(300)
        expect(page.locator("#latents input")).to_have_count(1)
        page.goto(f"{server.url}/#draw?z=0.50")
        settled(page)
        handle = page.locator("#plane-handle")
        expect(handle).to_have_attribute("aria-valuetext", "0.5 across")
        handle.press("ArrowUp")
        handle.press("ArrowRight")
        expect(handle).to_have_attribute("aria-valuetext", "0.7 across")
        page.wait_for_url(re.compile(r"z=0\.70$"))
        page.mouse.click(*middle_of(page.locator("#plane"), 0.5, 0.02))
        expect(handle).to_have_attribute("aria-valuetext", re.compile(r"^-?0\.0 across$"))
        settled(page)
        page.get_by_text("What each latent does from here").click()
        expect(page.get_by_role("img", name="latents 0 varied, a row each")).to_be_visible()


def test_a_vae_of_two_latents_is_its_own_map(other_page: Page, serve: Serve) -> None:
    page = other_page
    with serve("two-vae-v1", "tiny-cgan-v1") as server:
        page.goto(f"{server.url}/#draw?z=1.00,0.50")
        handle = page.locator("#plane-handle")
        expect(page.locator("#plane-axes option")).to_have_text(["latents 0 and 1"])
        expect(page.locator("#plane-digits [role=option]")).to_have_count(300)
        settled(page)
        expect(handle).to_have_attribute("aria-valuetext", "1.0 across, 0.5 up")
        handle.press("Shift+ArrowUp")
        page.wait_for_url(re.compile(r"z=1\.00,1\.00"))
        sent = page.evaluate("document.getElementById('latent-1').value")
        assert float(sent) == 1


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


def test_a_service_with_small_requests_serves_the_whole_page(
    other_page: Page, serve: Serve
) -> None:
    page = other_page
    with serve("tiny-cgan-v1", "tiny-vae-v1", options=("--max-n", "5")) as server:
        page.goto(server.url)
        cell(page, 5, 9)  # six rows: two requests a column
        page.get_by_role("tab", name="Draw").click()
        expect(page.locator("#plane-digits [role=option]")).to_have_count(300, timeout=30_000)
        settled_draw(page)
        page.get_by_text("What each latent does from here").click()
        rows = page.get_by_role("img", name="varied, a row each")
        expect(rows).to_be_visible()
        assert shown(rows).shape == (28, 5 * 28)
        page.get_by_role("tab", name="Morph").click()
        expect(page.locator("#morph-steps option")).to_have_text(["5"])
        expect(page.locator("#morph-how")).to_contain_text("5 pictures")
        settled(page)
        expect(page.locator("#notice")).to_be_hidden()


# Morph


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
        page.locator("#morph-b").get_by_role("button", name="Other style").click()
        page.wait_for_timeout(200)
    let_go()
    settled(page)
    shown_now = page.locator("#morph-a img").get_attribute("src")
    assert page.evaluate("[...alive]") == [shown_now]


# The map by keyboard


def test_a_digit_of_the_map_is_found_and_loaded_by_keyboard(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    digits = page.get_by_role("listbox", name="Pictures on the map")
    expect(digits.get_by_role("option")).to_have_count(300)
    page.locator("#plane-handle").focus()
    page.keyboard.press("Tab")
    focused = digits.locator(":focus")
    expect(focused).to_have_attribute("aria-label", "0, style 1000")
    tip = page.locator("#plane-tip")
    expect(tip).to_have_text("0, 1000")
    page.keyboard.press("End")
    expect(focused).to_have_attribute("aria-label", "9, style 1029")
    page.keyboard.press("PageUp")
    expect(focused).to_have_attribute("aria-label", "9, style 1028")
    page.keyboard.press("7")
    expect(focused).to_have_attribute("aria-label", "7, style 1000")
    page.keyboard.press("7")
    expect(focused).to_have_attribute("aria-label", "7, style 1001")

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
    label, seed = name.split(", style ")
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


# Without motion


@pytest.mark.parametrize("wish", ["reduce", "no-preference"])
def test_nothing_moves_by_itself_for_who_wants_that(browser: Any, shipped: Any, wish: Any) -> None:
    page = browser.new_page(reduced_motion=wish)
    page.goto(f"{shipped.url}/#morph")
    expect(page.locator("#morph-frame")).to_be_visible()
    settled(page)
    let_go = hold(page, "/generate")
    page.locator("#morph-b").get_by_role("button", name="Other style").click()
    expect(page.locator("#progress")).to_be_visible()
    moving = page.evaluate("document.getAnimations().length")
    assert (moving == 0) == (wish == "reduce")
    let_go()
    settled(page)
    # A morph plays when it is told to, and is at rest before and after.
    place = page.locator("#morph-scrub")
    assert place.input_value() == "0"
    page.wait_for_timeout(300)
    assert place.input_value() == "0"
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('#morph-scrub').value > 1")
    page.get_by_role("button", name="Pause").click()
    stopped = place.input_value()
    page.wait_for_timeout(300)
    assert place.input_value() == stopped
    page.close()
