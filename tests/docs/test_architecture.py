"""ARCHITECTURE.md names every folder, and nothing that is not there."""

import re

import pytest

from tests.docs.documents import ROOT

TEXT = (ROOT / "ARCHITECTURE.md").read_text()


@pytest.mark.parametrize("package", ["app", "training"])
def test_every_folder_has_its_line(package: str) -> None:
    folders = [path.parent for path in (ROOT / package).rglob("__init__.py")]
    assert len(folders) > 7
    for folder in folders:
        name = f"`{folder.relative_to(ROOT)}/`"
        assert re.search(rf"^\| {re.escape(name)} \| \S", TEXT, re.MULTILINE), name


def test_every_path_exists() -> None:
    paths = re.findall(r"`((?:app|training|client|tests|bench|docs)/[\w./-]*)`", TEXT)
    assert len(paths) > 40
    for path in paths:
        assert (ROOT / path).exists(), path
