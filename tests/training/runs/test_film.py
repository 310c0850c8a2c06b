"""A run's film: which pictures it has, and what it says of them."""

import json
import math
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.runs.film import FRAMES, MAX_BYTES, save_film

SIZE = 28
GREY = 64  # of the gaps


def run_with(folder: Path, pictures: dict[str, int], loss: str = "nonsaturating") -> Path:
    """A run's folder whose pictures are of one grey each, with a log of 400 lines."""
    config = json.loads(CONFIG)
    config["run"]["loss"] = loss
    (folder / "config.json").write_text(json.dumps(config))
    lines = [
        {"step": 10 * n, "epoch": n / 10, "images": 320 * n, "loss_d": 1.0 + n, "loss_g": 2.0}
        for n in range(1, 401)
    ]
    lines.insert(50, {"step": 500, "epoch": 5.0, "images": 16_000, "frechet_judge": 3.0})
    (folder / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "samples").mkdir()
    for name, grey in pictures.items():
        sheet = np.full((8 * 30 + 2, 10 * 30 + 2, 3), GREY, np.uint8)
        for row in range(8):
            for column in range(10):
                top, left = 2 + 30 * row, 2 + 30 * column
                sheet[top : top + SIZE, left : left + SIZE] = grey if row >= 6 else 255
        Image.fromarray(sheet).save(folder / "samples" / f"{name}.png")
    return folder


CONFIG = Path(__file__).with_name("film-config.json").read_text()


def notes_of(path: Path) -> dict[str, Any]:
    with Image.open(path) as film:
        packet = film.info["xmp"].decode()
    assert "trainedAlgorithmicMedia" in packet
    (text,) = re.findall(r"genserve:film=[\"'](.*?)[\"']/>", packet)
    return dict(json.loads(unescape(text)))


def test_a_film_has_the_runs_samples_in_order_and_its_losses(tmp_path: Path) -> None:
    pictures = {"epoch-004": 200, "step-0000001": 0, "epoch-002": 120, "prior": 255}
    path = save_film(run_with(tmp_path, pictures))
    assert path
    notes = notes_of(path)
    assert notes["frames"] == [32, 6400, 12_800]
    assert notes["chance"] == pytest.approx(
        {"discriminator": 2 * math.log(2), "generator": math.log(2)}
    )
    losses = notes["losses"]
    assert len(losses["discriminator"]) == len(losses["generator"]) == len(notes["images"]) == 150
    assert np.mean(losses["generator"]) == 2
    assert losses["discriminator"] == sorted(losses["discriminator"])
    assert notes["images"][-1] == 128_000
    with Image.open(path) as film:
        assert film.size == (10 * SIZE, 3 * 2 * SIZE)
        frames = np.asarray(film.convert("L")).reshape(3, 2 * SIZE, 10 * SIZE)
    assert [round(float(frame.mean()), -1) for frame in frames] == [0, 120, 200]


def test_a_long_film_keeps_the_first_steps_and_fits_its_limit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = {f"epoch-{n:03d}": int(rng.integers(255)) for n in range(1, 101)}
    folder = run_with(tmp_path, pictures, loss="hinge")
    for path in (folder / "samples").iterdir():
        noise = rng.integers(0, 256, (242, 302, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    film = save_film(folder)
    assert film
    notes = notes_of(film)
    assert 10 < len(notes["frames"]) <= FRAMES[0]
    assert notes["frames"][0] == 3200
    assert notes["frames"][1] < 20_000
    assert notes["frames"][-1] == 320_000
    assert notes["chance"] == {}
    assert film.stat().st_size <= MAX_BYTES  # noise, which compresses worst


def test_a_run_without_pictures_has_no_film(tmp_path: Path) -> None:
    assert save_film(run_with(tmp_path, {"epoch-001": 3})) is None
