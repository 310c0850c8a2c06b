"""Datasets that are interrupted: killed services, cut connections, changed models."""

import http.client
import json
import pickle
import re
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from app.core.datasets.seed_streams import stream_seeds
from client.tests.conftest import serving
from genserve import Client, ProblemError, Progress, UnreachableError
from genserve.download import dataset
from tests.client.conftest import Call
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

    def check(progress: Progress) -> None:
        if progress.bytes >= size:
            raise KeyboardInterrupt

    return check


class Proxy(TCPServer):
    """Between client and service: hands on, and cuts as many answers as it is told to.

    Args:
        url: Of the service.
        cuts: Bytes after which each of the first responses is cut; later ones are complete.
    """

    def __init__(self, url: str, cuts: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), BaseRequestHandler)
        self._host, port = urlsplit(url).netloc.split(":")
        self._port = int(port)
        self._cuts = cuts
        self.requests: list[str] = []
        self.carried = 0
        self.url = ""  # once it is serving

    def finish_request(self, request: Any, client_address: Any) -> None:
        with socket.create_connection((self._host, self._port)) as service:
            head = request.recv(65536)
            if not head:
                return
            self.requests.append(head.decode())
            head = head.replace(b"Connection: keep-alive", b"Connection: close")
            service.sendall(head)
            cut = self._cuts.pop(0) if self._cuts else 10**12
            with suppress(OSError):
                while cut > 0 and (data := service.recv(min(65536, cut))):
                    request.sendall(data)
                    cut -= len(data)
                    self.carried += len(data)


@contextmanager
def cutting(url: str, *cuts: int) -> Iterator[Proxy]:
    proxy = Proxy(url, list(cuts))
    with serving(proxy) as proxy.url:
        yield proxy


@pytest.mark.parametrize(("call", "form"), [("sync", "zip"), ("async", "npz")], indirect=["call"])
def test_a_file_whose_service_was_killed_twice_has_the_same_bytes(
    tiny_store: Path, call: Call, tmp_path: Path, whole: Callable[..., bytes], form: str
) -> None:
    path = tmp_path / f"digits.{form}"
    n, had = MANY[form], 0
    wanted = whole(form, n)
    for share in (3, 2):
        with running_server("--models-dir", str(tiny_store), "--workers", "1") as server:

            def kill(progress: Progress, server: Server = server, share: int = share) -> None:
                if progress.bytes > len(wanted) // share:
                    server.process.kill()

            with pytest.raises(UnreachableError, match="are kept, the same call resumes there"):
                call(server.url, "dataset", path, n=n, seed=5, progress=kill)
        assert left(path) == [f"{path.name}.part", f"{path.name}.part.json"]
        part = (tmp_path / f"{path.name}.part").read_bytes()
        assert had < len(part) < len(wanted)
        assert wanted.startswith(part)
        had = len(part)
    seen: list[Progress] = []
    with running_server("--models-dir", str(tiny_store), "--workers", "1") as server:
        file = call(server.url, "dataset", path, n=n, seed=5, progress=seen.append)
    assert path.read_bytes() == wanted
    assert left(path) == [path.name]
    assert (file.path, file.bytes, file.seed, file.n) == (path, len(wanted), 5, n)
    assert seen[0].bytes == had - 1
    assert seen[-1] == Progress(len(wanted), n, n)
    assert [progress.images for progress in seen] == sorted(progress.images for progress in seen)
    assert seen[0].images == pytest.approx(n * had / len(wanted), rel=0.1)


