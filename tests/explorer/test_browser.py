"""The documentation in a real browser, against a real service."""

from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
from PIL import Image as PillowImage
from playwright.sync_api import Browser, Page, Response

from tests.explorer.page import drop, follow, watched


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
    """ReDoc as it is published asks another host for a logo."""
    page = browser.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).netloc))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{shipped.url}/redoc")
    page.get_by_text("Sample images from a model").first.wait_for()
    page.get_by_role("link", name="API docs by Redocly").wait_for()
    settled_logo = "() => document.querySelector('img[alt=\"redocly logo\"]') === null"
    page.wait_for_function(settled_logo)
    assert set(asked) - {""} == {urlsplit(shipped.url).netloc}
    assert not [text for text in complaints if "redoc.ly" in text]
    page.close()


def test_below_a_prefix_each_view_and_the_documentation_stay_below_it(
    browser: Browser, start_server: Any, tiny_store: Any
) -> None:
    responses: list[tuple[str, int]] = []

    def note(response: Response) -> None:
        if response.url.startswith("http"):  # neither data: nor blob:
            responses.append((urlsplit(response.url).path, response.status))

    options = ("--models-dir", str(tiny_store), "--workers", "1", "--root-path", "/api")
    with start_server(*options) as server, watched(browser, server.url) as page:
        page.on("response", note)
        for view in ("look", "draw", "models", "verify"):
            follow(page, f"{server.url}/api", view)
        saved = httpx.get(f"{server.url}/generate?label=6&seed=31").content
        drop(page, "#verify-drop", "six.png", saved)
        page.get_by_text("Verified: the recipe reproduces every pixel.").first.wait_for()
        page.goto(f"{server.url}/api/docs")
        page.locator("#operations-images-generate .opblock-summary").click()
        page.locator("#operations-images-generate button.execute").click()
        page.locator("#operations-images-generate .live-responses-table img").wait_for()
    paths = {path for path, _ in responses}
    assert {"/api/generate", "/api/encode", "/api/verify", "/api/openapi.json"} < paths
    assert {path for path in paths if not path.startswith("/api/")} == set()
    # A browser asks again for a file of the page changed lately, and learns that it is the same.
    same = {path for path, status in responses if status == 304}
    assert {path for path in same if not path.startswith("/api/static/")} == set()
    assert {status for _, status in responses} - {304} == {200}
