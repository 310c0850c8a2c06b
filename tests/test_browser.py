"""The pages in a real browser: Chromium of the distribution, headless, against a real service."""

import shutil
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image as PillowImage
from playwright.sync_api import ConsoleMessage, Page, sync_playwright


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium; install the distribution's package, chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any, shipped: Any) -> Iterator[Page]:
    """A page whose console must stay free of errors and whose requests must stay on our host."""
    opened = browser.new_page()
    hosts: set[str] = set()
    errors: list[str] = []
    opened.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    opened.on("pageerror", lambda error: errors.append(str(error)))

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    opened.on("console", listen)
    yield opened
    opened.close()
    hosts.discard("")  # data: and blob: addresses
    assert hosts == {urlsplit(shipped.url).netloc}
    assert not errors


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


def test_the_first_page_shows_samples(page: Page, shipped: Any) -> None:
    page.goto(shipped.url)
    image = page.locator("main img")
    image.wait_for()
    page.wait_for_function("() => document.querySelector('main img').naturalWidth === 448")
    assert f"'{shipped.url}/generate?label=7'" in page.locator("pre").inner_text()
    with PillowImage.open(BytesIO(image.screenshot())) as screenshot:
        assert max(screenshot.convert("L").tobytes()) > 200  # digits, not an empty box


def test_the_reference_renders(browser: Any, shipped: Any) -> None:
    """ReDoc asks for one logo on another host; our policy keeps the browser from fetching it."""
    page = browser.new_page()
    loaded: list[str] = []
    page.on("requestfinished", lambda request: loaded.append(urlsplit(request.url).netloc))
    page.goto(f"{shipped.url}/redoc")
    page.get_by_text("Sample images from a model").first.wait_for()
    assert set(loaded) - {""} == {urlsplit(shipped.url).netloc}
    page.close()
