"""Shared by the explorer's tests: a browser, its pages, and services of other stores."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import TINY, TINY_GAN, MakeStore, Server
from tests.explorer.page import watched
from training.networks.configs import GanConfig, VaeConfig
from training.networks.header import Description

# What the tiny store lacks. Photos are in colour and of their own data, so no other model
# knows what they show.
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
PHOTOS = {"name": "photos", "licence": "CC0"}
RGB: dict[str, Any] = {"image_channels": 3, "image_size": 32}
DENSE = GanConfig(architecture="dense", latent_dim=4, channels=(8,))
OTHERS = {
    "photos-cgan-v1": Description(
        "cgan", replace(TINY_GAN, num_classes=10, **RGB), tuple(NAMES), PHOTOS
    ),
    "photos-vae-v1": Description(
        "vae", VaeConfig(latent_dim=3, channels=(4, 4), hidden=8, **RGB), (), PHOTOS
    ),
    "letters-cgan-v1": Description("cgan", replace(DENSE, num_classes=47), tuple(LETTERS)),
    "pets-cgan-v1": Description("cgan", replace(DENSE, num_classes=2), ("cat", "dog")),
    "signs-cgan-v1": Description(
        "cgan", replace(TINY_GAN, num_classes=10, **RGB), tuple("0123456789"), PHOTOS
    ),
    "tiny-gan-v2": Description("gan", DENSE),
    "tiny-vae-v2": Description(
        "vae", VaeConfig(architecture="dense", latent_dim=20, channels=(8,))
    ),
}
STORES = {
    "gan": ["tiny-gan-v1"],
    "vae": ["tiny-vae-v1"],
    "cgan": ["tiny-cgan-v1"],
    "photos": ["photos-cgan-v1", "photos-vae-v1"],
    "side by side": ["signs-cgan-v1", "photos-vae-v1", "tiny-cgan-v1", "tiny-vae-v1"],
    "letters": ["letters-cgan-v1", "tiny-vae-v1"],
    "several": [
        *("pets-cgan-v1", "tiny-cgan-v1", "tiny-gan-v1", "tiny-gan-v2", "tiny-vae-v1"),
        "tiny-vae-v2",
    ],
}

# A busy machine needs longer than Playwright's five seconds to start a page's modules.
expect.set_options(timeout=20_000)

Serve = Callable[[str], str]


@pytest.fixture(scope="session")
def serve(
    start_server: Any,
    make_store: MakeStore,
    tiny_store: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serve]:
    """``serve("photos")``: the address of a service with that store, started on first use."""
    urls: dict[str, str] = {}
    with ExitStack() as stack:

        def started(store: str) -> str:
            if store not in urls:
                folder = tmp_path_factory.mktemp(store)
                for name in STORES[store]:
                    source = tiny_store if name in TINY else make_store(OTHERS)
                    for path in source.glob(f"{name}.*"):
                        shutil.copy(path, folder)
                options = ("--models-dir", str(folder), "--workers", "1")
                urls[store] = stack.enter_context(start_server(*options)).url
            return urls[store]

        yield started


# The shell starts a page with a fifth of the work of the whole browser, which has windows to draw.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")


# What the browser needs, from the first of these tests that a process runs to the last.
_RUNNING = ExitStack()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Playwright's event loop would be in the way of other tests' own."""
    if nextitem is None or nextitem.path.parent != Path(__file__).parent:
        _RUNNING.close()


def pytest_sessionfinish() -> None:
    """For a session that ends early."""
    _RUNNING.close()


@cache
def _browser() -> Browser:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium; install the distribution's package chromium-headless-shell")
    _RUNNING.callback(_browser.cache_clear)
    playwright = _RUNNING.enter_context(sync_playwright())
    launched = playwright.chromium.launch(
        executable_path=path,
        args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    )
    _RUNNING.callback(launched.close)
    return launched


@pytest.fixture
def browser() -> Browser:
    """The distribution's Chromium, headless, one for all tests of a process."""
    return _browser()


@pytest.fixture
def page(browser: Browser, shipped: Server) -> Iterator[Page]:
    """A page for the shipped service; see ``watched``."""
    with watched(browser, shipped.url) as page:
        yield page


@pytest.fixture
def other_page(browser: Browser) -> Iterator[Page]:
    """A page for a service of the test's own, whose refusals the browser may log as errors."""
    opened = browser.new_page(reduced_motion="reduce")
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()
    assert not errors
