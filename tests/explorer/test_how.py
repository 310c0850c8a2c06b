"""How it works: the real numbers, the visitor as the detective, the film of a training."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from tests.explorer.page import draw_a_seven, open_draw, settled, shown, watched
from tests.training.runs.test_film import run_with
from training.runs.film import save_film


def numbers(page: Page, canvas: str) -> Any:
    """Red and blue of a square of numbers, (N, 2)."""
    found = page.locator(canvas).evaluate(
        """canvas => {
            const { width, height } = canvas;
            return [...canvas.getContext("2d").getImageData(0, 0, width, height).data];
        }"""
    )
    return np.array(found).reshape(-1, 4)[:, [0, 2]].astype(int)


def test_the_squares_are_the_encoders_numbers_and_a_throw_changes_the_sample(
    page: Page, shipped: Any
) -> None:
    page.goto(f"{shipped.url}/#how?label=3&seed=1")
    expect(page.locator("#how-posterior img")).to_have_count(8)
    expect(page.locator("#how-prior img")).to_have_count(8)
    settled(page)
    digit = httpx.get(f"{shipped.url}/generate?label=3&seed=1").content
    headers = {"content-type": "image/png"}
    (item,) = httpx.post(f"{shipped.url}/encode", content=digit, headers=headers).json()["items"]
    mu, sigma = np.array(item["mu"]), np.exp(np.array(item["logvar"]) / 2)
    mean = numbers(page, "#how-mean")
    strong = np.abs(mu) > 0.05
    assert ((mean[:, 0] > mean[:, 1]) == (mu > 0))[strong].all()  # orange above 0, blue below
    spread = numbers(page, "#how-spread")[:, 0]
    assert spread == pytest.approx(255 * sigma / sigma.max(), abs=1)
    said = page.locator("#how-sure").inner_text()
    assert f"±{sigma.min():.2f}" in said
    assert f"±{sigma.max():.2f}" in said
    before = numbers(page, "#how-sample")
    page.get_by_role("button", name="Another sample").click()
    settled(page)
    assert (numbers(page, "#how-sample") != before).any()
    assert (numbers(page, "#how-mean") == mean).all()


def test_a_seven_three_ways_each_from_its_own_model(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#how")
    settled(page)
    panel = page.locator("#how-three")
    expect(panel.get_by_role("heading", level=3)).to_have_text("A seven, three ways")
    images = panel.get_by_role("img", name="What the")
    expect(images).to_have_count(3)
    before = [image.get_attribute("src") for image in images.all()]
    page.get_by_role("button", name="New random numbers").click()
    settled(page)
    after = [image.get_attribute("src") for image in images.all()]
    assert all(one != other for one, other in zip(before, after, strict=True))
    page.get_by_role("button", name="8", exact=True).click()
    expect(panel.get_by_role("heading", level=3)).to_have_text("An eight, three ways")
    expect(panel.get_by_role("img", name="The picture that is encoded: 8")).to_be_visible()
    widths = {round(box["width"]) for image in images.all() if (box := image.bounding_box())}
    assert len(widths) == 1  # equally large


def test_the_picture_is_the_visitors_own_if_there_is_one(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    draw_a_seven(page)
    settled(page)
    page.get_by_role("tab", name="How it works").click()
    expect(page.get_by_role("img", name="Your picture")).to_have_count(2)
    for place in ("#how-input", "#way-vae-in"):
        assert shown(page.locator(place)).shape == (280, 280)


def test_the_visitor_is_the_detective(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#how")
    suspects = page.locator(".suspect")
    expect(suspects).to_have_count(8)
    expect(page.locator("#detective-credit")).to_contain_text("CC BY-SA 3.0")
    for number in range(1, 9):
        page.get_by_role("button", name=f"Picture {number} is real").click()
        expect(suspects.nth(number - 1)).to_contain_text(re.compile("Right: real|Wrong: forged"))
    # Half of them are real, so half of the guesses are right.
    expect(page.locator("#detective-score")).to_have_text("4 of 8 right. Guessing gives half.")
    # None of them stands above, where it is said to be forged.
    sources = "all => all.map(one => one.src)"
    given_away = page.locator("#how-fakes img").evaluate_all(sources)
    first = page.locator(".suspect img").evaluate_all(sources)
    assert not set(given_away) & set(first)
    page.get_by_role("button", name="Another eight").click()
    expect(page.locator("#detective-score")).to_have_text("")
    expect(page.get_by_role("button", name="Picture 1 is real")).to_be_focused()
    assert not set(first) & set(page.locator(".suspect img").evaluate_all(sources))


@pytest.fixture(scope="module")
def filmed(
    start_server: Any, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A service of two models with films, of which the second begins at the first step."""
    folder = tmp_path_factory.mktemp("filmed")
    pictures = {"step-0000001": 0, "epoch-002": 120, "epoch-040": 240}
    late = dict(list(pictures.items())[1:])
    for name, kept in (("tiny-cgan-v1", late), ("tiny-gan-v1", pictures)):
        for path in tiny_store.glob(f"{name}.*"):
            shutil.copy(path, folder)
        film = save_film(run_with(tmp_path_factory.mktemp("run"), kept))
        assert film
        shutil.copy(film, folder / f"{name}-film.webp")
    with start_server("--models-dir", str(folder), "--workers", "1") as server:
        yield server.url


def test_a_training_is_a_film_that_is_scrubbed_by_hand(browser: Any, filmed: str) -> None:
    with watched(browser, filmed) as page:
        page.goto(f"{filmed}/#how")
        frame = page.locator("#film-frame")
        expect(frame).to_be_visible()
        assert page.locator("#how-vae").is_hidden()

        def grey() -> float:
            pixels = frame.evaluate(
                "one => [...one.getContext('2d').getImageData(0, 0, 280, 56).data]"
            )
            return float(np.array(pixels).reshape(-1, 4)[:, 0].mean())

        scrub = page.get_by_role("slider", name="Moment of the training")
        expect(page.locator("#film-when")).to_have_text("after 32 pictures")  # from the start
        expect(page.locator("#film-of")).to_have_text("tiny-gan-v1")
        expect(page.locator("#film-late")).to_be_hidden()
        for key, seen, expected in (
            ("Home", "32", 0),
            ("ArrowRight", "6,400", 120),
            ("End", "128,000", 240),
        ):
            scrub.press(key)
            expect(page.locator("#film-when")).to_have_text(f"after {seen} pictures")
            assert grey() == pytest.approx(expected, abs=4)
        page.get_by_role("button", name="Play").click()
        expect(page.locator("#film-when")).to_have_text("after 128,000 pictures")
        # Both losses are drawn, and where they would be by chance.
        painted = page.locator("#film-losses").evaluate(
            """one => {
                const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
                const colours = new Set();
                for (let at = 0; at < data.length; at += 4)
                    if (data[at + 3] === 255) colours.add(`${data[at]} ${data[at + 2]}`);
                return colours.size;
            }"""
        )
        assert painted >= 3


def test_without_a_film_the_curves_are_shown(page: Page, shipped: Any) -> None:
    def without_films(route: Route) -> None:
        response = route.fetch()
        listed = response.json()
        for model in listed["models"]:
            model["pictures"].pop("film", None)
        route.fulfill(response=response, json=listed)

    page.route("**/models", without_films)
    page.goto(f"{shipped.url}/#how")
    curves = page.get_by_role("img", name="Losses and measures during training")
    expect(curves).to_be_visible()
    assert shown(curves).shape[1] > 300
