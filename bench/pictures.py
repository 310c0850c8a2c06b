"""``python -m bench pictures``: digits on spoiled sheets, and what is no digit.

Test digits 5,000 and on are drawn on each of ``bench.sheets``, read as an upload is, and encoded
and decoded by a VAE of the store. The judge of the quality figures then says whether the
reconstruction is still that digit. The numbers in ``app/fitting`` were chosen with test digits
before 5,000.
"""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from app.engines.backend import from_levels, to_levels
from app.engines.store import StoredModel, load_store
from app.errors import StartupError
from app.fitting.adapt import fitting_for
from app.formats.reading.picture_header import DecodingLimits
from app.formats.reading.uploads import read_upload
from bench import rig
from bench.children import BenchError
from bench.drawing import PAPER, Array, jpeg, png
from bench.sheets import SHEETS
from training.data.dataset import DataError
from training.data.sources import data_spec, default_data_root, load_data
from training.evaluation.judge import judge_for
from training.evaluation.judge_networks import Judge, PublishingJudge

FIRST = 5_000  # of the held-out digits
SEED = 5

# What v0.1 scored on the first 50 of these digits, at revision 5bf8172.
BEFORE: dict[str, float] = {
    "clean sheet": 1.00,
    "28 x 28, grey paper": 0.24,
    "29 x 29, grey paper": 1.00,
    "edge of a shadow, factor .8": 0.86,
    "edge of a shadow, factor .7": 0.12,
    "edge of a shadow, factor .5": 0.12,
    "slanting, soft shadow": 0.10,
    "vignette to .55": 0.82,
    "a finger's shadow": 0.16,
    "one speck": 0.90,
    "forty specks": 0.18,
    "ruled paper, red margin": 0.20,
    "squared paper": 1.00,
    "lines as dark as the pencil": 0.20,
    "dim photo (paper 110, ink 40)": 0.10,
    "blue ink": 1.00,
    "red ink": 1.00,
    "yellow marker on white": 1.00,
    "pencil": 1.00,
    "thin ball pen": 1.00,
    "thick marker": 1.00,
    "chalk on a blackboard": 1.00,
    "white ink on brown paper": 0.10,
    "black ink on red paper": 0.10,
    "crumpled paper": 0.82,
    "two lamps": 0.12,
    "flash": 0.38,
    "motion blur": 1.00,
    "out of focus": 1.00,
    "noise of a dark room": 0.10,
    "JPEG of quality 8": 1.00,
    "grain of recycled paper": 0.20,
    "sheet on a table, turned 10 degrees": 0.12,
    "sheet on a table, in perspective": 0.12,
    "a finger at the edge": 0.66,
    "box around the digit": 0.56,
    "punched holes": 0.66,
    "small and off the middle": 1.00,
    "cropped tightly": 1.00,
    "photo of a screen, moire": 1.00,
    "photo of a screen in dark mode": 1.00,
    "drawing app, black on nothing": 1.00,
    "drawing app, white on nothing": 1.00,
    "folded sheet": 0.20,
    "writing shines through": 1.00,
    "coffee ring": 0.46,
    "small print above": 0.20,
    "underlined": 0.36,
    "fax, black and white": 0.10,
    "thumbnail of 45 x 60": 1.00,
}


def letters() -> Iterator[bytes]:
    """Capital letters in print."""
    for letter in "ABEFGHKMNPRSTVWXY":
        sheet = Image.new("RGB", (300, 400), PAPER)
        font = ImageFont.load_default(200)
        ImageDraw.Draw(sheet).text((90, 60), letter, (40, 40, 60), font)
        yield png(sheet)


def empty_sheets() -> Iterator[bytes]:
    """Nothing but paper, light and noise."""
    random = np.random.default_rng(SEED)
    for _ in range(20):
        light = np.linspace(random.uniform(0.6, 1), random.uniform(0.6, 1), 600)[:, None, None]
        yield jpeg(np.array(PAPER) * light + random.normal(0, 3, (600, 400, 3)))


def streets() -> Iterator[bytes]:
    """A street, roughly: sky, houses with windows, a road, and a car."""
    random = np.random.default_rng(SEED)
    for _ in range(20):
        photo = Image.new("RGB", (600, 400), (150, 180, 220))
        pen = ImageDraw.Draw(photo)
        for left in range(0, 600, 120):
            top, shade = int(random.integers(40, 160)), random.integers(60, 190, 3).tolist()
            pen.rectangle([left, top, left + 112, 300], tuple(shade))
            for x in range(left + 12, left + 100, 34):
                for y in range(top + 14, 280, 44):
                    pen.rectangle([x, y, x + 18, y + 26], (40, 44, 60))
        pen.rectangle([0, 300, 600, 400], (80, 80, 84))
        x = int(random.integers(40, 400))
        pen.rectangle([x, 290, x + 130, 350], (170, 30, 30))
        for wheel in (x + 16, x + 86):
            pen.ellipse([wheel, 335, wheel + 32, 367], (10, 10, 10))
        yield jpeg(np.asarray(photo) + random.normal(0, 8, (400, 600, 3)))