def test_a_cut_connection_is_resumed_in_the_same_call(
    served: Server, call: Call, tmp_path: Path, whole: Callable[..., bytes]
) -> None:
    path, size = tmp_path / "digits.zip", len(whole("zip"))
    with cutting(served.url, size // 3, size // 3) as proxy:
        file = call(proxy.url, "dataset", path, n=N, seed=5)
    assert path.read_bytes() == whole("zip")
    assert len(proxy.requests) >= 3
    assert proxy.requests[0].startswith("GET /dataset?seed=5&n=1500&format=zip ")
    assert "range" not in proxy.requests[0].lower()
    for request in proxy.requests[1:]:
        assert request.startswith(f"GET {file.permalink} ")
        assert "range: bytes=" in request.lower()
        assert "if-range: " in request.lower()
    assert proxy.carried < size * 1.1  # nothing came twice

    with cutting(served.url, *[size // 10] * 9) as proxy:  # but not for ever
        with pytest.raises(UnreachableError, match="are kept"):
            call(proxy.url, "dataset", tmp_path / "other.zip", n=N, seed=5)
        assert len(proxy.requests) == 6
        call(proxy.url, "dataset", tmp_path / "other.zip", n=N, seed=5)
    assert (tmp_path / "other.zip").read_bytes() == whole("zip")


def test_a_file_cut_after_its_last_byte_is_completed(
    served: Server, call: Call, tmp_path: Path
) -> None:
    for name in ("x.zip", "x.npz"):
        path = tmp_path / name
        first = call(served.url, "dataset", path, n=50, seed=5)
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
                call(proxy.url, "dataset", path, n=50, seed=5)
            assert f"bytes={kept - 1}-" in proxy.requests[0]
            assert path.read_bytes() == data


def test_a_file_without_a_seed_is_resumed_with_the_seed_drawn(
    served: Server, call: Call, tmp_path: Path
) -> None:
    path = tmp_path / "digits.npz"
    with cutting(served.url, 300_000) as proxy:
        file = call(proxy.url, "dataset", path, n=N, model="tiny-gan-v1")
        assert len(proxy.requests) >= 2
    assert f"seed={file.seed}&" in file.permalink
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["seeds"].tolist() == stream_seeds(file.seed, "", 0, N).tolist()
    again = call(served.url, "dataset", tmp_path / "again.npz", n=5, model="tiny-gan-v1")
    assert again.seed != file.seed


@pytest.mark.parametrize("damage", ["other parameters", "other file", "note", "no note", "no part"])
def test_a_part_of_another_file_is_replaced(
    served: Server, call: Call, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "digits.zip"
    part, note = tmp_path / "digits.zip.part", tmp_path / "digits.zip.part.json"
    file = call(served.url, "dataset", path, n=50, seed=5)
    data = path.read_bytes()
    path.unlink()
    part.write_bytes(b"\0" * 1000)
    content: dict[str, Any] = {
        "asked": {"n": "50", "seed": "5", "format": "zip"},
        "address": file.permalink,
        "etag": '"of another file"',
        "model": file.model,
    }
    if damage == "other parameters":
        content["asked"]["n"] = "60"
        content["etag"] = httpx.head(served.url + file.permalink).headers["etag"]
    note.write_text("{" if damage == "note" else json.dumps(content))
    if damage == "no note":
        note.unlink()
    if damage == "no part":
        part.unlink()
    seen: list[Progress] = []
    call(served.url, "dataset", path, n=50, seed=5, progress=seen.append)
    assert path.read_bytes() == data
    assert seen[0].bytes == 0
    assert left(path) == ["digits.zip"]


def test_a_part_of_a_model_no_longer_served_is_kept(
    served: Server, tiny_store: Path, call: Call, tmp_path: Path, whole: Callable[..., bytes]
) -> None:
    store, path = tmp_path / "store", tmp_path / "files" / "digits.zip"
    path.parent.mkdir()
    store.mkdir()
    for old in tiny_store.glob("tiny-gan-v1.*"):  # another model, of the same name
        shutil.copy(old, store / old.name.replace("-gan-", "-cgan-"))
    with cutting(served.url, *[100_000] * 6) as proxy, pytest.raises(UnreachableError):
        call(proxy.url, "dataset", path, n=N, seed=5)
    part = (path.parent / "digits.zip.part").read_bytes()
    assert whole("zip").startswith(part)
    with running_server("--models-dir", str(store), "--workers", "1") as server:
        with pytest.raises(ProblemError, match=r"digits.zip.part to start anew") as caught:
            call(server.url, "dataset", path, n=N, seed=5)
        assert caught.value.status == 404
        assert (path.parent / "digits.zip.part").read_bytes() == part
    call(served.url, "dataset", path, n=N, seed=5)  # where it is served it goes on
    assert path.read_bytes() == whole("zip")


def test_mistakes_are_reported_before_anything_is_written(
    served: Server, call: Call, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"digits\.tar' does not say which format; .* \.zip and"):
        call(served.url, "dataset", tmp_path / "digits.tar")
    with pytest.raises(ProblemError, match="0 to 9"):
        call(served.url, "dataset", tmp_path / "digits.zip", label="x")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="No such file"):
        call(served.url, "dataset", tmp_path / "nowhere" / "digits.zip", n=1)
    file = call(served.url, "dataset", tmp_path / "digits", n=20, label=7, format="npz", seed=1)
    with np.load(file.path, allow_pickle=False) as arrays:
        assert set(arrays["labels"].tolist()) == {7}
    full = call(served.url, "dataset", tmp_path / "full.zip", n=2, metadata="full")
    with zipfile.ZipFile(full.path) as archive:
        assert b"genserve" in archive.read(archive.namelist()[0])


def test_an_interrupted_program_keeps_what_arrived(served: Server, tmp_path: Path) -> None:
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
        file = client.dataset(path, n=N, seed=5, progress=begin_another)
    assert (file.seed, file.bytes) == (5, path.stat().st_size)
    assert str(path) in str(second[0])
    assert zipfile.ZipFile(path).testzip() is None
    assert left(path) == ["digits.zip"]


def test_a_file_that_another_download_just_finished_is_not_overwritten(
    served: Server, tmp_path: Path
) -> None:
    """Both saw the same part; one finished while the other waited for its response."""
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


def test_a_service_with_no_room_for_a_dataset_gets_the_request_again(
    tiny_store: Path, call: Call, tmp_path: Path
) -> None:
    """A real 503 and its Retry-After; there is room again while the client waits."""
    options = ("--models-dir", str(tiny_store), "--workers", "1", "--max-datasets", "1")
    refusals = r'genserve_requests_total\{.*route="/dataset",status="503"\} 1.0'
    with running_server(*options) as server:
        other = http.client.HTTPConnection(urlsplit(server.url).netloc)
        other.request("GET", f"/dataset?n={MANY['zip']}&seed=1")
        assert other.getresponse().read(1)  # it is being made, and waits to be read
        refused = threading.Event()

        def make_room() -> None:
            while not re.search(refusals, httpx.get(f"{server.url}/metrics").text):
                time.sleep(0.01)
            refused.set()
            other.close()

        thread = threading.Thread(target=make_room)
        thread.start()
        settings = {"retries": 50, "longest_wait_s": 1e6}
        began = time.monotonic()
        file = call(server.url, "dataset", tmp_path / "x.zip", n=10, seed=1, settings=settings)
        assert refused.is_set()
        assert time.monotonic() - began >= 1
        thread.join()
        assert file.path.read_bytes() == httpx.get(server.url + file.permalink).content


def test_without_a_path_the_arrays_come_back_in_memory(
    served: Server, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = call(served.url, "dataset", n=40, seed=5, split="test")
    assert (data.path, len(data), data.seed, data.model) == (None, 40, 5, "tiny-cgan-v1")
    assert data.images.shape == (40, 28, 28)
    assert data.labels.tolist() == [index % 10 for index in range(40)]
    assert len(set(data.seeds.tolist())) == 40
    assert len(repr(data)) < 400
    assert list(tmp_path.iterdir()) == []
    image, label = data[7]
    with Client(served.url) as client:
        one = client.generate(label=label, seed=int(data.seeds[7]))
    np.testing.assert_array_equal(one.array[0], image)
    again = pickle.loads(pickle.dumps(data))  # as DataLoader's workers get it
    np.testing.assert_array_equal(again[7][0], image)
    plain = call(served.url, "dataset", n=5, model="tiny-gan-v1")
    assert plain.labels is None
    assert plain[4].shape == (28, 28)
    with pytest.raises(ValueError, match="without a path arrays are returned"):
        call(served.url, "dataset", n=5, format="zip")


def test_a_file_of_arrays_is_read_and_one_of_pictures_says_so(
    served: Server, tmp_path: Path
) -> None:
    with Client(served.url) as client:
        held = client.dataset(n=20, seed=5)
        saved = client.dataset(tmp_path / "d.npz", n=20, seed=5)
        pictures = client.dataset(tmp_path / "d.zip", n=20, seed=5)
    np.testing.assert_array_equal(saved.images, held.images)
    with pytest.raises(ValueError, match="holds pictures"):
        _ = pictures.images


def test_too_many_images_of_generate_are_pointed_to_dataset(served: Server) -> None:
    with Client(served.url) as client, pytest.raises(ProblemError, match="/dataset generates any"):
        client.generate(n=1000)
