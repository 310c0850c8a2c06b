"""A download's state: what it requests, and what it makes of each response."""

from pathlib import Path

import pytest

from genserve import Dataset, InvalidResponseError, Progress
from genserve.download import Download, dataset

ADDRESS = "/dataset?model=m@0123&n=2&seed=5&format=zip"
HEADERS = {"content-location": ADDRESS, "etag": '"e"', "x-model": "m"}
MEMBER = b"PK\x03\x04"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.zip"


def begun(path: Path, body: bytes) -> None:
    """A download of which ``body`` arrived before it was cut."""
    with dataset(path, n=2, seed=5) as download:
        download.begin(200, HEADERS)
        download.write(body)


def test_a_complete_file_gets_its_name(path: Path) -> None:
    seen: list[Progress] = []
    with dataset(path, n=2, seed=5, progress=seen.append) as download:
        assert download.address == "/dataset"
        assert download.query == {"seed": "5", "n": "2", "format": "zip"}
        assert "range" not in download.headers
        download.begin(200, HEADERS)
        download.write(MEMBER + b"a" + MEMBER[:2])
        download.write(MEMBER[2:] + b"b")
        assert names(path.parent) == ["x.zip.part", "x.zip.part.json"]
        assert download.finish() == Dataset(path, 10, "m", 5, 2, ADDRESS)
    assert path.read_bytes() == MEMBER + b"a" + MEMBER + b"b"
    assert names(path.parent) == ["x.zip"]
    assert [progress.images for progress in seen] == [0, 0, 1]  # the last may be incomplete


def test_the_rest_is_requested_from_the_last_byte_on(path: Path) -> None:
    begun(path, b"abc")
    with dataset(path, n=2, seed=5) as download:
        assert (download.resumes, download.address, download.query) == (True, ADDRESS, None)
        assert download.headers["range"].startswith("bytes=2-")
        assert download.headers["if-range"] == '"e"'
        with pytest.raises(InvalidResponseError, match="not from byte 2"):
            download.begin(206, {"content-range": "bytes 1-3/4"})
        download.begin(206, {"content-range": "bytes 2-3/4"})
        download.write(b"cd")
        assert download.finish().bytes == 4
    assert path.read_bytes() == b"abcd"


def test_compressing_is_asked_for_and_not_by_default(path: Path) -> None:
    asked = dataset(path, seed=5, compress=True).query
    assert asked == {"seed": "5", "compress": "true", "format": "zip"}
    assert dataset(path, seed=5).query == {"seed": "5", "format": "zip"}


def test_a_changed_file_starts_anew(path: Path) -> None:
    begun(path, b"abcdef")
    with dataset(path, n=2, seed=5) as download:
        assert download.resumes
        download.begin(200, HEADERS)
        download.write(b"new")
        download.finish()
    assert path.read_bytes() == b"new"


def test_a_part_of_another_file_is_not_resumed(path: Path) -> None:
    begun(path, b"abc")
    assert dataset(path, n=2, seed=5).resumes
    assert not dataset(path, n=3, seed=5).resumes
    assert not dataset(path, n=2).resumes
    note = path.with_name("x.zip.part.json")
    note.write_text("{")
    assert not dataset(path, n=2, seed=5).resumes


def test_what_has_no_etag_starts_anew_after_a_cut(path: Path) -> None:
    with dataset(path, n=2, seed=5) as download:
        download.begin(200, {name: HEADERS[name] for name in ("content-location", "x-model")})
        download.write(b"abc")
        download.interrupted()
        assert not download.resumes
    assert not dataset(path, n=2, seed=5).resumes


def test_a_file_of_another_size_than_announced_is_not_finished(path: Path) -> None:
    with dataset(path, n=2, seed=5) as download:
        download.begin(200, HEADERS | {"content-length": "4"})
        download.write(b"abc")
        with pytest.raises(InvalidResponseError, match="has 3 bytes; the service announced 4"):
            download.finish()
    assert names(path.parent) == ["x.zip.part", "x.zip.part.json"]


def test_a_seed_is_drawn_so_that_the_file_can_be_resumed(path: Path) -> None:
    query = dataset(path, n=2).query
    assert query is not None
    assert int(query["seed"]) >= 0
    assert dataset(path, n=2).query != query


def test_a_wrong_path_is_refused_before_any_request(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.tar' does not say which format; allowed are \.zip"):
        dataset(tmp_path / "x.tar")
    assert isinstance(dataset(tmp_path / "x.tar", format="npz"), Download)
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(IsADirectoryError):
        dataset(tmp_path / "folder.zip")