def faces() -> Iterator[bytes]:
    """A face, roughly."""
    random = np.random.default_rng(SEED)
    for _ in range(20):
        photo = Image.new("RGB", (400, 500), tuple(random.integers(60, 220, 3).tolist()))
        pen = ImageDraw.Draw(photo)
        pen.ellipse([90, 60, 310, 380], (70, 50, 40))
        pen.ellipse([110, 100, 290, 390], (222, 180, 150))
        for x in (150, 220):
            pen.ellipse([x, 210, x + 34, 228], (245, 245, 245))
            pen.ellipse([x + 10, 210, x + 26, 228], (50, 40, 40))
        pen.line([(200, 230), (190, 290), (206, 292)], (190, 140, 115), 5)
        pen.arc([160, 290, 240, 350], 20, 160, (160, 60, 60), 7)
        yield jpeg(np.asarray(photo) + random.normal(0, 6, (500, 400, 3)))


def noise() -> Iterator[bytes]:
    """Nothing but noise."""
    random = np.random.default_rng(SEED)
    for _ in range(20):
        yield png(random.integers(0, 256, (200, 200), dtype=np.uint8).astype(np.float32))


NO_DIGITS = {
    "empty sheet": empty_sheets,
    "street": streets,
    "face": faces,
    "letter": letters,
    "noise": noise,
}


def _encoder(models_dir: Path | None) -> StoredModel:
    try:
        models, _ = load_store(rig.store(models_dir), engine="onnx")
    except StartupError as error:
        raise BenchError(str(error)) from error
    vaes = [model for model in models.values() if "encode" in model.operations]
    if not vaes:
        raise BenchError("the store has no VAE")
    return vaes[0]


def _read(
    model: StoredModel, judge: Judge, files: Sequence[bytes]
) -> tuple[list[int], list[float] | None]:
    """What the judge reads in each file's reconstruction, and each file's fit."""
    how = fitting_for(model.description.data)
    shape = model.network.image_shape
    uploads = [read_upload(file, shape, DecodingLimits(), how) for file in files]
    levels = np.stack([upload.image for upload in uploads])
    images = from_levels(levels)
    mu, _ = model.backend.run("encode", images, None)
    (decoded,) = model.backend.run("decode", mu, None)
    reconstructions = from_levels(to_levels(decoded)[0])  # as a client gets them
    with torch.no_grad():
        classes = judge(torch.from_numpy(reconstructions))[0].argmax(1).tolist()
    table = model.description.fit
    return classes, table.fit(images, reconstructions, mu) if table else None


def write(args: Namespace) -> None:
    """Print the tables.

    Raises:
        BenchError: there is no VAE, or no MNIST.
    """
    model = _encoder(args.models_dir)
    try:
        train, test = load_data(data_spec("mnist", default_data_root()))
    except DataError as error:
        raise BenchError(str(error)) from error
    judge = judge_for(PublishingJudge, train, torch.device("cpu"))
    chosen = slice(FIRST, FIRST + args.digits)
    digits: list[Array] = [*(test.images[chosen, 0].numpy().astype(np.float32) / 255)]
    labels = test.labels[chosen].tolist()
    print(f"\n## pictures\n\n{len(digits)} held-out digits a row, reconstructed by {model.name}\n")
    print("| sheet | read right, v0.1 | read right, now | fit, median |\n| --- | --- | --- | --- |")
    for name, sheet in SHEETS.items():
        random = np.random.default_rng(SEED)
        classes, fits = _read(model, judge, [sheet(digit, random) for digit in digits])
        right = float(np.mean([one == other for one, other in zip(classes, labels, strict=True)]))
        before = f"{BEFORE[name]:.2f}" if name in BEFORE else ""
        print(f"| {name} | {before} | {right:.2f} | {_median(fits)} |", flush=True)
    print("\n| no digit | fit, median | fit, largest |\n| --- | --- | --- |")
    for name, pictures in NO_DIGITS.items():
        _, fits = _read(model, judge, list(pictures()))
        print(f"| {name} | {_median(fits)} | {f'{max(fits):.2f}' if fits else 'none'} |")


def _median(fits: list[float] | None) -> str:
    return f"{np.median(fits):.2f}" if fits else "none"
