"""Speed: the state of the service, one request, and a race of many."""

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
from playwright.sync_api import Page, Route, expect

from tests.explorer.page import asked, settled


def test_forty_eight_pictures_come_three_ways_and_are_summarised(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#speed")
    expect(page.locator("#speed-last .stack")).to_have_count(2)
    requests = asked(page, "/generate")
    page.get_by_role("button", name="Start the race").click()
    expect(page.locator("#speed-summary")).to_contain_text("times as fast", timeout=60_000)
    assert len(requests) == 48 + 48 + 1
    for lane in ("single", "six", "whole"):
        expect(page.locator(f"#lane-{lane} img[src]")).to_have_count(48)
        expect(page.locator(f"#lane-{lane}-time")).to_have_text(re.compile(r"^\d+ ms$"))
        note = page.locator(f"#lane-{lane}-note").inner_text()
        assert re.search(r"request.* in the service, .*batch", note)


def test_the_services_time_is_told_apart_from_the_browsers(page: Page, shipped: Any) -> None:
    timing = 'queue;dur=1, batch;desc="1 of 1", compute;dur=2, encode;dur=3'

    picture = httpx.get(f"{shipped.url}/generate?seed=1").content
    item = {"image": base64.b64encode(picture).decode()}

    def answer(route: Route) -> None:
        asked_for = dict(parse_qsl(urlsplit(route.request.url).query))
        as_json = asked_for.get("format") == "json"
        items = {"items": [item] * int(asked_for.get("n", "1"))}
        route.fulfill(
            body=json.dumps(items).encode() if as_json else picture,
            content_type="application/json" if as_json else "image/png",
            headers={"Server-Timing": timing},
        )

    page.route("**/generate?*", answer)
    page.goto(f"{shipped.url}/#speed")
    settled(page)
    last = page.locator("#speed-last")
    expect(last.locator(".service")).to_contain_text("6.00 ms")
    rest = last.locator(".browser").inner_text()
    assert re.search(r"On the way and in your browser\s*[\d.]+ ms", rest)
    page.get_by_role("button", name="Start the race").click()
    note = page.locator("#lane-six-note")
    expect(note).to_contain_text("6.0 ms each in the service", timeout=60_000)


def test_leaving_during_the_race_ends_it(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#speed")
    settled(page)
    page.route("**/generate?*", lambda route: None)  # never answered
    send = page.get_by_role("button", name="Start the race")
    send.press("Enter")
    summary = page.locator("#speed-summary")
    expect(summary).to_have_text("Running…")
    expect(send).to_be_focused()
    page.get_by_role("tab", name="Verify").click()
    page.get_by_role("tab", name="Speed").click()
    expect(summary).to_have_text("The race was not finished.")
    expect(send).not_to_have_attribute("aria-disabled", "true")
