"""Draw and Morph with unusual models: few latents, many, unmeasured ones, other data."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Response, expect

from tests.explorer.page import file_of, hold, middle_of, png, settled, shown, tile

Serving = Callable[..., Any]


@pytest.fixture
def serving(start_server: Any, tiny_store: Path, odd_store: Path, tmp_path: Path) -> Serving:
    """``with serving("one-vae-v1", "tiny-cgan-v1") as server``: with these networks alone."""

    @contextmanager
    def start(*names: str, options: tuple[str, ...] = ()) -> Iterator[Any]:
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        for name in names:
            found = [*tiny_store.glob(f"{name}.*"), *odd_store.glob(f"{name}.*")]
            assert found, name
            for path in found:
                shutil.copy(path, folder)
        with start_server("--models-dir", str(folder), "--workers", "1", *options) as server:
            yield server

    return start


def settled_draw(page: Page) -> None:
    """Draw with a picture encoded and decoded, and the whole map there."""
    expect(page.locator("#decoded")).to_be_visible()
    expect(page.locator("#latent-mean")).to_be_enabled()
    settled(page)


def walks(answer: Response) -> bool:
    """Whether a picture of the first view asks for its way to another style."""
    return answer.request.method == "GET" and urlsplit(answer.url).path == "/interpolate"


def ends_shown(page: Page, sliders: int) -> None:
    """The first sliders have what is decoded at either end of them, and the others nothing."""
    ends = page.locator("#latents .latent img[src]")
    expect(ends).to_have_count(2 * sliders)
    for end in ends.all():
        assert shown(end).shape == (28, 28)


def test_six_sliders_are_shown_and_the_rest_is_folded(other_page: Page, serving: Serving) -> None:
    page = other_page
    with serving("many-vae-v1", "tiny-cgan-v1") as server:
        page.goto(f"{server.url}/#draw")
        settled_draw(page)
        inputs = page.locator("#latents input")
        expect(inputs).to_have_count(24)
        visible = [one.is_visible() for one in inputs.all()]
        assert visible == [True] * 6 + [False] * 18
        page.get_by_text("18 more, 6 of them dead: less than 0.01 nats").click()
        assert all(one.is_visible() for one in inputs.all())
        expect(page.locator("#latents details .dead")).to_have_count(6)
        expect(page.locator("#latents .dead")).to_have_count(6)


def test_the_map_is_filled_while_a_slider_of_an_unmeasured_model_is_used(
    other_page: Page, serving: Serving
) -> None:
    """What each latent carries is reckoned when the digits are there, once; the focus stays."""
    page = other_page
    with serving("tiny-vae-v1", "tiny-cgan-v1") as server:
        page.goto(f"{server.url}/#look")
        tile(page, 0)
        let_go = hold(page, "/generate")
        page.get_by_role("tab", name="Draw").click()
        page.locator("#latent-1").focus()
        let_go()
        expect(page.locator("#plane-digits [role=option]")).to_have_count(120)
        settled_draw(page)
        expect(page.locator("#latents .nats").first).to_contain_text("nats")
        expect(page.locator("#latent-1")).to_be_focused()


def test_digits_come_from_a_model_that_the_encoder_knows(
    other_page: Page, serving: Serving
) -> None:
    page = other_page
    with serving("a-cgan-v1", "tiny-cgan-v1", "tiny-vae-v1") as server:
        page.goto(f"{server.url}/#draw")
        settled_draw(page)
        expect(page.locator("#draw-take button")).to_have_count(10)
        page.wait_for_url(re.compile(r"from=tiny-cgan-v1@\w+,3,1,0\.7"))
        page.goto(f"{server.url}/#morph")
        expect(page.locator("#morph-how")).to_contain_text("of tiny-vae-v1")
        page.wait_for_url(re.compile(r"a=tiny-cgan-v1"))


def test_without_such_a_model_the_encoder_gives_the_digits(
    other_page: Page, serving: Serving
) -> None:
    page = other_page
    with serving("a-cgan-v1", "tiny-vae-v1") as server:
        page.goto(f"{server.url}/#draw")
        settled_draw(page)
        page.wait_for_url(re.compile(r"from=tiny-vae-v1@\w+,,1,0\.7"))
        page.locator("#draw-take").get_by_role("button", name="sample").click()
        page.wait_for_url(re.compile(r"from=tiny-vae-v1@\w+,,(?!1,)\d+,0\.7"))
        page.goto(f"{server.url}/#draw?from=a-cgan-v1,0,1,1")
        expect(page.locator("#notice")).to_contain_text(
            "tiny-vae-v1 cannot encode pictures of a-cgan-v1"
        )
        # No VAE knows the shoes: there is a way from seed to seed, and none from label to label.
        page.get_by_role("tab", name="Morph").click()
        expect(page.locator("#morph-how")).to_contain_text("the latent space of a-cgan-v1")
        page.locator("#morph-b").get_by_label("Label").select_option("0")
        expect(page.locator("#morph-a h3")).to_contain_text("Start: 0, seed")
        settled(page)
        expect(page.locator("#morph-frame")).to_be_visible()
        page.set_input_files("#morph-a input[type=file]", file_of("mine.png", png(28, 28)))
        expect(page.locator("#notice")).to_contain_text(
            "need a VAE trained on the same kind of image as a-cgan-v1. None is served."
        )
        expect(page.locator("#morph-frame")).to_be_hidden()
        expect(page.get_by_role("button", name="Play")).to_be_disabled()


def test_a_vae_of_one_latent(other_page: Page, serving: Serving) -> None:
    page = other_page
    with serving("one-vae-v1", "tiny-cgan-v1") as server:
        page.goto(f"{server.url}/#draw")
        settled_draw(page)
        # No point in the address is none, and not the point 0.
        expect(page.locator("#decoded-caption")).to_have_text("Drawn again from its numbers")
        page.wait_for_url(re.compile(r"from=tiny-cgan"))
        assert "z=" not in page.url
        expect(page.locator("#plane-axes option")).to_have_text(
            "the only latent, one row per label"
        )
        expect(page.locator("#plane-digits [role=option]")).to_have_count(120)
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
        ends_shown(page, 1)


def test_a_vae_of_two_latents_is_its_own_map(other_page: Page, serving: Serving) -> None:
    page = other_page
    with serving("two-vae-v1", "tiny-cgan-v1") as server:
        page.goto(f"{server.url}/#draw?z=1.00,0.50")
        handle = page.locator("#plane-handle")
        expect(page.locator("#plane-axes option")).to_have_text(["latents 0 and 1"])
        expect(page.locator("#plane-digits [role=option]")).to_have_count(120)
        settled(page)
        expect(handle).to_have_attribute("aria-valuetext", "1.0 across, 0.5 up")
        handle.press("Shift+ArrowUp")
        page.wait_for_url(re.compile(r"z=1\.00,1\.00"))
        sent = page.evaluate("document.getElementById('latent-1').value")
        assert float(sent) == 1


def test_a_service_with_small_requests_serves_the_whole_page(
    other_page: Page, serving: Serving
) -> None:
    page = other_page
    with serving("tiny-cgan-v1", "tiny-vae-v1", options=("--max-n", "5")) as server:
        page.goto(server.url)
        tile(page, 23)  # five requests
        with page.expect_response(walks) as walk:  # the pictures move on their own
            page.emulate_media(reduced_motion="no-preference")
        assert walk.value.ok
        page.emulate_media(reduced_motion="reduce")
        page.get_by_role("tab", name="Draw").click()
        expect(page.locator("#plane-digits [role=option]")).to_have_count(120, timeout=30_000)
        settled_draw(page)
        ends_shown(page, 2)  # four latents: a fifth is no pair
        page.get_by_role("tab", name="Morph").click()
        expect(page.locator("#morph-steps option")).to_have_text(["5"])
        expect(page.locator("#morph-how")).to_contain_text("5 images")
        settled(page)
        expect(page.locator("#notice")).to_be_hidden()
