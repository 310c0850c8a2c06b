"""A run's folder: its number, its config."""

import dataclasses
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from training.config import as_json, from_json
from training.data.dataset import DataSpec
from training.presets import PRESETS
from training.runs.errors import TrainingError
from training.runs.run_folder import new_run_folder, read_config, revisions, write_config


def test_run_folders_are_numbered_from_the_first_free_one(tmp_path: Path) -> None:
    runs = tmp_path / "made" / "for it"
    names = [new_run_folder(runs, "gan", "dense").name for _ in range(3)]
    assert names == ["gan-dense-001", "gan-dense-002", "gan-dense-003"]
    assert new_run_folder(runs, "vae", "dense").name == "vae-dense-001"
    (runs / "gan-dense-002").rmdir()
    assert new_run_folder(runs, "gan", "dense").name == "gan-dense-002"


def test_runs_that_start_together_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run_folder(tmp_path, "gan", "dense"), range(40)))
    assert len(set(folders)) == 40


@pytest.mark.parametrize(
    ("kind", "preset"), [(kind, preset) for kind in PRESETS for preset in PRESETS[kind]]
)
def test_settings_come_back_from_json_and_from_the_folder(
    kind: str, preset: str, tmp_path: Path
) -> None:
    settings = dataclasses.replace(PRESETS[kind][preset], seed=5)
    assert from_json(kind, json.loads(json.dumps(as_json(settings)))) == settings
    data = DataSpec("/some where", "data", 32, 3, "CC0", "ab" * 32)
    write_config(tmp_path, kind, preset, settings, data)
    assert read_config(tmp_path) == (kind, preset, settings, data)


def test_the_revisions_of_the_code_that_trained_a_run_are_listed_in_order(tmp_path: Path) -> None:
    def written_by(revision: str) -> list[str]:
        settings, data = PRESETS["gan"]["dense"], DataSpec("mnist", "data")
        write_config(tmp_path, "gan", "dense", settings, data, revision)
        return revisions(tmp_path)

    assert revisions(tmp_path) == []
    assert written_by("a" * 12) == ["a" * 12]
    assert written_by("a" * 12) == ["a" * 12]
    assert written_by("b" * 12 + "+") == ["a" * 12, "b" * 12 + "+"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"kind": "gan"}', '{"kind": "gan", "run": {"network": []}}'),
        '{"kind": "gan", "run": {"network": {"depth": 3}}}',
    ],
)
def test_a_config_of_another_version_is_refused_with_its_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(TrainingError, match=re.escape(f"{tmp_path}/config.json")):
        read_config(tmp_path)
