"""The explorer in a browser that has not seen it: when it can be used, and when it is whole."""

import shutil
from argparse import Namespace
from contextlib import ExitStack

from bench import rig
from bench.children import BenchError
from bench.report import Result, Samples
from bench.rounds import rounds

# What is waited for is looked at before every frame. Pictures are buttons, there with their action.
_USABLE = "() => document.querySelector('.tile') && performance.now()"
_WHOLE = """() => {
  const digits = [...document.querySelectorAll('.tile img')];
  const whole = (i) => i.complete && i.naturalWidth && !i.classList.contains('loading');
  return digits.length && digits.every(whole) && performance.now();
}"""
_LIMIT_MS = 30_000


def run(args: Namespace) -> Result:
    """Milliseconds from the start of the navigation, by the page's own clock.

    Raises:
        BenchError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    found = map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser"))
    path = next(filter(None, found), None)
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
            times = {
                "can be used, ms": page.wait_for_function(_USABLE, timeout=_LIMIT_MS).json_value(),
                "wall is whole, ms": page.wait_for_function(_WHOLE, timeout=_LIMIT_MS).json_value(),
            }
            context.close()
            for name, value in times.items() if number else ():
                samples.setdefault(name, []).append(value)
    return Result("page", {"model": ours.model}, samples)
