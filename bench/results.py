"""Files of results: every figure, with versions, CPU and settings; they are not committed."""

import json
from argparse import Namespace
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.report import Result

Found = dict[tuple[str, bool], dict[str, Any]]  # mode, on a GPU machine -> its newest file
RESULTS = Path(__file__).with_name("results")


def save(result: Result, args: Namespace, about: dict[str, object], folder: Path = RESULTS) -> Path:
    """Write ``<mode>-<time>.json``."""
    when = datetime.now(UTC)
    content = {
        "date": when.isoformat(timespec="seconds"),
        "settings": {name: value for name, value in vars(args).items() if name != "models_dir"},
        "machine": about,
        **asdict(result),
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{result.mode}-{when:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(content, indent=1, default=str) + "\n")
    return path


def latest(folder: Path) -> Found:
    """The newest result of each mode and kind of machine."""
    found: Found = {}
    for path in sorted(folder.glob("*-*.json"), key=lambda path: path.stem.rpartition("-")[2]):
        content = json.loads(path.read_text())
        found[content["mode"], bool(content["machine"]["gpu"])] = content
    return found
