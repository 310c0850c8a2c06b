"""Every block of docs/tour.md, and those of the README that ask a service, run in order against the
shipped one."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
TOUR, README = ROOT / "docs/tour.md", ROOT / "README.md"
HOST = "127.0.0.1:8000"  # as both have it


class Block(NamedTuple):
    line: int  # of its first line in the document
    language: str
    code: str
    prints: str | None  # None = anything


def blocks(document: Path = TOUR) -> Iterator[Block]:
    """What there is to run, each with the ``text`` that stands right behind it."""
    text = document.read_text()
    fence = re.compile(
        r"^```(\w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
    )
    for found in fence.finditer(text):
        line = text.count("\n", 0, found.start()) + 2
        yield Block(line, found[1], found[2], found[3])


def like(prints: str) -> re.Pattern[str]:
    """A text in which … stands for anything; a model of any version will do."""
    parts = (re.escape(part) for part in unversioned(prints).split("…"))
    return re.compile(".*".join(parts), re.DOTALL)


def unversioned(text: str) -> str:
    return re.sub(r"\b(mnist-[a-z]+)-v[0-9]+\b", r"\1-vN", text.replace("\r", ""))


@pytest.fixture
def served_here(shipped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder to work in, with ``genserve`` on the path; where the service is."""
    project = tomllib.loads((ROOT / "client/pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["genserve"].partition(":")
    program = tmp_path / "bin" / "genserve"  # as an installer writes it
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
    )
    program.chmod(0o755)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "client"))
    monkeypatch.setenv("GENSERVE_URL", shipped.url)
    return str(shipped.url).removeprefix("http://")


def run(code: str, where: str) -> str:
    """What bash prints of it."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], capture_output=True, timeout=240
    )
    assert done.returncode == 0, f"{where}: {done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout.decode()


def test_the_blocks_of_the_tour_print_what_it_says(served_here: str) -> None:
    names: dict[str, Any] = {}
    for block in blocks():
        where = f"{TOUR.name}:{block.line}"
        code = block.code.replace(HOST, served_here)
        if block.language == "python":
            with redirect_stdout(StringIO()) as out:
                exec(compile("\n" * (block.line - 1) + code, str(TOUR), "exec"), names)
            printed = out.getvalue()
        else:
            assert block.language == "sh", where
            printed = run(code, where)
        if block.prints is not None:
            assert like(block.prints).fullmatch(unversioned(printed)), f"{where}: {printed}"


def test_what_the_readme_asks_is_answered(served_here: str) -> None:
    failing = 'curl() { command curl -sS --fail-with-body "$@"; }\n'
    names: dict[str, Any] = {}
    asked = 0
    for block in blocks(README):
        where = f"{README.name}:{block.line}"
        code = block.code.replace(HOST, served_here)
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + code, str(README), "exec"), names)
        elif code.startswith(("curl", "genserve")):
            run(failing + code, where)
            asked += code.count("curl ") + code.count("genserve ")
    assert asked > 20
    for array in (names["mu"], names["images"]):
        assert f"# {array.dtype} {array.shape}" in README.read_text()


def test_the_tour_is_found_and_has_both_languages() -> None:
    found = list(blocks())
    assert [block.language for block in found].count("sh") > 5
    assert [block.language for block in found].count("python") > 5
    assert sum(block.prints is not None for block in found) > 8
    assert TOUR.read_text().count("```") == 2 * (
        len(found) + sum(block.prints is not None for block in found)
    )
    assert like("a … c mnist-x-v1\n").fullmatch("a b\nb c mnist-x-vN\n")
    assert not like("a … c\n").fullmatch("a c\n")
