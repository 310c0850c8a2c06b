"""``genserve serve`` and ``genserve import``: what the service and its training do, if they are
installed beside the client."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from genserve.cli.exits import FAILED, report

_DISTRIBUTION = "genserve"  # the service's
_PACKAGES = ("app", "training")  # what it imports of its own
_TRAINING_NEEDS = ("torch", "onnx", "onnxscript")


def serve(arguments: Sequence[str], path: Sequence[str] | None = None) -> int:
    """Run ``python -m app`` in this interpreter, with the service's own package app.

    On POSIX this process becomes the service, so signals and the exit status are the service's.

    Args:
        arguments: The service's options.
        path: Folders to search for the service; None = those of this interpreter.

    Returns:
        The exit status, if the service is not installed, or on Windows when it has ended.
    """
    return _run_package("app", arguments, path)


def import_generator(arguments: Sequence[str], path: Sequence[str] | None = None) -> int:
    """Run ``python -m training import``. As ``serve``, and training has to be installed."""
    folder = _service_folder(sys.path if path is None else path)
    if folder is not None and not all(find_spec(name) for name in _TRAINING_NEEDS):
        report(
            f"importing needs what training needs ({', '.join(_TRAINING_NEEDS)}); install it with "
            f"`{sys.executable} -m pip install 'genserve[train]'`, or in a checkout `make dev`"
        )
        return FAILED
    return _run_package("training", ["import", *arguments], path)


def _run_package(package: str, arguments: Sequence[str], path: Sequence[str] | None) -> int:
    folder = _service_folder(sys.path if path is None else path)
    if folder is None:
        report(
            f"the service is not installed for {sys.executable}; in a checkout of Genserve "
            "`pip install .` installs it, and `make serve` starts it in an environment of its own"
        )
        return FAILED
    environment = dict(os.environ)
    if not _is_found_in(folder):
        others = filter(None, [environment.get("PYTHONPATH")])
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), *others])
    # -P: a folder called app in the working directory is not what is meant.
    command = [sys.executable, "-P", "-m", package, *arguments]
    if os.name != "nt":
        os.execve(sys.executable, command, environment)  # noqa: S606  # no shell is wanted
    # Windows has no exec that waits for the end. Ctrl-C reaches the service by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return subprocess.call(command, env=environment)  # noqa: S603  # the user's own options


def _service_folder(path: Sequence[str]) -> Path | None:
    """The folder with the service's packages; None = not installed.

    Many projects have a package called app, so the record of the installation decides.
    """
    for distribution in metadata.distributions(name=_DISTRIBUTION, path=list(path)):
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):  # PEP 610
            return Path(url2pathname(urlsplit(origin["url"]).path))
        if "app/__main__.py" in {file.as_posix() for file in distribution.files or ()}:
            return Path(str(distribution.locate_file("")))
    return None


def _is_found_in(folder: Path) -> bool:
    """Whether the service's packages are the first of their names for ``python -P``."""
    path = sys.path if sys.flags.safe_path else sys.path[1:]
    for package in _PACKAGES:
        found = PathFinder.find_spec(package, path)
        if found is None or found.origin is None or Path(found.origin).parents[1] != folder:
            return False
    return True
