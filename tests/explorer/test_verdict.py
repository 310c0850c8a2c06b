"""What Draw says of a picture: which label it looks like, and whether the model knows such ones."""

import base64
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, Route, expect

from app.formats.png import to_png
from tests.explorer.page import open_draw
from training.data.sources import data_spec, load_data


@pytest.mark.parametrize(
    ("fit", "verdict", "why"),
    [
        (
            None,
            "This looks most like a 3.",
            r"those of 12 pictures of the label 3, the dots below\.$",
        ),
        (0.82, "This looks most like a 3.", "It fits better than 82 of 100 pictures"),
        (0.004, "This is no digit that I know.", "fewer than one fits so badly"),
    ],
)
def test_it_is_said_what_a_picture_looks_like_and_whether_the_model_knows_it(
    page: Page, shipped: Any, fit: float | None, verdict: str, why: str
) -> None:
    def answer(route: Route) -> None:
        response = route.fetch()
        told = response.json()
        for item in told["items"]:
            item["fit"] = fit
        route.fulfill(response=response, json=told)

    page.route("**/encode?*", answer)
    open_draw(page, shipped)  # with a first 3
    expect(page.locator("#draw-verdict")).to_have_text(verdict)
    expect(page.locator("#draw-why")).to_have_text(re.compile(why))
    assert page.locator("#draw-fit").is_visible() == (fit is not None)


def test_two_labels_are_named_where_neither_is_clearly_nearer(page: Page, shipped: Any) -> None:
    open_draw(page, shipped)
    judge = """async ([x, moved]) => {
        const { showVerdict } = await import("/static/verdict.js");
        const places = [["3", 0], ["3", 1], ["8", 8], ["8", 9]];
        const points = places.map(([label, x]) => ({ label, mu: [x, 0] }));
        showVerdict({ points, labels: ["3", "8"], z: [x, 0], fit: null, moved });
    }"""
    said = page.locator("#draw-verdict")
    for x, moved, text in (
        (2, False, "This looks most like a 3."),
        (4.4, False, "This could be a 3 or an 8."),
        (4.6, True, "The point lies between an 8 and a 3."),
        (7, True, "The point lies near an 8."),
    ):
        page.evaluate(judge, [x, moved])
        expect(said).to_have_text(text)


def test_one_label_alone_is_named_where_it_is_mostly_right(
    page: Page, shipped: Any, mnist_root: Path
) -> None:
    """Of 400 test digits; ``-s`` prints the shares that are right."""
    _, digits = load_data(data_spec("mnist", mnist_root))
    labels = digits.labels[:400].tolist()
    files = [base64.b64encode(to_png(image)).decode() for image in digits.images[:400, 0].numpy()]
    latents = []
    for first in range(0, 400, 16):
        body = {"images": files[first : first + 16]}
        items = httpx.post(f"{shipped.url}/encode", json=body).json()["items"]
        latents += [item["mu"] for item in items]
    open_draw(page, shipped)
    said = page.evaluate(
        """async (latents) => {
            const { showVerdict } = await import("/static/verdict.js");
            const { encodedImages } = await import("/static/encoded.js");
            const { encoder } = await import("/static/models.js");
            const points = await encodedImages(encoder(), new AbortController().signal);
            return latents.map((z) => {
                showVerdict({ points, labels: ["3"], z, fit: null, moved: false });
                return document.getElementById("draw-verdict").textContent;
            });
        }""",
        latents,
    )
    named = [[int(digit) for digit in re.findall(r"\d", text)] for text in said]
    told = list(zip(named, labels, strict=True))
    alone = [names[0] == label for names, label in told if len(names) == 1]
    nearer = [names[0] == label for names, label in told if len(names) == 2]
    either = [label in names for names, label in told if len(names) == 2]
    alone_right, nearer_right, either_right = map(np.mean, (alone, nearer, either))
    print(f"{len(alone)} alone: {alone_right:.2f}; {nearer_right:.2f}, either: {either_right:.2f}")
    assert len(alone) > 300
    assert alone_right > 0.9
    assert nearer_right < alone_right - 0.2
    assert either_right > nearer_right + 0.1
