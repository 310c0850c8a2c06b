"""What it costs: the state of the service, and two hundred requests."""

import re
from typing import Any

import httpx
from playwright.sync_api import Page, expect

from tests.explorer.page import asked, settled
from tests.shipped import CGAN


def test_two_hundred_requests_are_sent_and_summarised(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#cost")
    expect(page.locator("#cost-last .stack")).to_be_visible()
    facts = page.locator("#cost-now div")
    expect(facts).to_have_count(9)
    told = dict(text.split("\n") for text in facts.all_inner_texts())
    status = httpx.get(f"{shipped.url}/status").json()
    generate = status["models"][CGAN]["operations"]["generate"]
    assert told[f"Maximum batch of {CGAN}"] == str(generate["max_batch"])
    assert told["Processes"] == str(status["processes"])
    assert not any(value in ("undefined", "NaN", "") for value in told.values())
    requests = asked(page, "/generate")
    page.get_by_label("Images per request").select_option("1")
    page.get_by_role("button", name="Send 200 at once").click()
    summary = page.locator("#cost-summary")
    expect(summary).to_contain_text("200 responses in", timeout=60_000)
    assert len(requests) == 200
    counts = page.locator("#cost-batches li").evaluate_all(
        "rows => rows.map(row => Number(row.lastChild.textContent))"
    )
    assert sum(counts) == 200
    counts = page.locator("#cost-latency li").evaluate_all(
        "rows => rows.map(row => Number(row.lastChild.textContent))"
    )
    assert sum(counts) == 200
    assert re.search(r"200 images took \d+ forward passes", summary.inner_text())


def test_leaving_while_two_hundred_are_sent_ends_it(page: Page, shipped: Any) -> None:
    page.goto(f"{shipped.url}/#cost")
    settled(page)
    page.route("**/generate?*", lambda route: None)  # never answered
    send = page.get_by_role("button", name="Send 200 at once")
    send.press("Enter")
    summary = page.locator("#cost-summary")
    expect(summary).to_have_text("Sending 200…")
    expect(send).to_be_focused()
    page.get_by_role("tab", name="Verify").click()
    page.get_by_role("tab", name="Cost").click()
    expect(summary).to_have_text("Not all 200 got a response.")
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
    page.goto(f"{shipped.url}/#cost")
    expect(page.locator("#cost-now")).to_contain_text("Responses", timeout=10_000)
