"""Links that nobody made."""

from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.explorer.conftest import Serve
from tests.explorer.page import MARKUP, VIEWS, at_rest, follow, nothing_overflows, watched

FORGED = quote(MARKUP)
HUGE = "9" * 400
LONG = "A" * 60_000
LAST = 2**53 - 1
CGAN, GAN = "tiny-cgan-v1", "tiny-gan-v1"
ENDLESS = ",".join(map(str, range(20_000)))


def each(name: str, *texts: object) -> list[str]:
    return [f"{name}={text}" for text in texts]


LINKS: dict[str, list[str]] = {
    "look": [
        *each("seeds", "NaN", "-1", "9-1", HUGE, f"0-{LAST}", LAST, LAST + 1, ENDLESS, LONG),
        *each("seeds", "1,1,1", f"{LAST - 2}-{LAST}", "1?model=x", "%00"),
        *each("truncation", "NaN", "-1", "2", "1e400", "0.123456", ""),
        *each("label=3&pick", "-1", HUGE, LAST, FORGED),
        *each("pick=1&label", "none", FORGED, LONG),
        *("pick=1", "label=3", f"seeds=1&seeds=2&model={CGAN}&model=x", "%E0%A4%A", "%"),
        *("=&=&==&&&", "__proto__=1&constructor=2", f"x={LONG}"),
        *each("model", "none", FORGED, f"{CGAN}@zzz", "@", LONG),
    ],
    "draw": [
        *each("z", "NaN,NaN,NaN", "1e400,0,0", "1e308,0,0", "99,-99,0", "1,2", ",,", "0,0,0&z=1"),
        *each("z", ",".join(["0"] * 500)),
        *each("strokes", "!!!", "A" * 20_000, "%00", "__8", "BQ", "AQID", FORGED, "%E0%A4%A"),
        *each("from", f"{CGAN},3,-1,1", f"{CGAN},3,{HUGE},1", f"{GAN},,1,1", ",,,"),
        *each("from", f"{CGAN},3,1,NaN", f"{CGAN},3,1,-5", f"{CGAN},3,1,1e400"),
        *each("from", f"{CGAN},99,1,1", f"{CGAN},{FORGED},1,1", f"{GAN},3,1,1"),
        *each("from", "none,3,1,1", FORGED, LONG, "pets-cgan-v1,cat,1,1"),
        *each("plane", "none", FORGED, "__proto__"),
    ],
    "morph": [
        *each("a", f"{CGAN},3,-1,1", f"{CGAN},3,{HUGE},1", f"{CGAN},3,1,NaN", ",,,"),
        *each("a", f"{CGAN},99,1,1", f"{CGAN},{FORGED},1,1", "none,1,1,1", FORGED, LONG),
        *each("b", "strokes:", "strokes:!!!", f"strokes:{LONG}", "strokes:AQID"),
        *each("steps", "0", "9999999", "NaN", "-1"),
        *each("method", "none", FORGED),
        *each("at", "-1", "999999999", HUGE, "NaN", "%E0%A4%A"),
        *(f"a={GAN},,1,1&b={GAN},,2,1", "a=tiny-vae-v1,,1,1&b=tiny-vae-v2,,1,1"),
    ],
    "write": [
        *each("text", FORGED, LONG, "", "%20", "%F0%9F%98%80", "%00%01", "%E0%A4%A", "1" * 17),
        *each("seed", "-1", HUGE, "NaN", LAST),
        *each("hands", "-1", HUGE, LAST),
        *each("truncation", "-1", "1e400", "NaN"),
        *each("model", "none", GAN, "pets-cgan-v1"),
    ],
    "how": [
        *each("label", "none", FORGED, LONG),
        *each("seed", "-1", "NaN", HUGE, LAST),
        "%",
    ],
    "speed": ["each=9999", f"x={FORGED}", "%E0%A4%A", f"x={LONG}"],
    "models": [*each("seed", "-1", "NaN", HUGE, LAST, LAST - 15, FORGED, LONG), "%"],
    "verify": [f"x={FORGED}", "file=/etc/passwd", "%E0%A4%A", f"x={LONG}"],
}


