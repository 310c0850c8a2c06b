"""Files are complete or untouched, and have one writer."""

import os
from pathlib import Path

import pytest

from genserve.files import open_exclusively, write_atomically


def test_the_old_file_stays_where_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "kept.png"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    link = tmp_path / "link.png"
    link.symlink_to(path)
    write_atomically(link, b"newer")
    assert link.is_symlink()
    assert path.read_bytes() == b"newer"
    with pytest.raises(OSError, match="Is a directory") as caught:
        write_atomically(tmp_path, b"x")
    assert caught.value.filename == str(tmp_path)
    with pytest.raises(OSError, match="No such file") as caught:
        write_atomically(tmp_path / "nowhere" / "x.png", b"x")
    assert caught.value.filename == str(tmp_path / "nowhere" / "x.png")
    assert sorted(os.listdir(tmp_path)) == ["kept.png", "link.png"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")
def test_a_file_has_one_writer_and_must_not_have_shrunk(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    with open_exclusively(path, 0) as file:
        with pytest.raises(OSError, match="another download writes it"):
            open_exclusively(path, 0)
        file.write(b"four")
    with open_exclusively(path, 4) as file:
        assert file.read() == b"four"
    with pytest.raises(OSError, match="or has just finished"):
        open_exclusively(path, 5)
    path.unlink()
    with pytest.raises(OSError, match="or has just finished"):
        open_exclusively(path, 4)
    with pytest.raises(FileNotFoundError):
        open_exclusively(tmp_path / "nowhere" / "x.part", 0)
