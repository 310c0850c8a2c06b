"""The card and the picture of an imported generator."""

import html
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.importing.trial import EXACT, Trial
from training.networks.graph.config import GraphConfig
from training.networks.header import Description

COLUMNS = 10
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def write_picture(path: Path, images: NDArray[np.float32]) -> None:
    """Write samples (n, C, H, W) in [0, 1] as a sheet of ten columns."""
    count, channels, height, width = images.shape
    columns = min(COLUMNS, count)
    rows = count // columns
    levels = np.rint(images[: rows * columns].clip(0, 1) * 255).astype(np.uint8)
    sheet = levels.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    Image.fromarray(sheet[..., 0] if channels == 1 else sheet, _MODES[channels]).save(path, "PNG")


def card(name: str, description: Description, digest: str, trial: Trial) -> str:
    """The card's text."""
    config, data, training = description.network, description.data, description.training
    assert isinstance(config, GraphConfig)
    latent = "; ".join(
        f"{part.name} {' x '.join(map(str, part.shape))}, {part.distribution}"
        for part in config.noise
    )
    rows = "the same bits" if trial.difference == EXACT else f"within {trial.difference:.1e}"
    note = f"{_escaped(str(training['note']))}\n\n" if training["note"] else ""
    machines = "not asked for: another processor may round some pixels otherwise"
    if description.portable:
        graph = next(iter(description.graphs.values()))
        machines = (
            f"the same bytes (portable); quantised, at {graph.mean_difference:.2g} levels a pixel"
        )
    shape = " x ".join(map(str, config.image_shape))
    return f"""# {name}

A generator imported from {_escaped(str(training["imported_from"]))}.

![samples]({name}.png)

Samples of the seeds from 0 on, none chosen.

| | |
| --- | --- |
| operations | {", ".join(config.operations)} |
| latent | {_escaped(latent)} |
| image | {shape} (channels, height, width), {config.output.range} |
| labels | {_escaped(", ".join(description.labels)) or "none"} |
| rows alone and among others | {rows} |
| on other machines | {machines} |
| time | {trial.milliseconds:.3g} ms an image on one core, where it was imported |
| digest | `{digest}` |

## Data

{_escaped(str(data["name"]))}, licence {_escaped(str(data["licence"]))}.

{note}## Figures

Not measured: `python -m training evaluate {name} --data FOLDER` measures it against its data.

## Limits

It can generate only what its training set shows. Whether it repeats training images was not
measured.
"""


def _escaped(text: str) -> str:
    """A user's text for Markdown: no markup, and no end of a table's cell."""
    return re.sub(r"([\\`*_\[\]!|])", r"\\\1", html.escape(text, quote=False))
