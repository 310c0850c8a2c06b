"""The explorer as a person uses it: Chromium of the distribution, a real service, real gestures."""

import base64
import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage
from playwright.sync_api import Page, Route, expect

from tests.explorer import (
    PNG,
    asked,
    cell,
    draw_a_seven,
    drop,
    open_draw,
    pixels,
    settled,
    shown,
)
from tests.shipped import CGAN, GAN, STORE, VAE

# The board


def test_the_board_has_a_column_a_label_and_a_row_a_style(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    heads = page.locator("#board-table thead th")
    expect(heads).to_have_text(["style", *map(str, range(10))])
    image = cell(page, 2, 7).locator("img")
    expected = httpx.get(f"{shipped.url}/generate?label=7&seed=3").content
    assert (shown(image) == pixels(expected)).all()
    assert image.get_attribute("alt") == "7, style 3"


def test_a_click_enlarges_and_the_style_stays_under_another_label(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    cell(page, 1, 7).click()
    dialog = page.get_by_role("dialog", name="7 in style 2")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="4", exact=True).click()
    large = page.get_by_role("img", name=f"A 4 in style 2 from {CGAN}")
    expect(large).to_be_visible()
    expected = httpx.get(f"{shipped.url}/generate?label=4&seed=2").content
    assert (shown(large) == pixels(expected)).all()
    # Saving gives the API's own file, larger.
    with page.expect_download() as saving:
        page.get_by_role("link", name="Save as PNG").click()
    assert saving.value.suggested_filename == f"{CGAN}-4-2.png"
    saved = saving.value.path().read_bytes()
    large_png = httpx.get(f"{shipped.url}/generate?label=4&seed=2&scale=10").content
    assert (pixels(saved) == pixels(large_png)).all()
    permalink = page.get_by_role("link", name="Permalink").get_attribute("href")
    assert permalink
    assert httpx.get(shipped.url + permalink).content == expected
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()


def test_the_board_by_keyboard_alone(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    cell(page, 0, 0)
    while page.evaluate("document.activeElement.getAttribute('role')") != "gridcell":
        page.keyboard.press("Tab")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "End", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("dialog", name="8 in style 2")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    focused = page.evaluate("document.activeElement.querySelector('img').alt")
    assert focused == "8, style 2"  # where it was left


def test_truncation_more_rows_and_another_model_are_in_the_address(
    page: Page, shipped: Any
) -> None:
    page.goto(shipped.url)
    cell(page, 5, 9)
    page.get_by_role("button", name="Six more rows").click()
    cell(page, 11, 9)
    page.locator("#board-truncation").focus()
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#board-truncation-value")).to_have_text("0.60")
    expected = httpx.get(f"{shipped.url}/generate?label=9&seed=12&truncation=0.6").content
    page.wait_for_url(re.compile(r"seeds=1-12.*truncation=0\.6"))
    expect(page.locator("#board-table")).not_to_have_attribute("aria-busy", "true")
    assert (shown(cell(page, 11, 9).locator("img")) == pixels(expected)).all()
    # The link alone shows the same.
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert (shown(cell(page, 11, 9).locator("img")) == pixels(expected)).all()
    expect(page.locator("#board-truncation-value")).to_have_text("0.60")
    page.get_by_role("combobox", name="Model").select_option(label=GAN)
    expected = httpx.get(f"{shipped.url}/generate?model={GAN}&seed=3&truncation=0.6").content
    page.wait_for_url(re.compile(rf"model={GAN}"))
    expect(page.locator("#board-table")).not_to_have_attribute("aria-busy", "true")
    assert (shown(cell(page, 0, 2).locator("img")) == pixels(expected)).all()


def test_the_request_that_made_it_is_told_and_runs(
    page: Page, shipped: Any, tmp_path: Path
) -> None:
    page.goto(shipped.url)
    cell(page, 0, 3).click()
    expect(page.get_by_role("dialog", name="3 in style 1")).to_be_visible()
    page.keyboard.press("Escape")
    code = page.locator("#made-code")
    expect(code).to_contain_text("seeds=1&")
    command = code.inner_text()
    assert command.startswith(f"curl '{shipped.url}/generate?model={CGAN}@")
    page.get_by_role("button", name="Python").click()
    expect(code).to_contain_text("httpx.get(")
    expected = pixels(httpx.get(f"{shipped.url}/generate?label=3&seed=1").content)
    subprocess.run([sys.executable, "-c", code.inner_text()], cwd=tmp_path, check=True)
    assert (pixels((tmp_path / "0.png").read_bytes()) == expected).all()
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    told = json.loads((tmp_path / "answer.json").read_text())["items"][0]
    assert (pixels(base64.b64decode(told["image"])) == expected).all()


# Drawing, and the latent space


def test_a_drawing_is_encoded_and_decoded_and_the_link_draws_it_again(
    page: Page, shipped: Any
) -> None:
    open_draw(page, shipped)
    draw_a_seven(page)
    settled(page)
    page.wait_for_url(re.compile(r"strokes="))
    expect(page.locator("#decoded-caption")).to_have_text("Reconstruction: the mean, decoded")
    settled(page)
    drawn = shown(page.locator("#decoded"))
    assert drawn.shape == (28, 28)
    assert drawn.max() > 200
    sent = page.evaluate("document.getElementById('pad').toDataURL()").split(",")[1]
    kept = httpx.post(f"{shipped.url}/reconstruct", json={"images": [sent]}).content
    # The page sends four decimals of each latent: a grey level here and there.
    assert np.abs(drawn.astype(int) - pixels(kept)).max() <= 2
    beside = page.get_by_role("img", name="Your picture as the encoder saw it")
    assert shown(beside).shape == (28, 84)
    said = page.locator("#draw-beside-figure figcaption")
    expect(said).to_contain_text("Your picture of 280 × 280 pixels: centred.")
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.get_by_role("img", name="Reconstruction of your picture")).to_be_visible()
    settled(page)
    assert (shown(page.locator("#decoded")) == drawn).all()


def test_dragging_the_point_leaves_no_queue_of_stale_requests(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    requests = asked(page, "/decode")
    box = page.locator("#plane").bounding_box()
    handle = page.locator("#plane-handle").bounding_box()
    assert box
    assert handle
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    for move in range(1, 21):
        page.mouse.move(box["x"] + box["width"] * (0.5 + 0.02 * move), box["y"] + 60 + 5 * move)
    page.mouse.up()
    settled(page)
    expect(page.get_by_role("img", name="What the moved point decodes to")).to_be_visible()
    page.wait_for_timeout(300)
    assert 1 <= len(requests) <= 21
    # The picture is that of the last place.
    last = json.loads(requests[-1].post_data or "")["z"]
    expected = httpx.post(f"{shipped.url}/decode", json={"z": last}).content
    assert (shown(page.locator("#decoded")) == pixels(expected)).all()
    told = [float(text) for text in re.findall(r"z=([^&]*)", page.url)[0].split(",")]
    assert np.abs(np.array(told) - np.array(last[0])).max() < 0.006


def test_on_a_slow_network_one_request_is_open_and_overdue_ones_are_cancelled(
    page: Page, shipped: Any
) -> None:
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
        page.wait_for_timeout(30)
    settled(page)
    counts = page.evaluate("counts")
    assert counts["most"] == 1
    assert counts["cancelled"] >= 1
    assert counts["sent"] - counts["cancelled"] <= 2
    expect(page.get_by_role("img", name="What the moved point decodes to")).to_be_visible()


def latent_nats(shipped: Any) -> list[float]:
    """KL by latent of the model that encodes."""
    found = httpx.get(f"{shipped.url}/models").json()
    card = next(card for card in found["models"] if card["name"] == found["default_encoder"])
    return list(card["metrics"]["kl_per_dimension_nats"])


def liveliest(shipped: Any) -> list[int]:
    """Latents, most KL first."""
    kl = latent_nats(shipped)
    return sorted(range(len(kl)), key=lambda index: -kl[index])


def test_the_map_tells_of_a_digit_and_a_click_loads_it(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    expect(page.locator("#plane-axes")).to_contain_text(
        "latents {} and {}".format(*liveliest(shipped))
    )
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
    expect(page.get_by_role("img", name="Reconstruction of your picture")).to_be_visible()


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
    expect(page.get_by_role("img", name="What the moved point decodes to")).to_be_visible()
    assert (shown(page.locator("#decoded")) != before).any()
    page.get_by_role("button", name="Back to the mean").click()
    expect(page.get_by_role("img", name="Reconstruction of your picture")).to_be_visible()
    assert (shown(page.locator("#decoded")) == before).all()
    page.get_by_role("button", name="Draw from the spread").click()
    expect(page.locator("#decoded-caption")).to_contain_text("away from the mean")


def test_each_latent_is_varied_in_a_row_from_where_the_point_is(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    with page.expect_request(lambda request: "/traverse" in request.url) as asking:
        page.get_by_text("What each latent does from here").click()
    rows = page.get_by_role("img", name="varied, a row each")
    expect(rows).to_be_visible()
    address = urlsplit(asking.value.url)
    point = json.loads(asking.value.post_data or "")
    answer = httpx.post(f"{shipped.url}{address.path}?{address.query}", json=point)
    assert answer.headers["x-axes"] == ",".join(map(str, liveliest(shipped)[:8]))
    assert (shown(rows) == pixels(answer.content)).all()
    assert shown(rows).shape == (8 * 28, 7 * 28)
    expect(page.locator("#made-code")).to_contain_text("/traverse?")


def test_a_dropped_picture_is_encoded(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    data = httpx.get(f"{shipped.url}/generate?label=5&seed=9").content
    with page.expect_response(lambda answer: "/encode" in answer.url) as encoding:
        drop(page, "#pad", "five.png", data)
    expected = httpx.post(f"{shipped.url}/encode", content=data, headers={"content-type": PNG})
    assert encoding.value.json() == expected.json()
    said = page.locator("#draw-beside-figure figcaption")
    expect(said).to_contain_text("Your picture of 28 × 28 pixels: taken as it is.")


# Morphing


def test_a_morph_plays_scrubs_and_is_saved_as_an_animation(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#morph")
    frame = page.locator("#morph-frame")
    expect(frame).to_be_visible()
    expect(page.locator("#morph-how")).to_contain_text(VAE)  # 3 to 8: through pictures
    start, end = page.locator("#morph-a"), page.locator("#morph-b")
    end.get_by_label("Label").select_option("3")
    expect(page.locator("#morph-how")).to_contain_text(CGAN)  # one label: by seeds
    assert start.locator("h3").inner_text() == "Start: 3, style 2"
    path = httpx.get(
        f"{shipped.url}/interpolate?label=3&seeds=2,4&steps=16&method=slerp&format=json"
    ).json()["items"]
    page.locator("#morph-scrub").focus()
    page.keyboard.press("End")
    expect(frame).to_have_attribute("alt", "Picture 16 of 16 on the way")
    assert (shown(frame) == pixels(base64.b64decode(path[15]["image"]))).all()
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('#morph-scrub').value < 10")
    page.get_by_role("button", name="Pause").click()
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as animated PNG").click()
    with PillowImage.open(saving.value.path()) as film:
        assert film.format == "PNG"
        assert getattr(film, "n_frames", 1) == 16
        assert film.size == (8 * 28, 8 * 28)
    page.wait_for_url(re.compile(r"a=.*,3,2,1&b=.*,3,4,1"))


def test_a_morph_takes_the_drawing_and_cells_of_the_board(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    draw_a_seven(page)
    settled(page)
    page.get_by_role("tab", name="Board").click()
    cell(page, 3, 0).click()
    page.get_by_role("button", name="Morph to it").click()
    expect(page.locator("#morph-b h3")).to_have_text("End: 0, style 4")
    page.locator("#morph-a").get_by_role("button", name="My drawing").click()
    expect(page.locator("#morph-a h3")).to_have_text("Start: a drawing")
    expect(page.locator("#morph-how")).to_contain_text("both ends are encoded")
    settled(page)
    page.wait_for_url(re.compile(r"a=strokes%3A"))
    # The last picture is what the VAE keeps of the cell.
    zero = httpx.get(f"{shipped.url}/generate?label=0&seed=4").content
    kept = httpx.post(
        f"{shipped.url}/reconstruct", content=zero, headers={"content-type": PNG}
    ).content
    page.locator("#morph-scrub").focus()
    page.keyboard.press("End")
    assert (shown(page.locator("#morph-frame")) == pixels(kept)).all()


# Writing


def test_a_year_is_written_in_one_hand_and_saved(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#write")
    page.get_by_label("Text").fill("")
    expect(page.locator("#write-empty")).to_be_visible()
    page.get_by_label("Text").press_sequentially("2 0x26")
    expect(page.locator("#write-hint")).to_contain_text("no “x”")
    page.get_by_role("button", name="Style 5").click()
    expect(page.get_by_role("img", name="2 026 in style 5")).to_be_visible()
    with page.expect_download() as saving:
        page.get_by_role("link", name="Save the strip").click()
    data = saving.value.path().read_bytes()
    strip = pixels(data)
    tiles = []
    for letter in "2 026":
        if letter == " ":
            tiles.append(np.zeros((28, 28), dtype=np.uint8))
        else:
            answer = httpx.get(f"{shipped.url}/generate?label={letter}&seed=5")
            tiles.append(pixels(answer.content))
    assert (strip[::8, ::8] == np.concatenate(tiles, axis=1)).all()
    assert strip.shape == (8 * 28, 8 * 5 * 28)
    assert b"trainedAlgorithmicMedia" in data  # it says that a model made it
    page.wait_for_url(re.compile(r"text=2\+0x26&seed=5"))


# What it costs


def test_two_hundred_requests_are_sent_and_told_of(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#cost")
    expect(page.locator("#cost-last .stack")).to_be_visible()
    facts = page.locator("#cost-now div")
    expect(facts).to_have_count(9)
    told = dict(text.split("\n") for text in facts.all_inner_texts())
    status = httpx.get(f"{shipped.url}/status").json()
    generate = status["models"][CGAN]["operations"]["generate"]
    assert told[f"Images in a batch of {CGAN}, at most"] == str(generate["max_batch"])
    assert told["Processes"] == str(status["processes"])
    assert not any(value in ("undefined", "NaN", "") for value in told.values())
    requests = asked(page, "/generate")
    page.get_by_label("Images in each").select_option("1")
    page.get_by_role("button", name="Send 200 at once").click()
    summary = page.locator("#cost-summary")
    expect(summary).to_contain_text("200 answers in", timeout=60_000)
    assert len(requests) == 200
    counts = page.locator("#cost-batches li").evaluate_all(
        "rows => rows.map(row => Number(row.lastChild.textContent))"
    )
    assert sum(counts) == 200
    counts = page.locator("#cost-latency li").evaluate_all(
        "rows => rows.map(row => Number(row.lastChild.textContent))"
    )
    assert sum(counts) == 200
    assert re.search(r"200 images took \d+ passes", summary.inner_text())


# The cards


def test_all_models_are_shown_on_the_same_seeds(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#models")
    for name in (CGAN, GAN, VAE):
        sheet = page.get_by_role("img", name=f"16 samples of {name}, seeds 1 to 16")
        expect(sheet).to_be_visible()
        query = f"model={name}&seed=1&n=16&scale=3"
        expected = httpx.get(f"{shipped.url}/generate?{query}").content
        assert (shown(sheet) == pixels(expected)).all()
    card = page.get_by_role("article", name=CGAN)
    (told,) = [
        model
        for model in httpx.get(f"{shipped.url}/models").json()["models"]
        if model["name"] == CGAN
    ]
    expect(card).to_contain_text(str(told["metrics"]["frechet_test_ratio"]))
    card.get_by_text("Pictures of its card").click()
    nearest = card.get_by_role("img", name="below each, the nearest training images")
    nearest.scroll_into_view_if_needed()
    assert shown(nearest).shape[1] > 100
    expect(card).to_contain_text("CC BY-SA 3.0")


# Verifying


def test_a_saved_picture_is_verified_and_restores_its_settings(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    cell(page, 0, 0)
    query = f"model={CGAN}&label=6&seed=31&truncation=0.7&scale=4"
    saved = httpx.get(f"{shipped.url}/generate?{query}").content
    drop(page, "#board-table", "six.png", saved)  # anywhere on the page
    verdict = page.locator("#verify-result")
    expect(verdict).to_contain_text("Yes: every pixel is what the recipe makes.")
    remade = page.get_by_role("img", name="The same recipe, made now")
    assert (shown(remade) == pixels(saved)).all()
    page.get_by_role("button", name="Restore its settings").click()
    expect(page.get_by_role("dialog", name="6 in style 31")).to_be_visible()
    expect(page.locator("#detail-truncation-value")).to_have_text("0.70")
    page.go_back()
    expect(page.get_by_role("tab", name="Verify")).to_have_attribute("aria-selected", "true")


# When things are not as they should be


def test_an_overload_is_told_and_waited_for(other_page: Page, shipped: Any) -> None:
    page = other_page
    page.goto(shipped.url)
    cell(page, 0, 0)
    settled(page)
    refused: list[str] = []

    def refuse_once(route: Route) -> None:
        if route.request.url in refused:
            route.continue_()
            return
        refused.append(route.request.url)
        problem = {"title": "The service has more to do than it can in time", "status": 503}
        headers = {"Retry-After": "1", "Content-Type": "application/problem+json"}
        route.fulfill(status=503, headers=headers, body=json.dumps(problem))

    page.route("**/generate?*format=json", refuse_once)
    page.get_by_role("button", name="New styles").click()
    expect(page.locator("#notice")).to_contain_text("The service is overloaded. Trying again in 1")
    settled(page)
    expect(page.locator("#notice")).to_be_hidden()
    assert len(refused) == 10  # one a column, each asked again and answered
    expect(page.locator("#board-table img.loading")).to_have_count(0)


def test_a_service_that_is_gone_is_told_and_asked_again(
    other_page: Page, start_server: Any, tiny_store: Path
) -> None:
    page = other_page
    with start_server("--models-dir", str(tiny_store)) as server:
        page.goto(server.url)
        cell(page, 0, 0)
        settled(page)
        gone = page.url
        server.stop()
        page.get_by_role("button", name="New styles").click()
        notice = page.locator("#notice")
        expect(notice).to_contain_text("The service does not answer")
        again = f"--models-dir {tiny_store} --port {urlsplit(gone).port}".split()
        with start_server(*again):
            page.get_by_role("button", name="Try again").click()
            cell(page, 5, 9)
            settled(page)
            expect(notice).to_be_hidden()


def test_what_the_served_models_cannot_do_is_said(
    other_page: Page, start_server: Any, tiny_store: Path, tmp_path: Path
) -> None:
    page = other_page
    for path in tiny_store.glob("tiny-gan-v1*"):
        shutil.copy(path, tmp_path)
    with start_server("--models-dir", str(tmp_path)) as server:
        page.goto(server.url)
        expect(page.locator("#board-lead")).to_contain_text("This model knows no labels")
        cell(page, 5, 9)
        for tab, text in (
            ("Draw", "None of the served models can encode"),
            ("Write", "No served model has single characters as its labels"),
        ):
            page.get_by_role("tab", name=tab).click()
            expect(page.get_by_role("tabpanel", name=tab)).to_contain_text(text)
        page.get_by_role("tab", name="Morph").click()
        expect(page.locator("#morph-how")).to_contain_text("through the latent space of tiny-gan")


def test_a_link_to_another_checkpoint_says_so(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#board?model={CGAN}@{'0' * 12}&seeds=1-6")
    notice = page.locator("#notice")
    expect(notice).to_contain_text(f"The link was made with another checkpoint of {CGAN}")
    page.get_by_role("button", name="Show what is served now").click()
    cell(page, 0, 0)
    expect(notice).to_be_hidden()


def test_a_file_that_is_not_ours_is_no_error_of_the_page(other_page: Page, shipped: Any) -> None:
    other_page.goto(f"{shipped.url}/#verify")
    expect(other_page.locator("#verify-drop")).to_be_visible()
    other_page.set_input_files("#verify-file", STORE / f"{CGAN}.png")
    expect(other_page.locator("#verify-result")).to_contain_text("The picture has no recipe")
    expect(other_page.locator("#notice")).to_be_hidden()


# For everybody


@pytest.mark.parametrize("view", ["board", "draw", "morph", "write", "cost", "models", "verify"])
def test_axe_finds_nothing_on_a_phone_and_nothing_overflows(
    browser: Any, shipped: Any, view: str
) -> None:
    """axe-core's rules (WCAG 2 A and AA, best practices); dark on every other view."""
    dark = view in ("draw", "write", "models")
    page = browser.new_page(
        viewport={"width": 360, "height": 740}, color_scheme="dark" if dark else "light"
    )
    page.goto(f"{shipped.url}/#{view}")
    expect(page.get_by_role("tabpanel")).to_be_visible()
    settled(page)
    source = files("axe_playwright_python").joinpath("axe.min.js").read_text()
    page.evaluate(source)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    told = [(v["id"], [node["html"] for node in v["nodes"]]) for v in found["violations"]]
    assert told == []
    assert len(found["passes"]) > 30  # it did look
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.close()


def test_the_tabs_by_keyboard_and_back(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    cell(page, 0, 0)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.get_by_role("tab", name="Board").focus()
    page.keyboard.press("End")
    expect(page.get_by_role("tab", name="Verify")).to_be_focused()
    expect(page.locator("#verify-drop")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="Models")).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page.locator("#verify-drop")).to_be_visible()
    page.go_back()
    expect(page.locator("#board-table")).to_be_visible()


def test_a_finger_draws(browser: Any, shipped: Any) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto(f"{shipped.url}/#draw")
    expect(page.get_by_role("img", name="Reconstruction of your picture")).to_be_visible()
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
