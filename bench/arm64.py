"""An arm64 Python with what serving needs, in a folder, for ``python -m bench.portable --arm64``.

    python -m bench.arm64 FOLDER [--onnxruntime 1.23.2]

Needs apt of a Debian that has Python 3.11, and pip; installs nothing. What comes of it runs under
``qemu-aarch64`` (``apt install qemu-user``) or in a chroot on arm64.
"""

import argparse
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PYTHON = "3.11"
# Of the releases tried under qemu 7.2, 1.30.0, 1.31.1 and 1.32.0 end in a segmentation fault when
# they are imported; 1.23.2 and 1.27.0 run.
ONNXRUNTIME = "1.23.2"
EMULATOR = "qemu-aarch64"
PACKAGES = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6", "libgcc-s1")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64")


def python_of(folder: Path) -> list[str]:
    """The command that runs the folder's Python here."""
    root = folder / "root"
    return [EMULATOR, "-L", str(root), str(root / f"usr/bin/python{PYTHON}"), "-S"]


def site_of(folder: Path) -> Path:
    """The folder's packages."""
    return folder / "site"


def fetch(folder: Path, onnxruntime: str = ONNXRUNTIME) -> None:
    """Download and unpack Python, its libraries and the wheels.

    The distribution's packages come by an apt with folders of its own, so that the machine's is as
    it was. The wheels are of the versions in this environment, but for the engine.

    Raises:
        subprocess.CalledProcessError: apt or pip failed; their own words are on stderr.
        FileExistsError: the folder is there.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists: give a new folder, or remove it")
    part = folder.with_name(f"{folder.name}.part")  # the folder is there when it is whole
    shutil.rmtree(part, ignore_errors=True)
    _fetch(part, onnxruntime)
    part.rename(folder)


def _fetch(folder: Path, onnxruntime: str) -> None:
    apt, wheels = folder / "apt", folder / "wheels"
    for name in ("state/lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "state/status").touch()
    settings = [
        *("APT::Architecture=arm64", "APT::Architectures=arm64", f"Dir::State={apt}/state"),
        *(f"Dir::State::status={apt}/state/status", f"Dir::Cache={apt}/cache"),
    ]
    options = [part for setting in settings for part in ("-o", setting)]
    subprocess.run(["apt-get", *options, "-q", "update"], check=True)
    install = ["-q", "-y", "--download-only", "--no-install-recommends", "install", *PACKAGES]
    subprocess.run(["apt-get", *options, *install], check=True)
    for archive in sorted((apt / "cache/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder / "root")], check=True)
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:"),
            *("--python-version", PYTHON, *platforms, "-d", str(wheels)),
            *_requirements(onnxruntime),
        ],
        check=True,
    )
    for wheel in wheels.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(site_of(folder))
    shutil.rmtree(apt)
    shutil.rmtree(wheels)


def _requirements(onnxruntime: str) -> list[str]:
    """What serving needs, in this environment's versions."""
    found = []
    for line in importlib.metadata.requires("genserve") or []:
        match = re.match(r"[\w-]+", line)
        if match and "extra ==" not in line:
            name = match[0]
            version = importlib.metadata.version(name)
            found.append(f"{name}=={onnxruntime if name == 'onnxruntime' else version}")
    return found


def main() -> None:
    """Fetch into a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a new folder, of some 250 MB")
    parser.add_argument("--onnxruntime", default=ONNXRUNTIME, help="(default: %(default)s)")
    arguments = parser.parse_args()
    fetch(arguments.folder.resolve(), arguments.onnxruntime)
    print(f"try it: {' '.join(python_of(arguments.folder))} -V")


if __name__ == "__main__":
    main()
