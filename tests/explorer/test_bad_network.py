"""When answers are late, or none, or strange: what is told, and how it goes on."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.explorer.conftest import Serve
from tests.explorer.page import (
    VIEWS,
    at_rest,
    broken,
    file_of,
    follow,
    look_at,
    png,
    settled,
    shows,
    slow,
    tile,
    watched,
)
from tests.shipped import CGAN


def refusing_once(page: Page, statuses: tuple[int, ...], wait: int) -> list[str]:
    """Each of the first view's requests is refused when it comes first, by these statuses in turn.

    Returns:
        The addresses refused, as they come.
    """
    refused: list[str] = []

    def refuse(route: Route) -> None:
        if route.request.url in refused:
            route.continue_()
            return
        status = statuses[len(refused) % len(statuses)]
        refused.append(route.request.url)
        problem = {"title": "The service has more to do than it can in time", "status": status}
        headers = {"Retry-After": str(wait), "Content-Type": "application/problem+json"}
        route.fulfill(status=status, headers=headers, body=json.dumps(problem))

    page.route("**/generate?*format=json", refuse)
    return refused


def test_an_overload_is_shown_and_retried(other_page: Page, shipped: Any) -> None:
    page = other_page
    page.goto(f"{shipped.url}/#look?model={CGAN}")
    tile(page, 0)
    settled(page)
    refused = refusing_once(page, (503,), wait=1)
    page.get_by_role("button", name="24 others").click()
    expect(page.locator("#notice")).to_contain_text("The service is overloaded. Trying again in 1")
    settled(page)
    expect(page.locator("#notice")).to_be_hidden()
    assert len(refused) == 1  # asked again and answered
    expect(page.locator(".tile img.loading")).to_have_count(0)


def test_an_error_stays_while_something_else_waits_out_an_overload(
    other_page: Page, shipped: Any
) -> None:
    """Its retry is there when the wait is over."""
    page = other_page
    page.goto(f"{shipped.url}/#look?model={CGAN}")
    tile(page, 0)
    settled(page)
    refusing_once(page, (503,), wait=1)
    wall = "**/generate?*seeds=*-*"  # many seeds
    page.route(wall, broken)
    page.get_by_role("button", name="24 others").click()
    failed = page.locator("#notice.error")
    expect(failed).to_contain_text("Internal error: it is logged")
    with page.expect_response(lambda answer: answer.status == 503):
        page.get_by_role("button", name="Another hand").click()
    settled(page)
    expect(failed).to_contain_text("Internal error: it is logged")
    page.unroute(wall)
    failed.get_by_role("button", name="Try again").click()
    expect(page.locator("#notice")).to_be_hidden()


def test_an_overload_is_read_out_once(other_page: Page, shipped: Any) -> None:
    page = other_page
    page.goto(f"{shipped.url}/#look?model={CGAN}")
    tile(page, 0)
    settled(page)
    # What a screen reader is told: changes of live regions but for what is hidden from it.
    page.evaluate(
        """() => {
            window.told = [];
            const said = (region) => {
                const copy = region.cloneNode(true);
                const out = copy.querySelectorAll("[aria-hidden=true], [hidden]");
                for (const element of out) element.remove();
                return copy.textContent.trim();
            };
            const look = (records) => {
                for (const { target, type } of records) {
                    const element = target.nodeType === 1 ? target : target.parentElement;
                    const region = element?.closest("[role=status]");
                    const unheard = type !== "attributes" && element.closest("[aria-hidden=true]");
                    if (!region || unheard) continue;
                    const text = said(region);
                    if (text && told[told.length - 1] !== text) told.push(text);
                }
            };
            const what = { subtree: true, childList: true, characterData: true, attributes: true };
            new MutationObserver(look).observe(document.body, what);
        }"""
    )
    refusing_once(page, (503, 429), wait=3)  # of the service, or of this page's share
    page.get_by_role("button", name="24 others").click()
    expect(page.locator("#notice")).to_contain_text("Trying again in 3 s")
    expect(page.locator("#notice")).to_contain_text("Trying again in 2 s")  # seen
    settled(page)
    assert page.evaluate("told") == ["The service is overloaded. Trying again"]


def test_a_service_that_is_gone_is_shown_and_can_be_retried(
    other_page: Page, start_server: Any, tiny_store: Path
) -> None:
    page = other_page
    with start_server("--models-dir", str(tiny_store)) as server:
        page.goto(server.url)
        tile(page, 0)
        settled(page)
        gone = page.url
        server.stop()
        page.get_by_role("button", name="24 others").click()
        notice = page.locator("#notice")
        expect(notice).to_contain_text("The service does not respond")
        again = f"--models-dir {tiny_store} --port {urlsplit(gone).port}".split()
        with start_server(*again):
            page.get_by_role("button", name="Try again").click()
            tile(page, 5)
            settled(page)
            expect(notice).to_be_hidden()


def test_a_failure_under_an_open_dialog_is_shown_and_retried_there(
    other_page: Page, shipped: Any
) -> None:
    page = other_page
    look_at(page, shipped.url, "label=7&seeds=1-6")
    page.route("**/generate?*", broken)
    tile(page, 1).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("#notice")).to_contain_text("Internal error: it is logged")
    large = page.locator("#detail-image")
    expect(large).not_to_have_class(re.compile("loading"))
    page.unroute("**/generate?*")
    dialog.get_by_role("button", name="Try again").click()  # it is not covered by anything
    expect(page.get_by_role("img", name=f"A 7 with seed 2 from {CGAN}")).to_be_visible()
    assert page.evaluate("document.activeElement.id") == "detail"
    expect(page.locator("#notice")).to_be_hidden()
    page.route("**/generate?*", broken)
    dialog.get_by_role("button", name="4", exact=True).click()
    expect(dialog.locator("#notice")).to_contain_text("Internal error: it is logged")
    assert large.get_attribute("src") is None  # not the 7 under the 4's name
    page.keyboard.press("Escape")
    expect(page.locator("main #notices")).to_have_count(1)  # back where it was


@pytest.mark.parametrize(
    ("kind", "body"), [("text/html", "<p>Please log in"), ("application/json", '{"items": [{"im')]
)
def test_an_answer_that_cannot_be_read_is_no_fault_of_the_page(
    other_page: Page, shipped: Any, kind: str, body: str
) -> None:
    page = other_page
    page.goto(f"{shipped.url}/#look?model={CGAN}")
    settled(page)
    page.route("**/generate?*", lambda route: route.fulfill(content_type=kind, body=body))
    page.get_by_role("button", name="24 others").click()
    expect(page.locator("#notice")).to_contain_text("No valid response: The response is not JSON")
    # Nothing is on its way, and nothing looks as if it were.
    expect(page.locator(".tile .loading")).to_have_count(0)
    page.get_by_role("tab", name="Models").click()
    expect(page.locator("#notice")).to_contain_text("The response is not an image")
    expect(page.locator("#model-cards .loading")).to_have_count(0)
    page.unroute("**/generate?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("img", name=f"16 samples of {CGAN}")).to_be_visible()


# In each view


API = re.compile(r"/(generate|encode|decode|reconstruct|interpolate|traverse|verify|status)\b")
ASKING = [view for view in VIEWS if view != "verify"]  # that one asks when it is given a picture


def test_late_answers_are_waited_for_and_shown(browser: Any, serve: Serve) -> None:
    url = serve("several")
    with watched(browser, url) as page:
        page.add_init_script(slow(150))
        for view in ASKING:
            follow(page, url, view)
            expect(page.locator("#notice")).to_be_hidden()
            assert page.locator(shows(view)).count() > 0


def broken_html(route: Route) -> None:
    body = "<!doctype html><h1>Internal</h1><img src=x onerror='window.pwned = 1'>"
    route.fulfill(status=500, content_type="text/html", body=body)


def shut(route: Route) -> None:
    route.abort("connectionreset")


BREAK: dict[str, tuple[Callable[[Route], None], str]] = {
    "cut": (shut, "No response: The service does not respond. Is it running?"),
    "html": (broken_html, "Status 500"),
}


@pytest.mark.parametrize("way", BREAK)
def test_a_failure_is_shown_in_each_view_and_a_retry_helps(
    browser: Any, serve: Serve, way: str
) -> None:
    url = serve("several")
    answer, sentence = BREAK[way]
    with watched(browser, url, refusals=True) as page:
        for view in ASKING:
            follow(page, url, "verify")
            page.route(API, answer)
            page.get_by_role("tab", name=re.compile(view, re.IGNORECASE)).click()
            notice = page.locator("#notice")
            expect(notice).to_contain_text(sentence)
            at_rest(page)
            assert page.evaluate("window.pwned") is None
            assert "<" not in notice.inner_text()
            page.unroute(API)
            page.get_by_role("button", name="Try again").click()
            expect(notice).to_be_hidden()
            at_rest(page)
            expect(page.locator(shows(view)).first).to_be_visible()


def test_offline_is_shown_in_each_view(browser: Any, serve: Serve) -> None:
    url = serve("several")
    with watched(browser, url, refusals=True) as page:
        follow(page, url, "verify")
        page.context.set_offline(True)
        for view in ASKING:
            page.get_by_role("tab", name=re.compile(view, re.IGNORECASE)).click()
            expect(page.locator("#notice")).to_contain_text("The service does not respond")
            at_rest(page)
        page.get_by_role("tab", name="Verify").click()
        expect(page.locator("#notice")).to_be_hidden()  # of what is left behind
        page.set_input_files("#verify-file", file_of("own.png", png(28, 28)))
        expect(page.locator("#notice")).to_contain_text("The service does not respond")
        at_rest(page)
        page.context.set_offline(False)
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#verify-result")).to_contain_text("The picture has no recipe")


def test_an_overload_passes_in_each_view(browser: Any, serve: Serve) -> None:
    url = serve("several")
    refused: set[tuple[str, bytes]] = set()

    def refuse_once(route: Route) -> None:
        # A form gets another boundary each time that it is sent.
        body = re.sub(rb"WebKitFormBoundary\w+", b"", route.request.post_data_buffer or b"")
        request = (route.request.url, body)
        if request in refused or urlsplit(route.request.url).path == "/status":
            route.continue_()
            return
        refused.add(request)
        problem = {"title": "The service has more to do than it can in time", "status": 503}
        headers = {"Retry-After": "1", "Content-Type": "application/problem+json"}
        route.fulfill(status=503, headers=headers, body=json.dumps(problem))

    with watched(browser, url, refusals=True) as page:
        page.clock.install()
        page.goto(f"{url}/#verify")
        expect(page.locator("#verify-drop")).to_be_visible()
        page.route(API, refuse_once)
        for view in ASKING:
            page.get_by_role("tab", name=re.compile(view, re.IGNORECASE)).click()
            expect(page.locator("#notice")).to_contain_text("The service is overloaded")
            for _ in range(60):
                page.clock.run_for(500)
                if not page.locator("body[data-working]").count():
                    break
            at_rest(page)
            expect(page.locator("#notice")).to_be_hidden()
        assert len(refused) >= 10
