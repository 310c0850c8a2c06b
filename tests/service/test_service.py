"""The shipped service: a real process on a real socket, with the checkpoints in models_store."""

import http.client
import json
import random
import shutil
import socket
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageFilter

from app.formats.png import to_png
from tests.live_service import until
from tests.shipped import CGAN, GAN, SIGNS, SIGNS_VAE, STORE, VAE


def pixels(png: bytes) -> Any:
    with PillowImage.open(BytesIO(png)) as picture:
        return np.asarray(picture)


def counted(url: str, name: str) -> float:
    """A counter of /metrics, summed over models and operations."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))


def at_once(url: str, paths: list[str]) -> list[tuple[int, bytes]]:
    """POST to all paths at the same time: every connection is open before the first request is
    sent, and every request is sent before the first answer is read."""
    host = urlsplit(url).netloc
    name, port = host.split(":")
    connections = [socket.create_connection((name, int(port)), timeout=60) for _ in paths]
    requests = [f"POST {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() for path in paths]
    for connection, request in zip(connections, requests, strict=True):
        connection.sendall(request)
    answers = []
    for connection in connections:
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        answers.append((answer.status, answer.read()))
        connection.close()
    return answers


def test_two_families_are_shipped_with_card_picture_and_figures(shipped: Any) -> None:
    body = httpx.get(f"{shipped.url}/models").json()
    assert body["refused"] == {}
    names = {card["name"]: card["kind"] for card in body["models"]}
    assert names == {CGAN: "cgan", GAN: "gan", VAE: "vae", SIGNS: "cgan", SIGNS_VAE: "vae"}
    # Some are kept apart.
    images = {CGAN: 60_000, GAN: 60_000, VAE: 58_800, SIGNS: 1_848, SIGNS_VAE: 1_756}
    for card in body["models"]:
        path = STORE / card["name"]
        assert path.with_suffix(".safetensors").stat().st_size < 9_000_000
        assert card["digest"] in path.with_suffix(".md").read_text()
        with PillowImage.open(path.with_suffix(".png")) as picture:
            picture.load()
        assert card["data"]["training_images"] == images[card["name"]]
        assert card["metrics"]["samples"] == 10_000
        assert card["training"]["command"].startswith("python -m training ")


def test_asking_for_a_seven_gives_a_picture_of_28_by_28(shipped: Any) -> None:
    answer = httpx.post(f"{shipped.url}/generate?label=7")
    image = pixels(answer.content)
    assert image.shape == (28, 28)
    assert image.max() > 200  # there is ink
    assert np.median(image) == 0  # on a black ground


def test_one_label_is_written_or_signed_by_the_model_that_is_named(shipped: Any) -> None:
    named = httpx.get(f"{shipped.url}/generate?label=7&seed=1&model={SIGNS}")
    hand = pixels(named.content)
    assert hand.shape == (64, 64, 3)
    assert np.ptp(hand.astype(int), axis=-1).mean() > 8  # it has colours
    alias = httpx.get(f"{shipped.url}/generate?label=7&seed=1&model=signs")
    assert alias.content == named.content
    assert named.headers["x-reproducibility"] == "portable"


def test_the_same_seed_gives_the_same_bytes_alone_and_among_64_at_once(shipped: Any) -> None:
    """Mixed models, labels and n, really at once: the batches that they share prove it."""
    shuffled = random.Random(0)
    queries = []
    for index in range(63):
        query = f"n={shuffled.choice([1, 1, 2, 3, 8, 20])}&seed={shuffled.randrange(10**6)}"
        model = (CGAN, CGAN, GAN, VAE)[index % 4]
        if model == CGAN and index % 3:
            query += f"&label={shuffled.randrange(10)}"
        queries.append(f"/generate?model={model}&{query}")
    seven = "/generate?label=7&seed=42"
    queries.append(seven)
    alone = {query: httpx.post(shipped.url + query).content for query in queries}

    before = counted(shipped.url, "genserve_forward_passes_total")
    for _ in range(3):
        shuffled.shuffle(queries)
        for query, (status, body) in zip(queries, at_once(shipped.url, queries), strict=True):
            assert status == 200
            assert body == alone[query], query
    passes = counted(shipped.url, "genserve_forward_passes_total") - before
    assert passes < 3 * 64 / 2


def test_64_concurrent_requests_take_far_fewer_forward_passes(shipped: Any) -> None:
    passes = counted(shipped.url, "genserve_forward_passes_total")
    images = counted(shipped.url, "genserve_images_total")
    for _ in range(4):
        answers = at_once(shipped.url, ["/generate?label=7"] * 64)
        assert {status for status, _ in answers} == {200}
        assert len({body for _, body in answers}) > 60  # fresh noise each
    assert counted(shipped.url, "genserve_images_total") - images == 256
    assert counted(shipped.url, "genserve_forward_passes_total") - passes <= 256 / 4


def test_real_digits_come_back_recognisable(shipped: Any, mnist_root: Path) -> None:
    from training.data.sources import data_spec, load_data

    _, test = load_data(data_spec("mnist", mnist_root))
    real = test.images[:64, 0].numpy()
    with httpx.Client(base_url=shipped.url) as client:
        rebuilt = []
        for image in real:
            encoded = client.post(
                "/encode", content=to_png(image), headers={"content-type": "image/png"}
            )
            mu = encoded.json()["items"][0]["mu"]
            decoded = client.post("/decode", json={"z": [mu]})
            rebuilt.append(pixels(decoded.content))
    back = np.stack(rebuilt)

    def nearest(images: Any) -> Any:
        """For each image the index of the nearest real one."""
        a = images.reshape(len(images), -1) / 255.0
        b = real.reshape(len(real), -1) / 255.0
        return ((a[:, None] - b[None]) ** 2).mean(-1).argmin(1)

    error = ((back / 255.0 - real / 255.0) ** 2).mean()
    assert error < 0.01  # the mean digit as an answer to all would give 0.067
    assert (nearest(back) == np.arange(64)).all()  # each is nearest to its own original


def test_a_tampered_checkpoint_is_refused_by_name_and_the_rest_serve(
    start_server: Any, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(STORE, tmp_path / "store"))
    path = store / f"{GAN}.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    with start_server("--models-dir", str(store)) as server:
        body = httpx.get(f"{server.url}/models").json()
        assert "damaged or altered" in body["refused"][f"{GAN}.safetensors"]
        assert httpx.post(f"{server.url}/generate?label=7").status_code == 200
        gone = httpx.post(f"{server.url}/generate?model={GAN}")
        assert gone.status_code == 404
        assert gone.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/generate?label=10", {}, 422),
        ("/generate?lable=7", {}, 422),
        ("/generate?n=0", {}, 422),
        ("/encode", {"files": {"file": ("notes.txt", b"dear diary", "text/plain")}}, 422),
        ("/encode", {"content": b"dear diary", "headers": {"content-type": "text/plain"}}, 415),
        ("/encode", {"content": b"dear diary", "headers": {"content-type": "image/png"}}, 422),
    ],
)
def test_mistakes_are_clear_problems(
    shipped: Any, path: str, options: dict[str, Any], status: int
) -> None:
    answer = httpx.post(shipped.url + path, **options)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "diary" not in answer.text
    assert json.loads(answer.text)["detail"]


def test_sigterm_ends_the_service_with_status_0(start_server: Any, tiny_store: Path) -> None:
    with start_server("--models-dir", str(tiny_store)) as server:
        assert httpx.get(f"{server.url}/livez").status_code == 200
        assert server.stop() == 0


def test_nothing_is_computed_for_clients_that_have_left(shipped: Any) -> None:
    images = counted(shipped.url, "genserve_images_total")
    host = urlsplit(shipped.url).netloc
    name, port = host.split(":")
    request = f"POST /generate?n=64 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    connections = [socket.create_connection((name, int(port))) for _ in range(150)]
    for connection in connections:
        connection.sendall(request)
    for connection in connections:
        connection.close()
    # Refused until the service has noticed that they left.
    until(lambda: httpx.post(f"{shipped.url}/generate?label=7&seed=42").status_code == 200)
    assert counted(shipped.url, "genserve_images_total") - images < 150 * 64 / 4
    left = [line for line in httpx.get(f"{shipped.url}/metrics").text.splitlines() if "499" in line]
    assert left


def photo(digit: Any, seed: int) -> bytes:
    """A digit as a camera gives it: ten times as large and with a thicker pen, somewhere on grey,
    unevenly lit, grainy paper, dark on light, as a JPEG."""
    random_numbers = np.random.default_rng(seed)
    large = PillowImage.fromarray(digit).resize((280, 280), PillowImage.Resampling.BICUBIC)
    thick = np.asarray(large.filter(ImageFilter.MaxFilter(7)), dtype=float) / 255
    ink = np.zeros((800, 600))
    top, left = random_numbers.integers(20, 480), random_numbers.integers(20, 280)
    ink[top : top + 280, left : left + 280] = thick
    paper = 200 + 25 * np.linspace(-1, 1, 800)[:, None] + 15 * np.linspace(1, -1, 600)
    levels = paper * (1 - ink) + 45 * ink + random_numbers.normal(0, 6, ink.shape)
    out = BytesIO()
    PillowImage.fromarray(levels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=80)
    return out.getvalue()


def test_a_photo_of_a_digit_is_encoded_near_the_digit(shipped: Any, mnist_root: Path) -> None:
    from training.data.sources import data_spec, load_data

    _, test = load_data(data_spec("mnist", mnist_root))
    real = test.images[:50, 0].numpy()

    with httpx.Client(base_url=shipped.url) as client:

        def encoded(data: bytes, kind: str, query: str = "") -> tuple[Any, str]:
            answer = client.post(f"/encode{query}", content=data, headers={"content-type": kind})
            (item,) = answer.json()["items"]
            told = item["picture"]
            size = f"{told['width']}x{told['height']}"
            assert answer.headers["x-picture"] == ", ".join([size, *told["steps"]])
            return np.array(item["mu"]), answer.headers["x-picture"]

        digits, photos, untouched = [], [], []
        for index, digit in enumerate(real):
            z, told = encoded(to_png(digit), "image/png")
            assert told == "28x28"  # as it is
            digits.append(z)
            taken = photo(digit, index)
            z, told = encoded(taken, "image/jpeg")
            assert told in (
                "600x800, inverted, centred",
                "600x800, inverted, pieces dropped, centred",
            )
            photos.append(z)
            untouched.append(encoded(taken, "image/jpeg", "?invert=no&center=no")[0])
        rebuilt = client.post(
            "/reconstruct", content=photo(real[0], 0), headers={"content-type": "image/jpeg"}
        )

    def distances(found: list[Any]) -> Any:
        return np.linalg.norm(np.array(found)[:, None] - np.array(digits), axis=2)

    near, far = distances(photos), distances(untouched)
    among = distances(digits).mean()  # two digits
    assert near.diagonal().mean() < 0.37 * among
    assert far.diagonal().mean() > 0.9 * among
    assert (near.diagonal() < far.diagonal()).all()
    assert (near.argmin(axis=1) == np.arange(50)).mean() > 0.9  # nearest to its own original
    assert ((pixels(rebuilt.content) / 255.0 - real[0] / 255.0) ** 2).mean() < 0.03
