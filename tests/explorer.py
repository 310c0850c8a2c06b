"""What the explorer's tests share: gestures on the page, and what it then shows."""

import base64
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image as PillowImage
from playwright.sync_api import Locator, Page, Request, expect

PNG = "image/png"


def pixels(png: bytes) -> Any:
    with PillowImage.open(BytesIO(png)) as picture:
        return np.asarray(picture.convert("L"))


def shown(image: Locator) -> Any:
    """The pixels of an <img>, in its own size, once it is loaded."""
    listed = image.evaluate(
        """async image => {
            await image.decode();
            const [width, height] = [image.naturalWidth, image.naturalHeight];
            const canvas = new OffscreenCanvas(width, height).getContext("2d");
            canvas.drawImage(image, 0, 0);
            const { data } = canvas.getImageData(0, 0, width, height);
            let grey = "";
            for (let at = 0; at < data.length; at += 4) grey += String.fromCharCode(data[at]);
            return [width, height, btoa(grey)];
        }"""
    )
    width, height, grey = listed
    return np.frombuffer(base64.b64decode(grey), dtype=np.uint8).reshape(height, width)


def settled(page: Page) -> None:
    """Wait until nothing is under way."""
    expect(page.locator("body:not([data-working])")).to_have_count(1, timeout=30_000)


def cell(page: Page, row: int, column: int) -> Locator:
    found = page.locator("#board-table tbody tr").nth(row).locator("td").nth(column)
    expect(found.locator("img:not(.loading)")).to_be_visible()
    return found


def asked(page: Page, path: str) -> list[Request]:
    """The requests to a path, from now on."""
    found: list[Request] = []

    def note(request: Request) -> None:
        if urlsplit(request.url).path == path:
            found.append(request)

    page.on("request", note)
    return found


def open_draw(page: Page, shipped: Any) -> None:
    """The view with its first digit encoded and the whole map drawn."""
    page.goto(f"{shipped.url}/#draw")
    expect(page.get_by_role("img", name="Reconstruction of your picture")).to_be_visible()
    expect(page.locator("#plane-axes option")).not_to_have_count(0)
    settled(page)


def draw_a_seven(page: Page) -> None:
    box = page.locator("#pad").bounding_box()
    assert box
    points = [(0.3, 0.25), (0.5, 0.25), (0.72, 0.25), (0.6, 0.5), (0.5, 0.7), (0.45, 0.85)]
    for index, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if index == 0:
            page.mouse.down()
    page.mouse.up()


def drop(page: Page, target: str, name: str, data: bytes) -> None:
    """A file let fall on an element."""
    page.evaluate(
        """([target, name, base64]) => {
            const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "image/png" }));
            const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
            document.querySelector(target).dispatchEvent(new DragEvent("drop", options));
        }""",
        [target, name, base64.b64encode(data).decode()],
    )
