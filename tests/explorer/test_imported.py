"""The explorer shows of imported models what their operations allow."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests import graphs
from tests.explorer.page import settled
from training.networks.graph.config import Noise

STORE = {
    "autoencoder": graphs.autoencoder(("latent",), noise=(Noise("z", (4, 8, 8)),)),
    "rgba": graphs.FEATURES["rgba"],
    "sphere": graphs.FEATURES["sphere"],
}


@pytest.fixture(scope="module")
def url(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("imported")
    for name, config in STORE.items():
        graphs.write(folder / f"{name}.safetensors", config)
    with start_server("--models-dir", str(folder), "--workers", "1") as server:
        yield server.url


def test_the_wall_fills_and_truncation_is_off_where_it_has_no_meaning(
    other_page: Page, url: str
) -> None:
    page = other_page
    for name in STORE:
        page.goto(f"{url}/#look?model={name}")
        page.reload()
        expect(page.locator(".tile img").first).to_be_visible()
        settled(page)
        slider = page.locator("#look-truncation")
        if name == "sphere":
            expect(slider).to_be_disabled()
            expect(page.locator("#look-typical")).to_be_hidden()
        else:
            expect(slider).to_be_enabled()


def test_a_latent_without_a_variance_is_drawn_as_a_point(other_page: Page, url: str) -> None:
    page = other_page
    page.goto(f"{url}/#draw")
    expect(page.locator("#decoded")).to_be_visible()
    expect(page.locator("#latent-mean")).to_be_enabled()
    expect(page.locator("#latent-sample")).to_be_disabled()
    expect(page.locator("#latents input").first).to_be_visible()
    expect(page.locator("#latents")).to_contain_text("± 0.00")


def test_every_model_has_its_card(other_page: Page, url: str) -> None:
    page = other_page
    page.goto(f"{url}/#models")
    expect(page.locator("#model-cards h3, #model-cards h2").first).to_be_visible()
    expect(page.get_by_text("Imported generator")).to_have_count(len(STORE))
    for name in STORE:
        expect(page.get_by_text(re.compile(f"^{name}$")).first).to_be_visible()


def test_an_encoder_that_needs_a_class_reads_no_drawings(
    other_page: Page, start_server: Any, tmp_path: Path
) -> None:
    graphs.write(tmp_path / "conditional.safetensors", graphs.FEATURES["conditional-vae"])
    with start_server("--models-dir", str(tmp_path), "--workers", "1") as server:
        other_page.goto(f"{server.url}/#draw")
        expect(other_page.locator("#draw-empty")).to_be_visible()
        expect(other_page.locator("#draw-body")).to_be_hidden()
