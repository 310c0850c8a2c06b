"""The cards of what is shipped say what their checkpoints' headers say, in today's words."""

import re
from pathlib import Path

import pytest

from training.networks.checkpoint import load
from training.networks.header import read
from training.release.card import card

ROOT = Path(__file__).parents[3]
SHIPPED = sorted(path.relative_to(ROOT) for path in ROOT.glob("models_*/*.safetensors"))


def test_there_is_a_checkpoint_of_each_kind() -> None:
    assert {path.name.split("-")[1] for path in SHIPPED} == {"gan", "cgan", "vae"}


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_a_card_is_what_its_header_makes(path: Path) -> None:
    network, description = load(ROOT / path)
    page = (ROOT / path).with_suffix(".md").read_text()
    pictures = re.findall(r"^!\[.*\]\((.*)\)\n\n(.*)$", page, re.MULTILINE)
    assert len(pictures) > 2
    for file, _ in pictures:
        assert (ROOT / path).with_name(file).exists()
    digest = read(ROOT / path).description.digest
    assert page == card(path.stem, path.parent, description, digest, network, pictures)
