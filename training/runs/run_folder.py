"""A run's folder: its name, its lock and its config.json."""

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.config import AnyRun, as_json, from_json
from training.data.dataset import DataSpec
from training.networks.files import write_atomically
from training.presets import PRESETS
from training.runs.errors import TrainingError, write_errors

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CONFIG = "config.json"


def next_run_folder(parent: Path, kind: str, preset: str) -> Path:
    """``<parent>/<kind>-<preset>-NNN`` with the first free number; the folder is not created."""
    number = 1
    while (folder := parent / f"{kind}-{preset}-{number:03d}").exists():
        number += 1
    return folder


def new_run_folder(parent: Path, kind: str, preset: str) -> Path:
    """Create the next run folder; runs that start at the same time get different ones.

    Raises:
        TrainingError: it cannot be created.
    """
    if parent.exists() and not parent.is_dir():
        raise TrainingError(f"{parent} is a file, not a folder of runs; name a folder with --runs")
    with write_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = next_run_folder(parent, kind, preset)
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a run's folder: they would overwrite its state.

    On a system or file system without such locks this does nothing.

    Raises:
        TrainingError: another process holds the lock.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise TrainingError(
            f"another process trains in {folder}; stop it first, or start a new run"
        ) from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(handle)


def write_config(
    folder: Path,
    kind: str,
    preset: str,
    run: AnyRun,
    data: DataSpec,
    revision: str | None = None,
) -> None:
    """Store the run's settings before its first step, atomically.

    Args:
        revision: Of the source code; None = the checkout's. Those that trained the run before are
            kept in front of it.

    Raises:
        TrainingError: it cannot be written.
    """
    revision, known = revision or source_revision(), revisions(folder)
    config = {
        "revisions": [*known, *[revision] * (revision not in known[-1:])],
        "kind": kind,
        "preset": preset,
        "data": dataclasses.asdict(data),
        "run": as_json(run),
    }
    with write_errors(folder / CONFIG):
        write_atomically(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def read_config(folder: Path) -> tuple[str, str, AnyRun, DataSpec]:
    """Kind, preset, settings and data of a run folder.

    Raises:
        TrainingError: it has no config, or one of another version.
    """
    try:
        config = json.loads((folder / CONFIG).read_text())
        kind, preset = config["kind"], config["preset"]
        if kind not in PRESETS or preset not in PRESETS[kind]:
            raise ValueError(f"there is no preset {preset!r} of kind {kind!r}")
        run = from_json(kind, config["run"])
        data = config["data"]
        counts = tuple((str(name), int(count)) for name, count in data.get("counts", ()))
        spec = DataSpec(**{**data, "counts": counts})
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TrainingError(
            f"{folder} is not a run folder: it has no {CONFIG}{_nearby_runs(folder)}"
        ) from error
    except KeyError as error:
        raise TrainingError(
            f"{folder}/{CONFIG} is not of this version: it has no {error.args[0]!r}"
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise TrainingError(f"{folder}/{CONFIG} is not of this version: {error}") from error
    return kind, preset, run, spec


def revisions(folder: Path) -> list[str]:
    """The revisions of the code that trained a run, in order; [] without a config."""
    try:
        known = json.loads((folder / CONFIG).read_text()).get("revisions")
    except OSError:
        return []
    return [str(revision) for revision in known] if isinstance(known, list) else ["unknown"]


def source_revision() -> str:
    """The source's commit, with + if files have changed since; "unknown" outside a checkout."""
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip()


def _nearby_runs(folder: Path, most: int = 5) -> str:
    """The newest run folders beside ``folder``, else those in runs/, as the end of a sentence."""
    for parent in (folder.parent, Path("runs")):
        runs = [path.parent for path in parent.glob(f"*/{CONFIG}")]
        if runs:
            runs.sort(key=lambda path: (path.stat().st_mtime, path.name), reverse=True)
            more = f" and {len(runs) - most} more" if len(runs) > most else ""
            return f"; there are {', '.join(map(str, runs[:most]))}{more}"
    return ""
