"""Speed: the state of the service, one request, and a race of many."""

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
from playwright.sync_api import Page, Route, expect

from tests.explorer.page import asked, settled, unfold
from tests.shipped import CGAN


def test_forty_eight_pictures_come_three_ways_and_are_summarised(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#speed")
    expect(page.locator("#speed-last .stack")).to_have_count(2)
    facts = page.locator("#speed-now div")
    expect(facts).to_have_count(8)
    unfold(page, "#speed-more")
    told = dict(text.split("\n") for text in facts.all_inner_texts())
    status = httpx.get(f"{shipped.url}/status").json()
    generate = status["models"][CGAN]["operations"]["generate"]
    assert told["Most pictures in one pass"] == str(generate["max_batch"])
    assert told["Processes"] == str(status["processes"])
    assert not any(value in ("undefined", "NaN", "") for value in told.values())
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


def test_the_state_of_the_service_is_shown_however_late_it_arrives(
    page: Page, shipped: Any
) -> None:
    page.add_init_script(
        """const honest = window.fetch;
        window.fetch = async (...asked) => {
            const late = `${asked[0]}`.includes("/status") ? 1500 : 0;
            await new Promise((done) => setTimeout(done, late));
            return honest(...asked);
        };"""
    )
    page.goto(f"{shipped.url}/#speed")
    expect(page.locator("#speed-now")).to_contain_text("Pictures drawn", timeout=10_000)
