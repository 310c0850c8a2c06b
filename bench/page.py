"""The explorer in a browser that has not seen it: when it can be used, and when it is whole."""

import shutil
from argparse import Namespace
from contextlib import ExitStack

from bench import rig
from bench.children import BenchError
from bench.report import Result, Samples
from bench.rounds import rounds

# What is waited for is looked at before every frame. Cells are there once what they do is.
_USABLE = "() => document.querySelector('#board-table img') && performance.now()"
_WHOLE = """() => {
  const digits = [...document.querySelectorAll('#board-table img')];
  return digits.every((i) => i.complete && i.naturalWidth && !i.classList.contains('loading'))
    && performance.now();
}"""
_LIMIT_MS = 30_000


def run(args: Namespace) -> Result:
    """Milliseconds from the start of the navigation, by the page's own clock.

    Raises:
        BenchError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise BenchError("no Chromium; install the distribution's package, chromium")
    samples: Samples = {}
    with ExitStack() as stack:
        ours = rig.Service(stack, rig.folder(stack), args)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        stack.callback(browser.close)
        for number, _, _ in rounds(["page"], args):
            context = browser.new_context()  # nothing cached
            page = context.new_page()
            page.goto(f"{ours.url}/", wait_until="commit")
            found = {
                "can be used, ms": page.wait_for_function(_USABLE, timeout=_LIMIT_MS).json_value(),
                "board is whole, ms": page.wait_for_function(
                    _WHOLE, timeout=_LIMIT_MS
                ).json_value(),
            }
            context.close()
            for name, value in found.items() if number else ():
                samples.setdefault(name, []).append(value)
    return Result("page", {"model": ours.model}, samples)
