"""A run as a film: its own pictures of the same samples, and its losses, in one small WebP."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from PIL import Image

from training.runs.errors import write_errors
from training.runs.reporting import LOG, read_log
from training.runs.run_folder import read_config

FILM = "film.webp"
FRAMES = (30, 20, 12, 6)  # of a film at most; with each all qualities are tried
ROWS, COLUMNS = 2, 10  # of a frame, out of a run's picture: its last rows, which are samples
GAP = 2  # pixels between images of a run's picture (``reporting.write_grid``)
POINTS = 150  # of each loss
MAX_BYTES = 200_000
MAX_SIDE = 16_383  # of a WebP
QUALITIES = (92, 85, 75, 60, 45, 30)  # of WebP; the first file that fits is taken

# Name in the log -> name in the film.
_LOSSES = {
    "loss_d": "discriminator",
    "loss_g": "generator",
    "reconstruction": "reconstruction",
    "kl": "kl",
}
# Losses of a discriminator that gives each image a half: -log(1/2) for each of its two terms.
_CHANCE = {"discriminator": 2 * math.log(2), "generator": math.log(2)}
_NAMESPACE = "urn:x-genserve:film:"


def save_film(folder: Path) -> Path | None:
    """Write ``film.webp`` into a run's folder: frames one under the other, without gaps.

    Its XMP packet has the attribute ``genserve:film``, JSON: ``frames`` (images seen at each),
    ``losses`` (name -> values), ``images`` (seen at each value), and ``chance``, what the losses
    are if the discriminator can only guess.

    Returns:
        The file; None = the run kept fewer than two pictures.

    Raises:
        TrainingError: it cannot be written.
    """
    _, _, run, data = read_config(folder)
    log = read_log(folder / LOG)
    shots = _shots(folder / "samples", log)
    if len(shots) < 2:
        return None
    chance = _CHANCE if getattr(run, "loss", "") == "nonsaturating" else {}
    notes = {**_losses(log), "chance": chance}
    path = folder / FILM
    with write_errors(path):
        for frames, quality in product(FRAMES, QUALITIES):
            if min(frames, len(shots)) * ROWS * data.image_size > MAX_SIDE:
                continue
            kept = _spread(shots, frames)
            xmp = _xmp({"frames": [seen for seen, _ in kept], **notes})
            reel = _reel([_rows(picture, data.image_size) for _, picture in kept])
            reel.save(path, "WEBP", quality=quality, method=6, xmp=xmp)
            if path.stat().st_size <= MAX_BYTES:
                break
    return path


def _spread(shots: Sequence[tuple[int, Path]], count: int) -> Sequence[tuple[int, Path]]:
    """At most ``count`` of them: more of the first, which differ most, and the last."""
    if len(shots) <= count:
        return shots
    last = len(shots) - 1
    return [
        shots[i] for i in sorted({round(last * (k / (count - 1)) ** 1.5) for k in range(count)})
    ]


def _reel(frames: Sequence[Image.Image]) -> Image.Image:
    """Frames one under the other."""
    width, height = frames[0].size
    reel = Image.new("RGB", (width, height * len(frames)))
    for place, frame in enumerate(frames):
        reel.paste(frame, (0, place * height))
    return reel


def _shots(folder: Path, log: Sequence[Mapping[str, Any]]) -> list[tuple[int, Path]]:
    """(images seen, file) of a run's pictures, in order."""
    if not log:
        return []
    a_step = log[-1]["images"] / log[-1]["step"]
    an_epoch = log[-1]["images"] / log[-1]["epoch"]
    images = {"step": a_step, "epoch": an_epoch}
    found = []
    for path in folder.glob("*.png"):
        if named := re.fullmatch(r"(step|epoch)-(\d+)", path.stem):
            found.append((round(images[named[1]] * int(named[2])), path))
    return sorted(found)


def _rows(path: Path, size: int) -> Image.Image:
    """The last rows of a run's picture, without the gaps."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    step = size + GAP
    columns = min(COLUMNS, (picture.width - GAP) // step)
    rows = (picture.height - GAP) // step
    frame = Image.new("RGB", (columns * size, ROWS * size))
    for row in range(ROWS):
        for column in range(columns):
            left, top = GAP + column * step, GAP + (rows - ROWS + row) * step
            tile = picture.crop((left, top, left + size, top + size))
            frame.paste(tile, (column * size, row * size))
    return frame


def _losses(log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``images`` and ``losses``: means over equal parts of the log."""
    names = {name: shown for name, shown in _LOSSES.items() if any(name in line for line in log)}
    lines = [line for line in log if all(name in line for name in names)]
    parts = min(POINTS, len(lines))
    cuts = [round(i * len(lines) / parts) for i in range(parts + 1)] if parts else [0]
    blocks = [lines[a:b] for a, b in pairwise(cuts)]
    return {
        "images": [block[-1]["images"] for block in blocks],
        "losses": {
            shown: [round(sum(line[name] for line in block) / len(block), 4) for block in blocks]
            for name, shown in names.items()
        },
    }


def _xmp(notes: Mapping[str, Any]) -> bytes:
    """An XMP packet (ISO 16684-1): that networks made the pictures, and the notes."""
    text = json.dumps(notes, separators=(",", ":"))
    source = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'xmlns:genserve="{_NAMESPACE}" Iptc4xmpExt:DigitalSourceType="{source}" '
        f"genserve:film={quoteattr(text)}/></rdf:RDF></x:xmpmeta>"
    ).encode()
