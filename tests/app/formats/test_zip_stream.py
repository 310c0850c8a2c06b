"""ZIP archives that others can read, however many members they have and however large."""

import shutil
import subprocess
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import pytest

from app.formats.zip_stream import ZipStream

GIB = 2**30


def numbered(number: int) -> bytes:
    return b"%d/%08d.bin" % (number % 10, number)


def whole(count: int, compress: bool = False) -> bytes:
    archive = ZipStream(numbered, compress)
    members = [archive.member(b"member %d" % number) for number in range(count)]
    data = b"".join((*members, *archive.close()))
    assert archive.size == len(data)
    return data


# 65,535 members are the first that take the fields of ZIP64.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "compress"),
    [(0, False), (1, False), (65_534, False), (65_535, False), (65_536, False), (1000, True)],
)
def test_another_reader_finds_every_member(count: int, compress: bool, tmp_path: Path) -> None:
    data = whole(count, compress)
    with zipfile.ZipFile(BytesIO(data)) as archive:
        assert archive.namelist() == [numbered(number).decode() for number in range(count)]
        assert archive.testzip() is None
        for number in {0, count // 2, count - 1} if count else set():
            assert archive.read(numbered(number).decode()) == b"member %d" % number
    if shutil.which("unzip") and count:
        (tmp_path / "data.zip").write_bytes(data)
        unzip = ["unzip", "-tqq", str(tmp_path / "data.zip")]
        result = subprocess.run(unzip, capture_output=True, text=True)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_same_members_give_the_same_bytes_with_no_time_of_day() -> None:
    assert whole(3) == whole(3)
    with zipfile.ZipFile(BytesIO(whole(3))) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}


@pytest.mark.parametrize("compress", [False, True])
def test_a_checksum_may_follow_the_data(compress: bool) -> None:
    story = b"once upon a time, and once more and once more" * 100
    archive = ZipStream([b"before", b"story.txt", b"after"].__getitem__, compress)
    data = archive.member(b"1") + archive.begin(len(story))
    data += archive.write(story[:1000]) + archive.write(story[1000:])
    data += archive.end(zlib.crc32(story)) + archive.member(b"2") + b"".join(archive.close())
    assert archive.size == len(data)
    assert (len(data) < len(story)) == compress
    with zipfile.ZipFile(BytesIO(data)) as archive_read:
        assert archive_read.testzip() is None
        assert archive_read.read("story.txt") == story
        assert archive_read.read("after") == b"2"


@pytest.mark.parametrize("follows", [False, True])
@pytest.mark.parametrize("size", [4 * GIB - 2, 4 * GIB - 1, 4 * GIB, 5 * GIB])
def test_members_of_gibibytes_and_what_lies_behind_them_are_found(
    tmp_path: Path, size: int, follows: bool
) -> None:
    """The data are a hole in a sparse file, so nobody reads gibibytes."""
    archive = ZipStream([b"large.bin", b"behind.txt"].__getitem__)
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        file.write(archive.begin(size, None if follows else 7))
        file.seek(size, 1)
        if follows:
            file.write(archive.end(7))
        file.write(archive.member(b"found"))
        for piece in archive.close():
            file.write(piece)
        assert file.tell() == archive.size
    with zipfile.ZipFile(path) as found:
        large, behind = found.infolist()
        assert (large.file_size, large.compress_size, large.CRC) == (size, size, 7)
        assert found.read("behind.txt") == b"found"
        with found.open("large.bin") as data:  # its header is read
            assert data.read(3) == b"\0\0\0"
    assert behind.header_offset > size


def test_a_compressed_member_of_gibibytes_has_its_real_size_in_the_directory(
    tmp_path: Path,
) -> None:
    """Of which some was written: it would take seconds to deflate all of it."""
    size, written = 4 * GIB, bytes(2**20)
    archive = ZipStream([b"large.bin", b"behind.txt"].__getitem__, compress=True)
    data = archive.begin(size) + archive.write(written) + archive.end(zlib.crc32(written))
    data += archive.member(b"found") + b"".join(archive.close())
    with zipfile.ZipFile(BytesIO(data)) as found:
        large, _ = found.infolist()
        assert (large.file_size, large.compress_size < 2**20) == (size, True)
        assert found.read("behind.txt") == b"found"
