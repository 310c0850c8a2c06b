"""The store's file of aliases: what a line is, and what is no file."""

import os
from pathlib import Path

import pytest

from app.engines.aliases import ALIASES, read_aliases
from app.errors import StartupError
from tests.conftest import STORE


def test_aliases_are_read_one_a_line(tmp_path: Path) -> None:
    assert read_aliases(tmp_path) == {}
    assert read_aliases(tmp_path / "nothing") == {}
    (tmp_path / ALIASES).write_text(
        "# names\n\ndefault -> a-v1\r\n cgan->a-v1  # promoted\nb -> c\n"
    )
    assert read_aliases(tmp_path) == {"default": "a-v1", "cgan": "a-v1", "b": "c"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("default", "line 1, is no alias such as: default -> mnist-cgan-v7"),
        ("a -> b\nc = d", "line 2"),
        ("a -> b -> c", "line 1"),
        ("A -> b", "line 1"),
        ("a -> ../b", "line 1"),
        ("a -> b\na -> c", "line 2: a is there twice"),
        ("a -> b\n" * 20_000, "has over 65536 bytes"),
        ("\0\xff", "line 1"),
    ],
)
def test_another_line_is_refused_with_its_number(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / ALIASES).write_text(text, "latin-1")
    with pytest.raises(StartupError, match=says):
        read_aliases(tmp_path)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ALIASES
    path.symlink_to("/etc/passwd")
    with pytest.raises(StartupError):
        read_aliases(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StartupError, match="no regular file"):
        read_aliases(tmp_path)


def test_the_shipped_aliases_name_shipped_models() -> None:
    aliases = read_aliases(STORE)
    assert aliases["default"] == "mnist-cgan-v7"
    assert aliases["signs"] == "signs-cgan-v2"
    assert all((STORE / f"{name}.safetensors").is_file() for name in aliases.values())
