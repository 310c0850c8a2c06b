"""The README: short, the same in both languages, with the figures of the shipped checkpoints."""

import itertools
import re
from pathlib import Path

import pytest

from tests.docs.documents import ROOT, blocks, cells, links
from training.networks.checkpoint import load

README, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"


@pytest.mark.parametrize("document", [README, CHINESE])
def test_a_readme_is_short(document: Path) -> None:
    assert len(document.read_text().splitlines()) <= 150


def test_both_readmes_have_the_same_blocks_links_and_figures() -> None:
    assert [block[1:] for block in blocks(README)] == [block[1:] for block in blocks(CHINESE)]
    other = {"README.md", "README.zh.md"}
    assert sorted({*links(README)} - other) == sorted({*links(CHINESE)} - other)
    numbers = [re.findall(r"[\d,.]*\d", " ".join(row)) for row in cells(README)]
    assert numbers == [re.findall(r"[\d,.]*\d", " ".join(row)) for row in cells(CHINESE)]


def test_the_figures_are_those_of_the_checkpoints() -> None:
    rows = [row for row in cells(README) if row[0].startswith("`")]
    named = [re.findall(r"`(.+?)`", row[0]) for row in rows]
    checkpoints = {path.stem: path for path in ROOT.glob("models_store/*.safetensors")}
    assert sorted(itertools.chain(*named)) == sorted(checkpoints)
    names = ("frechet_test_ratio", "conditional_accuracy", "conditional_accuracy_worst")
    for row, models in zip(rows, named, strict=True):
        metrics = [load(checkpoints[model])[1].metrics for model in models]
        expected = [str(one[name]) for one in metrics for name in names if name in one]
        assert re.findall(r"\d+\.\d+", row[1]) == expected, models


def test_the_table_of_figures_has_six_rows_at_most() -> None:
    assert len(cells(README)) - 2 <= 6


def test_every_make_command_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [
        command for block in blocks(README) for command in re.findall(r"make (\w+)", block.code)
    ]
    assert {"serve", "test"} <= set(commands) <= targets


def test_the_ratios_in_the_guide_to_models_are_those_of_the_checkpoints() -> None:
    guide = (ROOT / "docs/how-to/choose-a-model.md").read_text()
    for path in ROOT.glob("models_*/*.safetensors"):
        assert f"`{path.stem}`" in guide
        assert f"{load(path)[1].metrics['frechet_test_ratio']:.2f}" in guide, path.stem
