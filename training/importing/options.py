"""What a person says of a generator that its file does not."""

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.importing.errors import GeneratorError
from training.networks.graph.config import (
    DISTRIBUTIONS,
    LABEL_FORMS,
    LAYOUTS,
    MAX_CLASSES,
    MAX_INPUTS,
    MAX_LATENT_NUMBERS,
    MAX_RANK,
    RANGES,
    Noise,
)
from training.networks.header import MAX_LABEL_CHARACTERS, NAME

MOST_TEXT = {"licence": 200, "data": 200, "source": 200, "note": 1000}  # characters
FITS = ("pad", "crop", "mnist")
_CHOICES = {
    "range": tuple(RANGES),
    "input_range": tuple(RANGES),
    "layout": LAYOUTS,
    "label_form": LABEL_FORMS,
    "fit": FITS,
}
_NOISE = re.compile(
    r"(?:(?P<name>[^=]+)=)?(?P<shape>[0-9]{1,99}(?:x[0-9]{1,99})*)(?::(?P<distribution>\w+))?"
)


@dataclass(frozen=True)
class Options:
    """What is said of a generator. None or () = found in the graph, or told by its samples."""

    name: str
    store: Path
    latent: tuple[Noise, ...] = ()  # a name of "" = the graph's only one, or the next in order
    image: tuple[int, int, int] | None = None  # channels, height, width; where the graph gives rows
    range: str | None = None  # of the pixels: one of graph_config.RANGES
    layout: str | None = None  # NCHW or NHWC
    input_range: str | None = None  # of the pixels that encode takes; None = as ``range``
    labels: tuple[str, ...] = ()  # class names by index
    label_form: str | None = None  # index or one_hot
    truncation: bool | None = None  # None = where the first noise input is normal or uniform
    mean_latent: tuple[float, ...] = ()
    licence: str = "unknown"  # of what it was trained on
    data: str = "unknown"  # what it was trained on
    source: str = ""  # where the generator is from
    note: str = ""
    fit: str = "pad"  # how a picture of another shape is fitted, one of FITS
    max_batch: int | None = None
    replace: bool = False  # a checkpoint of this name

    def __post_init__(self) -> None:
        for text in ("licence", "data", "source", "note"):
            value, most = getattr(self, text), MOST_TEXT[text]
            if len(value) > most or not value.isprintable():
                raise GeneratorError(
                    f"{text} is {value[:40]!r}; it has to be a line of at most {most} printable "
                    "characters"
                )
        if not NAME.fullmatch(self.name):
            raise GeneratorError(
                f"{self.name!r} is not a valid name; allowed: 1 to 64 lower-case letters, digits, "
                "'.', '_' and '-', the first a letter or digit"
            )
        if self.image is not None and not (
            len(self.image) == 3 and all(type(n) is int and n >= 1 for n in self.image)
        ):
            raise GeneratorError(
                f"image is {self.image}; it is channels, height and width, such as (3, 32, 32)"
            )
        for choice, allowed in _CHOICES.items():
            value = getattr(self, choice)
            if value is not None and value not in allowed:
                raise GeneratorError(f"{choice} is {value!r}; allowed: {', '.join(allowed)}")
        if len(self.latent) > MAX_INPUTS:
            raise GeneratorError(
                f"{len(self.latent)} noise inputs are given; at most {MAX_INPUTS} are served"
            )
        for part in self.latent:
            fits = len(part.shape) <= MAX_RANK and all(side >= 1 for side in part.shape)
            if not fits or part.size > MAX_LATENT_NUMBERS:
                raise GeneratorError(
                    f"the latent {'x'.join(map(str, part.shape))[:99]} is not 1 to {MAX_RANK} "
                    f"sides of at least 1, with at most {MAX_LATENT_NUMBERS} numbers in all"
                )
        if len(self.labels) > MAX_CLASSES:
            raise GeneratorError(f"{len(self.labels)} classes; at most {MAX_CLASSES} are served")
        for label in self.labels:
            if not (1 <= len(label) <= MAX_LABEL_CHARACTERS and label.isprintable()):
                raise GeneratorError(
                    f"the label {label[:40]!r} is not 1 to {MAX_LABEL_CHARACTERS} printable "
                    "characters"
                )
            if self.labels.count(label) > 1:
                raise GeneratorError(f"two classes are called {label!r}")


def noise_inputs(latent: Any) -> tuple[Noise, ...]:
    """The noise inputs that a notebook gives: a size, a shape, a text as on the command line, or
    several of these.

    Raises:
        GeneratorError: it is none of them.
    """
    if isinstance(latent, str):
        return (parse_noise(latent),)
    parts = list(latent) if isinstance(latent, Sequence) else [latent]
    try:
        if parts:
            return (Noise("", tuple(map(operator.index, parts))),)
    except TypeError:
        if isinstance(latent, Sequence):
            return tuple(noise for part in parts for noise in noise_inputs(part))
    raise GeneratorError(
        f"latent is {latent!r}; give a size such as 100, a shape such as (100, 1, 1), or a list of "
        'texts such as ["100", "4x8x8:uniform"]'
    )


def parse_noise(text: str) -> Noise:
    """A noise input from ``100``, ``4x8x8:uniform`` or ``z=100x1x1:normal``.

    Raises:
        GeneratorError: it is not of that form.
    """
    match = _NOISE.fullmatch(text)
    distribution = match and (match["distribution"] or "normal")
    if not match or distribution not in DISTRIBUTIONS:
        raise GeneratorError(
            f"--latent is {text!r}; write its shape, such as 100 or 4x8x8, with :DISTRIBUTION "
            f"({', '.join(DISTRIBUTIONS)}) if it is not normal, and with NAME= before it where the "
            "graph has several noise inputs"
        )
    shape = tuple(int(side) for side in match["shape"].split("x"))
    return Noise(match["name"] or "", shape, distribution or "normal")
