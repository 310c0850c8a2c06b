"""What the explorer's tests share: gestures on the page, what it then shows, answers that are late
or bad, files."""

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from PIL import Image as PillowImage
from playwright.sync_api import ConsoleMessage, FilePayload, Locator, Page, Request, Route, expect

PNG = "image/png"
VIEWS = ("look", "draw", "write", "morph", "how", "speed", "models", "verify")


def pixels(png: bytes) -> Any:
    with PillowImage.open(BytesIO(png)) as picture:
        return np.asarray(picture.convert("L"))


def red(png: bytes) -> Any:
    """The red of a picture's pixels, (H, W): what ``shown`` gives, in colour too."""
    with PillowImage.open(BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))[:, :, 0]


def shown(image: Locator) -> Any:
    """The red of an <img>'s pixels, in its own size, once it is loaded."""
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


def is_shown(image: Locator) -> None:
    expect(image).to_be_visible()
    assert image.evaluate("async image => { await image.decode(); return image.naturalWidth; }") > 0


def wait_for_body(page: Page, matching: str) -> None:
    """Wait until the body matches a selector. It is noticed at once: ``expect`` looks again after
    ever longer pauses, up to a second."""
    fits = "matching => document.body?.matches(matching)"
    page.wait_for_function(fits, arg=matching, polling=50)


def settled(page: Page) -> None:
    """Wait until nothing is under way."""
    wait_for_body(page, ":not([data-working])")


def at_rest(page: Page) -> None:
    """Nothing is under way, and nothing looks as if it were."""
    settled(page)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    expect(page.locator(".loading:visible")).to_have_count(0)
    expect(page.locator("#progress")).to_be_hidden()
    assert page.evaluate("document.getAnimations().length") == 0


def written(page: Page) -> None:
    """Wait until nothing is under way and the address has the state of the view."""
    settled(page)
    wait_for_body(page, ":not([data-unsaved])")


def shows(view: str) -> str:
    """What a view shows once it is there: pictures, or bars of a request's time."""
    return "#speed-last .stack" if view == "speed" else f"#view-{view} img:visible"


def unfold(page: Page, details: str) -> None:
    """Open what is folded for programmers."""
    page.locator(details).evaluate("one => (one.open = true)")


def nothing_overflows(page: Page) -> None:
    width, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width <= seen, f"{page.url} is {width} pixels wide on {seen}"


def tile(page: Page, index: int) -> Locator:
    """A picture of the first view, as a button, once it is there."""
    found = page.locator(".tile").nth(index)
    expect(found.locator("img:not(.loading)")).to_be_visible()
    return found


def look_at(page: Page, url: str, query: str) -> None:
    """The first view with these settings; the truncation is 1 unless they have another."""
    page.goto(f"{url}/#look?{query}{'' if 'truncation=' in query else '&truncation=1'}")
    tile(page, 0)
    settled(page)


def asked(page: Page, path: str) -> list[Request]:
    """The requests to a path, from now on."""
    found: list[Request] = []

    def note(request: Request) -> None:
        if urlsplit(request.url).path == path:
            found.append(request)

    page.on("request", note)
    return found


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


def slow(milliseconds: int) -> str:
    """A script by which each answer of the service comes so much later."""
    return f"""{{
        const send = window.fetch;
        window.fetch = async (...request) => {{
            await new Promise((resolve) => setTimeout(resolve, {milliseconds}));
            return send(...request);
        }};
    }}"""


def broken(route: Route) -> None:
    """Something went wrong in the service."""
    problem = {"title": "Internal error", "detail": "it is logged", "status": 500}
    route.fulfill(status=500, content_type="application/problem+json", body=json.dumps(problem))


@contextmanager
def watched(browser: Any, url: str, *, refusals: bool = False, **context: Any) -> Iterator[Page]:
    """A page that throws nothing, logs no error and sends requests to no other host. Nothing moves
    on it by itself, unless the context's options want it.

    Args:
        browser: Opens the page in a context of its own.
        url: Of the only host.
        refusals: The service refuses something in this test, which the browser itself logs.
        context: Options of the context.
    """
    opened = browser.new_context(**{"reduced_motion": "reduce", **context})
    page = opened.new_page()
    errors: list[str] = []
    hosts: set[str] = set()

    def listen(message: ConsoleMessage) -> None:
        logged_by_browser = refusals and message.text.startswith("Failed to load resource")
        if message.type == "error" and not logged_by_browser:
            errors.append(message.text)

    def note(request: Request) -> None:
        hosts.add(urlsplit(request.url).netloc)

    page.on("console", listen)
    page.on("pageerror", lambda error: errors.append(f"thrown: {error}"))
    page.on("request", note)
    try:
        yield page
    finally:
        opened.close()
    assert errors == []
    assert hosts - {""} == {urlsplit(url).netloc}  # data: and blob: have none


def follow(page: Page, url: str, view: str, query: str = "") -> Locator:
    """The view of an address, at rest; its panel. A page that is loaded goes on, as when a link is
    pasted over its address: a view that it shows for the first time is as new as after a load, at a
    fraction of the work."""
    page.goto(f"{url}/#{view}{'?' + query if query else ''}")
    panel = page.locator(f"#view-{view}")
    expect(panel).to_be_visible()
    at_rest(page)
    return panel


# axe-core, which each document takes once, and what it finds.
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()


def axe_finds(page: Page) -> list[Any]:
    """What breaks axe-core's rules (WCAG 2 A and AA, best practices), with its elements."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    assert len(found["passes"]) > 20  # it did look
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]


def open_draw(page: Page, shipped: Any) -> None:
    """The view with its first digit encoded and the whole map drawn."""
    page.goto(f"{shipped.url}/#draw")
    expect(page.get_by_role("img", name="Reconstruction of your image")).to_be_visible()
    expect(page.locator("#plane-axes option")).not_to_have_count(0)
    settled(page)


def draw_a_seven(page: Page) -> None:
    draw_on(page, "#pad")


def draw_on(page: Page, pad: str) -> None:
    """A seven on a pad."""
    box = page.locator(pad).bounding_box()
    assert box
    points = [(0.3, 0.25), (0.5, 0.25), (0.72, 0.25), (0.6, 0.5), (0.5, 0.7), (0.45, 0.85)]
    for index, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if index == 0:
            page.mouse.down()
    page.mouse.up()


def middle_of(element: Locator, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
    element.scroll_into_view_if_needed()
    box = element.bounding_box()
    assert box
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def latent_nats(shipped: Any) -> list[float]:
    """KL by latent of the model that encodes."""
    found = httpx.get(f"{shipped.url}/models").json()
    card = next(card for card in found["models"] if card["name"] == found["default_encoder"])
    return list(card["metrics"]["kl_per_dimension_nats"])


def liveliest(shipped: Any) -> list[int]:
    """Latents, most KL first."""
    kl = latent_nats(shipped)
    return sorted(range(len(kl)), key=lambda index: -kl[index])


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


# It would run if the page took a text for HTML.
MARKUP = "<img src=x onerror='window.pwned = 1'>"


def png(width: int, height: int) -> bytes:
    """A black picture of one bit a pixel: a hundred million pixels take 12 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return len(data).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")

    packed = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    lines = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", lines), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def file_of(name: str, data: bytes, media: str = "image/png") -> FilePayload:
    return FilePayload(name=name, mimeType=media, buffer=data)