def nothing_came_of(page: Page) -> None:
    assert page.evaluate("window.pwned") is None
    assert page.locator("[onerror]").count() == 0
    nothing_overflows(page)


@pytest.mark.parametrize("view", VIEWS)
def test_forged_links_open_the_view_and_do_nothing_else(
    browser: Any, serve: Serve, view: str
) -> None:
    """The first by a load of the page, the others as if pasted over its address."""
    url = serve("several")
    with watched(browser, url) as page:
        for query in LINKS[view]:
            panel = follow(page, url, view, query)
            expect(page.locator(f"#tab-{view}")).to_have_attribute("aria-selected", "true")
            nothing_came_of(page)
            # There is something to see, or it is said why not.
            something = "img:visible, .empty:visible, input:visible, .stack:visible"
            seen = panel.locator(something).count()
            assert seen or page.locator("#notice").is_visible()


NO_VIEWS = ["none", FORGED, "__proto__", "constructor", "toString", "?", "LOOK", "board", LONG]


def test_a_view_that_there_is_not_is_the_first(browser: Any, serve: Serve) -> None:
    url = serve("several")
    with watched(browser, url) as page:
        for view in [*NO_VIEWS, "%E0%A4%A"]:
            page.goto(f"{url}/#{view}")
            expect(page.locator(".tile img").first).to_be_visible()
            at_rest(page)
            nothing_came_of(page)
            follow(page, url, "verify")
            expect(page.locator("#view-look")).to_be_hidden()


@pytest.mark.parametrize(
    ("link", "sentence"),
    [
        ("look?model=none", "The link was made with none. Available: pets-cgan-v1, tiny-cgan-v1"),
        (f"look?model={FORGED}", f"The link was made with {MARKUP}. Available:"),
        (f"look?model={CGAN}@zzz", f"another checkpoint of {CGAN} than the one served now"),
        ("write?model=none", "The link was made with none"),
        ("write?model=tiny-gan-v1", "no labels of one character; models that have: tiny-"),
    ],
)
def test_a_link_to_what_is_not_served_says_so_and_leads_on(
    browser: Any, serve: Serve, link: str, sentence: str
) -> None:
    url = serve("several")
    with watched(browser, url) as page:
        page.goto(f"{url}/#{link}")
        notice = page.locator("#notice")
        expect(notice).to_contain_text(sentence)
        at_rest(page)
        page.get_by_role("button", name="Open without the link's settings").click()
        at_rest(page)
        expect(notice).to_be_hidden()
        assert page.locator("[role=tabpanel] img:visible").count() > 0


def test_what_a_link_asks_for_in_vain_is_said(browser: Any, serve: Serve) -> None:
    url = serve("several")
    with watched(browser, url) as page:
        for view, query, names in (
            ("look", "seeds=NaN&truncation=2", "seeds, truncation"),
            ("look", "model=tiny-cgan-v1&pick=-1&label=3", "pick"),
            ("look", "model=tiny-cgan-v1&pick=1&label=3&pick_truncation=x", "pick_truncation"),
            ("draw", "z=1,2&plane=none", "z, plane"),
            ("draw", "strokes=!!!", "strokes"),
            ("draw", "plane=none", "plane"),
            ("morph", "steps=0&method=none&at=-1", "steps, method, at"),
            ("write", "seed=-1&hands=x&truncation=%20", "seed, hands, truncation"),
            ("how", "label=none&seed=NaN", "label, seed"),
            ("models", "seed=NaN", "seed"),
        ):
            follow(page, url, view, query)
            told = f"The link has no valid value for {names},"
            expect(page.locator("#notice")).to_contain_text(told)
            follow(page, url, "verify")  # the next is told anew
            expect(page.locator("#notice")).to_be_hidden()
