"""What the documents tell a reader to type: run in order against the shipped service."""

import os
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.docs.documents import ROOT, blocks

TUTORIAL, README = ROOT / "docs/tutorial/first-steps.md", ROOT / "README.md"
DATASET = ROOT / "docs/how-to/make-a-dataset.md"
PROTOCOL = ROOT / "docs/reference/open-inference-protocol.md"
HOST = "127.0.0.1:8000"  # as the documents have it


def like(prints: str) -> re.Pattern[str]:
    """A text in which … stands for anything; a model of any version will do."""
    parts = (re.escape(part) for part in unversioned(prints).split("…"))
    return re.compile(".*".join(parts), re.DOTALL)


def unversioned(text: str) -> str:
    return re.sub(r"\b((?:mnist|signs)-[a-z]+)-v[0-9]+\b", r"\1-vN", text.replace("\r", ""))


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
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "client/src"))
    monkeypatch.setenv("GENSERVE_URL", shipped.url)
    return str(shipped.url).removeprefix("http://")


def run(code: str, where: str) -> str:
    """What bash prints of it; a refused request fails."""
    failing = 'curl() { command curl -sS --fail-with-body "$@"; }\n'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", failing + code], capture_output=True, timeout=240
    )
    assert done.returncode == 0, f"{where}: {done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout.decode()


def execute(document: Path, line: int, code: str, names: dict[str, Any]) -> str:
    """What Python prints of a block that begins at this line of the document."""
    with redirect_stdout(StringIO()) as out:
        exec(compile("\n" * (line - 1) + code, str(document), "exec"), names)
    return out.getvalue()


def test_the_blocks_of_the_tutorial_print_what_it_says(served_here: str) -> None:
    names: dict[str, Any] = {}
    for block in blocks(TUTORIAL):
        where = f"{TUTORIAL.name}:{block.line}"
        code = block.code.replace(HOST, served_here)
        if block.language == "python":
            printed = execute(TUTORIAL, block.line, code, names)
        else:
            assert block.language == "sh", where
            printed = run(code, where)
        if block.prints is not None:
            assert like(block.prints).fullmatch(unversioned(printed)), f"{where}: {printed}"


@pytest.mark.parametrize(("document", "commands"), [(README, 1), (DATASET, 3)])
def test_commands_that_ask_the_service_are_answered(
    served_here: str, document: Path, commands: int
) -> None:
    asking = [block for block in blocks(document) if block.code.startswith(("curl", "genserve"))]
    assert sum(len(block.code.splitlines()) for block in asking) == commands
    for block in asking:
        code = block.code.replace(HOST, served_here).replace("0000 ", "00 ")
        run(code, f"{document.name}:{block.line}")


def test_the_example_of_the_inference_protocol_runs(served_here: str) -> None:
    names: dict[str, Any] = {}
    (block,) = (block for block in blocks(PROTOCOL) if block.language == "python")
    execute(PROTOCOL, block.line, block.code.replace(HOST, served_here), names)
    images = names["images"]
    assert block.code.endswith(f"# {images.dtype} {images.shape}\n")


def test_the_tutorial_is_found_and_has_both_languages() -> None:
    found = list(blocks(TUTORIAL))
    assert [block.language for block in found].count("sh") > 5
    assert [block.language for block in found].count("python") > 5
    assert sum(block.prints is not None for block in found) > 8
    fences = 2 * (len(found) + sum(block.prints is not None for block in found))
    assert TUTORIAL.read_text().count("```") == fences
    assert like("a … c mnist-x-v1\n").fullmatch("a b\nb c mnist-x-vN\n")
    assert not like("a … c\n").fullmatch("a c\n")
