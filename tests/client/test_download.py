"""Datasets that are interrupted: killed services, cut connections, changed models."""

import json
import shutil
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from genserve import Client, ProblemError, Progress, UnreachableError
from genserve.download import dataset

from tests.client.conftest import Asks
from tests.conftest import Server, running_server

N = 1_500
MANY = {"zip": 12_000, "npz": 24_000}  # 17 and 19 MB: more than lies in the buffers of sockets


@pytest.fixture(scope="module")
def whole(served: Server) -> Callable[..., bytes]:
    """The files as they are when nothing interrupts them."""
    files: dict[str, bytes] = {}

    def get(form: str, n: int = N) -> bytes:
        query = f"n={n}&seed=5&format={form}"
        if query not in files:
            answer = httpx.get(f"{served.url}/dataset?{query}", timeout=60)
            assert answer.status_code == 200
            files[query] = answer.content
        return files[query]

    return get


def left(path: Path) -> list[str]:
    return sorted(other.name for other in path.parent.iterdir())


def interrupt_at(size: int) -> Callable[[Progress], None]:
    """As Ctrl-C does, once so many bytes have come."""

    def told(progress: Progress) -> None:
        if progress.bytes >= size:
            raise KeyboardInterrupt

    return told


class Proxy:
    """Between client and service: hands on, and cuts as many answers as it is told to.

    Args:
        url: Of the service.
        cuts: Bytes after which each of the first answers is cut; the later ones are whole.
    """

    def __init__(self, url: str, cuts: list[int]) -> None:
        self._host, port = urlsplit(url).netloc.split(":")
        self._port = int(port)
        self._cuts = cuts
        self.requests: list[str] = []
        self.carried = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.create_connection((self._host, self._port)) as service:
                head = client.recv(65536)
                if not head:
                    continue
                self.requests.append(head.decode())
                head = head.replace(b"Connection: keep-alive", b"Connection: close")
                service.sendall(head)
                cut = self._cuts.pop(0) if self._cuts else 10**12
                with suppress(OSError):
                    while cut > 0 and (data := service.recv(min(65536, cut))):
                        client.sendall(data)
                        cut -= len(data)
                        self.carried += len(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextmanager
def cutting(url: str, *cuts: int) -> Iterator[Proxy]:
    proxy = Proxy(url, list(cuts))
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.mark.parametrize(("asks", "form"), [("sync", "zip"), ("async", "npz")], indirect=["asks"])
def test_a_file_whose_service_is_killed_twice_is_the_same_in_the_end(
    tiny_store: Path, asks: Asks, tmp_path: Path, whole: Callable[..., bytes], form: str
) -> None:
    path = tmp_path / f"digits.{form}"
    n, had = MANY[form], 0
    file = whole(form, n)
    for share in (3, 2):
        with running_server("--models-dir", str(tiny_store), "--workers", "1") as server:

            def kill(progress: Progress, server: Server = server, share: int = share) -> None:
                if progress.bytes > len(file) // share:
                    server.process.kill()

            with pytest.raises(UnreachableError, match="are kept, the same call resumes there"):
                asks(server.url, "dataset", path, n=n, seed=5, progress=kill)
        assert left(path) == [f"{path.name}.part", f"{path.name}.part.json"]
        part = (tmp_path / f"{path.name}.part").read_bytes()
        assert had < len(part) < len(file)
        assert file.startswith(part)
        had = len(part)
    seen: list[Progress] = []
    with running_server("--models-dir", str(tiny_store), "--workers", "1") as server:
        made = asks(server.url, "dataset", path, n=n, seed=5, progress=seen.append)
    assert path.read_bytes() == file
    assert left(path) == [path.name]
    assert (made.path, made.bytes, made.seed, made.n) == (path, len(file), 5, n)
    assert seen[0].bytes == had - 1
    assert seen[-1] == Progress(len(file), n, n)
    assert [progress.images for progress in seen] == sorted(progress.images for progress in seen)
    assert seen[0].images == pytest.approx(n * had / len(file), rel=0.1)


def test_a_cut_connection_is_gone_on_with_in_the_same_call(
    served: Server, asks: Asks, tmp_path: Path, whole: Callable[..., bytes]
) -> None:
    path, size = tmp_path / "digits.zip", len(whole("zip"))
    with cutting(served.url, size // 3, size // 3) as proxy:
        made = asks(proxy.url, "dataset", path, n=N, seed=5)
    assert path.read_bytes() == whole("zip")
    assert len(proxy.requests) >= 3
    assert proxy.requests[0].startswith("GET /dataset?seed=5&n=1500&format=zip ")
    assert "range" not in proxy.requests[0].lower()
    for request in proxy.requests[1:]:
        assert request.startswith(f"GET {made.permalink} ")
        assert "range: bytes=" in request.lower()
        assert "if-range: " in request.lower()
    assert proxy.carried < size * 1.1  # nothing came twice

    with cutting(served.url, *[size // 10] * 9) as proxy:  # but not for ever
        with pytest.raises(UnreachableError, match="are kept"):
            asks(proxy.url, "dataset", tmp_path / "other.zip", n=N, seed=5)
        assert len(proxy.requests) == 6
        asks(proxy.url, "dataset", tmp_path / "other.zip", n=N, seed=5)
    assert (tmp_path / "other.zip").read_bytes() == whole("zip")


def test_what_was_cut_behind_its_last_byte_is_whole_after_one_more(
    served: Server, asks: Asks, tmp_path: Path
) -> None:
    for name in ("x.zip", "x.npz"):
        path = tmp_path / name
        first = asks(served.url, "dataset", path, n=50, seed=5)
        data = path.read_bytes()
        note = {
            "asked": {"n": "50", "seed": "5", "format": path.suffix[1:]},
            "address": first.permalink,
            "etag": httpx.head(served.url + first.permalink).headers["etag"],
            "model": first.model,
        }
        for kept in (len(data), len(data) - 1, 1):
            path.unlink()
            (tmp_path / f"{name}.part").write_bytes(data[:kept])
            (tmp_path / f"{name}.part.json").write_text(json.dumps(note))
            with cutting(served.url) as proxy:
                asks(proxy.url, "dataset", path, n=50, seed=5)
            assert f"bytes={kept - 1}-" in proxy.requests[0]
            assert path.read_bytes() == data


def test_a_file_without_a_seed_goes_on_with_the_one_that_was_drawn(
    served: Server, asks: Asks, tmp_path: Path
) -> None:
    path = tmp_path / "digits.npz"
    with cutting(served.url, 300_000) as proxy:
        made = asks(proxy.url, "dataset", path, n=N, model="tiny-gan-v1")
        assert len(proxy.requests) >= 2
    assert f"seed={made.seed}&" in made.permalink
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["seeds"].tolist() == list(range(made.seed, made.seed + N))
    again = asks(served.url, "dataset", tmp_path / "again.npz", n=5, model="tiny-gan-v1")
    assert again.seed != made.seed


@pytest.mark.parametrize("damage", ["other parameters", "other file", "note", "no note", "no part"])
def test_what_is_left_of_another_file_is_not_gone_on_with(
    served: Server, asks: Asks, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "digits.zip"
    part, note = tmp_path / "digits.zip.part", tmp_path / "digits.zip.part.json"
    made = asks(served.url, "dataset", path, n=50, seed=5)
    data = path.read_bytes()
    path.unlink()
    part.write_bytes(b"\0" * 1000)
    told: dict[str, Any] = {
        "asked": {"n": "50", "seed": "5", "format": "zip"},
        "address": made.permalink,
        "etag": '"of another file"',
        "model": made.model,
    }
    if damage == "other parameters":
        told["asked"]["n"] = "60"
        told["etag"] = httpx.head(served.url + made.permalink).headers["etag"]
    note.write_text("{" if damage == "note" else json.dumps(told))
    if damage == "no note":
        note.unlink()
    if damage == "no part":
        part.unlink()
    seen: list[Progress] = []
    asks(served.url, "dataset", path, n=50, seed=5, progress=seen.append)
    assert path.read_bytes() == data
    assert seen[0].bytes == 0
    assert left(path) == ["digits.zip"]


def test_a_file_of_a_model_that_is_not_served_any_more_is_left_as_it_is(
    served: Server, tiny_store: Path, asks: Asks, tmp_path: Path, whole: Callable[..., bytes]
) -> None:
    store, path = tmp_path / "store", tmp_path / "files" / "digits.zip"
    path.parent.mkdir()
    store.mkdir()
    for old in tiny_store.glob("tiny-gan-v1.*"):  # another model, of the same name
        shutil.copy(old, store / old.name.replace("-gan-", "-cgan-"))
    with cutting(served.url, *[100_000] * 6) as proxy, pytest.raises(UnreachableError):
        asks(proxy.url, "dataset", path, n=N, seed=5)
    part = (path.parent / "digits.zip.part").read_bytes()
    assert whole("zip").startswith(part)
    with running_server("--models-dir", str(store), "--workers", "1") as server:
        with pytest.raises(ProblemError, match=r"digits.zip.part to start anew") as caught:
            asks(server.url, "dataset", path, n=N, seed=5)
        assert caught.value.status == 404
        assert (path.parent / "digits.zip.part").read_bytes() == part
    asks(served.url, "dataset", path, n=N, seed=5)  # where it is served it goes on
    assert path.read_bytes() == whole("zip")


def test_mistakes_are_told_before_anything_is_written(
    served: Server, asks: Asks, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"digits\.tar' does not say which format; .* \.zip and"):
        asks(served.url, "dataset", tmp_path / "digits.tar")
    with pytest.raises(ProblemError, match="0 to 9"):
        asks(served.url, "dataset", tmp_path / "digits.zip", label="x")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="No such file"):
        asks(served.url, "dataset", tmp_path / "nowhere" / "digits.zip", n=1)
    made = asks(served.url, "dataset", tmp_path / "digits", n=20, label=7, format="npz", seed=1)
    with np.load(made.path, allow_pickle=False) as arrays:
        assert set(arrays["labels"].tolist()) == {7}
    full = asks(served.url, "dataset", tmp_path / "full.zip", n=2, metadata="full")
    with zipfile.ZipFile(full.path) as archive:
        assert b"genserve" in archive.read(archive.namelist()[0])


def test_an_interrupted_program_leaves_what_it_had(served: Server, tmp_path: Path) -> None:
    path = tmp_path / "digits.zip"

    def interrupt(progress: Progress) -> None:
        if progress.images > 100:
            raise KeyboardInterrupt

    with Client(served.url) as client, pytest.raises(KeyboardInterrupt):
        client.dataset(path, n=N, seed=5, progress=interrupt)
    with dataset(path, n=N, seed=5) as part:
        assert part.resumes
    assert left(path) == ["digits.zip.part", "digits.zip.part.json"]


def test_two_downloads_into_one_file_do_not_mix(served: Server, tmp_path: Path) -> None:
    path = tmp_path / "digits.zip"
    second: list[OSError] = []

    def begin_another(_: Progress) -> None:
        if not second:
            with Client(served.url) as other, pytest.raises(OSError, match="another") as refused:
                other.dataset(path, n=N, seed=6)
            second.append(refused.value)

    with Client(served.url) as client:
        made = client.dataset(path, n=N, seed=5, progress=begin_another)
    assert (made.seed, made.bytes) == (5, path.stat().st_size)
    assert str(path) in str(second[0])
    assert zipfile.ZipFile(path).testzip() is None
    assert left(path) == ["digits.zip"]


def test_what_another_download_has_just_ended_is_not_written_over(
    served: Server, tmp_path: Path
) -> None:
    """Both found the same part; one ended while the other's answer was on its way."""
    path = tmp_path / "digits.zip"
    with Client(served.url) as client, pytest.raises(KeyboardInterrupt):
        client.dataset(path, n=N, seed=5, progress=interrupt_at(2_000))
    late = dataset(path, n=N, seed=5)
    assert late.resumes
    with Client(served.url) as client:
        client.dataset(path, n=N, seed=5)
    whole = path.read_bytes()
    headers = {"content-range": f"bytes {late.size - 1}-{len(whole) - 1}/{len(whole)}"}
    with pytest.raises(OSError, match="just finished"):
        late.begin(206, headers)
    assert path.read_bytes() == whole
    assert left(path) == ["digits.zip"]
