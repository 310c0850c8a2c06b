"""Both wheels, built from the checkout and unpacked as an installer does."""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT


@dataclass(frozen=True)
class Wheels:
    """The folders that the wheels were unpacked into: what site-packages would hold."""

    client: Path
    service: Path


def unpacked(project: Path, folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=project,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """Read them: other tests use them too."""
    return Wheels(
        unpacked(ROOT / "client", tmp_path_factory.mktemp("client")),
        unpacked(ROOT, tmp_path_factory.mktemp("service")),
    )
