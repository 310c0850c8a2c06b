"""The cards of the models."""

from typing import Any

import httpx
from playwright.sync_api import Page, expect

from tests.explorer.page import VIEWS, red, settled, shown
from tests.shipped import CGAN, GAN, SIGNS, VAE


def test_all_models_are_shown_on_the_same_seeds(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#models")
    for name in (CGAN, GAN, VAE, SIGNS):
        sheet = page.get_by_role("img", name=f"16 samples of {name}, seeds 1 to 16")
        expect(sheet).to_be_visible()
        query = f"model={name}&seed=1&n=16&scale=3"
        expected = httpx.get(f"{shipped.url}/generate?{query}").content
        assert (shown(sheet) == red(expected)).all()
    assert page.locator("[title]").count() == 0  # neither fingers nor keys reach those
    # What is measured of it is on its card.
    page.get_by_role("article", name=CGAN).get_by_role("link", name="its card").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(CGAN)
    expect(page.get_by_text("frechet test ratio").first).to_be_visible()


def test_a_link_to_the_models_opens_at_the_top(browser: Any, shipped: Any) -> None:
    page = browser.new_page(viewport={"width": 900, "height": 400})
    page.goto(f"{shipped.url}/#models")
    settled(page)
    expect(page.get_by_role("img", name=f"16 samples of {VAE}")).to_be_visible()
    page.evaluate("new Promise(requestAnimationFrame)")
    assert page.evaluate("document.documentElement.scrollHeight") > 800  # it could be elsewhere
    assert page.evaluate("scrollY") == 0
    # A browser would take a view's name for a place in the page.
    for view in VIEWS:
        assert page.evaluate("view => document.getElementById(view)", view) is None
    page.close()
