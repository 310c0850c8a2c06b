"""The documentation in a real browser, against a real service."""

from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
from PIL import Image as PillowImage
from playwright.sync_api import Page


def test_execute_in_swagger_ui_shows_the_digit(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/docs")
    page.locator("#operations-images-generate .opblock-summary").click()
    page.locator("tr[data-param-name=label] input").fill("7")
    page.locator("tr[data-param-name=seed] input").fill("42")
    page.locator("#operations-images-generate button.execute").click()
    image = page.locator("#operations-images-generate .live-responses-table img")
    image.wait_for()
    page.wait_for_function(
        "() => document.querySelector('.live-responses-table img').naturalWidth === 28"
    )
    # The picture on the page is the picture of the API, pixel by pixel.
    shown = image.evaluate(
        """image => {
            const canvas = new OffscreenCanvas(28, 28).getContext("2d");
            canvas.drawImage(image, 0, 0);
            return Array.from(canvas.getImageData(0, 0, 28, 28).data);
        }"""
    )
    expected = httpx.post(f"{shipped.url}/generate?label=7&seed=42").content
    with PillowImage.open(BytesIO(expected)) as picture:
        assert bytes(shown[::4]) == picture.tobytes()


def test_the_reference_renders(browser: Any, shipped: Any) -> None:
    """ReDoc asks for one logo on another host; our policy keeps the browser from fetching it."""
    page = browser.new_page()
    loaded: list[str] = []
    page.on("requestfinished", lambda request: loaded.append(urlsplit(request.url).netloc))
    page.goto(f"{shipped.url}/redoc")
    page.get_by_text("Sample images from a model").first.wait_for()
    assert set(loaded) - {""} == {urlsplit(shipped.url).netloc}
    page.close()
