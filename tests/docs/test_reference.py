"""The reference pages say what the code says."""

import re
import tomllib

import genserve
from app import __version__
from app.process.exit_status import ExitStatus
from docs.generate import REFERENCE, TABLES, generated
from tests.docs.documents import ROOT


def test_the_generated_files_are_what_the_code_says() -> None:
    for path, text in generated().items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)} is out of date: make docs"


def test_every_table_has_its_place_in_the_reference() -> None:
    pages = "".join(page.read_text() for page in REFERENCE.glob("*.md"))
    for name in TABLES:
        assert pages.count(f"<!-- {name} -->\n") == 1, name


def test_every_page_of_the_reference_is_listed() -> None:
    listed = (REFERENCE / "README.md").read_text()
    for page in REFERENCE.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in listed, page.name


def test_every_decision_is_listed_with_its_title_and_date() -> None:
    folder = ROOT / "docs/adr"
    listed = (folder / "README.md").read_text()
    pages = sorted(folder.glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        head = re.match(r"# (\d+)\. (.*)\n\n([\d-]+) · ", page.read_text())
        assert head, page.name
        assert f"| [{head[1]}]({page.name}) | {head[2]} | {head[3]} |" in listed, page.name


def test_the_version_is_one_and_has_its_changes() -> None:
    for folder in (ROOT, ROOT / "client"):  # whose files app/__init__.py and version.py are read
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["dynamic"] == ["version"]
    assert genserve.__version__ == __version__
    assert f"\n## {__version__} (" in (ROOT / "CHANGELOG.md").read_text()


def test_every_exit_status_is_in_the_guide_to_deploying() -> None:
    guide = (ROOT / "docs/how-to/deploy.md").read_text()
    for status in (0, *ExitStatus):
        assert f"\n| {int(status)} | " in guide, status
