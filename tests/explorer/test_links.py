"""Links: what they hold, and those that cannot be followed."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from app.seeds import MAX_SEED
from tests.explorer.page import asked, settled, tile
from tests.shipped import CGAN, GAN, SIGNS


@pytest.mark.parametrize(
    ("view", "end", "said"),
    [
        ("morph", "a={cgan}@000000000000,3,2,1", "another checkpoint of {cgan}"),
        ("morph", "b=gone-v1@000000000000,3,2,1", "made with gone-v1"),
        ("morph", "a={cgan},x,2,1", "{cgan} does not have; its labels: 0, 1"),
        ("morph", "b={gan},3,2,1", "{gan} does not have; it is unconditional"),
        ("morph", "a=strokes:!", "a drawing that cannot be read"),
        ("morph", "a=signs,x,2,1", "{signs} does not have; its labels: 0, 1"),
        ("draw", "from={cgan}@000000000000,3,1,1", "another checkpoint of {cgan}"),
    ],
)
def test_an_invalid_link_is_reported_and_can_be_left(
    page: Page, shipped: Any, view: str, end: str, said: str
) -> None:
    names = {"cgan": CGAN, "gan": GAN, "signs": SIGNS}
    page.goto(f"{shipped.url}/#{view}?{end.format(**names)}")
    notice = page.locator("#notice")
    expect(notice).to_contain_text(said.format(**names))
    page.get_by_role("button", name="Open without the link's settings").click()
    image = page.locator("#morph-frame" if view == "morph" else "#decoded")
    expect(image).to_be_visible()
    settled(page)
    expect(notice).to_be_hidden()
    assert end.split("=")[1][:12] not in page.url


def test_the_link_of_a_label_with_a_comma_is_read(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#verify")
    expect(page.locator("#verify-drop")).to_be_visible()
    told = page.evaluate(
        """async () => {
            const served = await import("/static/models.js");
            const [model] = served.conditional();
            model.labels.push("a, b");
            const name = served.nameOf({ model, label: "a, b", seed: 7, truncation: 0.5 });
            const { label, seed, truncation } = served.partsOfName(name);
            return { label, seed, truncation };
        }"""
    )
    assert told == {"label": "a, b", "seed": 7, "truncation": 0.5}


def test_points_in_links_are_looked_at(page: Page, shipped: Any) -> None:
    sent = asked(page, "/decode")
    page.goto(f"{shipped.url}/#draw?z={','.join(['1e9'] * 64)}")
    expect(page.locator("#decoded-caption")).to_have_text("Drawn again from its numbers")
    settled(page)
    expect(page.locator("#notice")).to_contain_text("The link has no valid value for z,")
    assert (
        max(abs(value) for one in sent for value in json.loads(one.post_data or "")["z"][0]) < 100
    )


def test_the_last_seeds_there_are(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#look?label=1&seeds={MAX_SEED - 1}-{MAX_SEED}")
    expect(tile(page, 1).locator("img")).to_have_attribute("alt", f"1, seed {MAX_SEED}")
    tile(page, 0).click()
    after = page.get_by_role("button", name="Next seed")
    after.click()
    expect(page.get_by_role("dialog", name=f"1, seed {MAX_SEED}")).to_be_visible()
    expect(after).to_be_disabled()
    expect(page.get_by_role("button", name="Previous seed")).to_be_focused()
    page.goto(f"{shipped.url}/#write?text=7&seed={MAX_SEED}&hands={MAX_SEED - 1}")
    expect(page.locator("#write-hands button")).to_have_count(2)
    expect(page.get_by_role("img", name=f"7 with seed {MAX_SEED}")).to_be_visible()
    page.goto(f"{shipped.url}/#models?seed={MAX_SEED}")
    sheet = page.get_by_role(
        "img", name=f"16 samples of {CGAN}, seeds {MAX_SEED - 15} to {MAX_SEED}"
    )
    expect(sheet).to_be_visible()
    settled(page)
    expect(page.locator("#notice")).to_be_hidden()
