"""What a person says of a generator that its file does not."""

import re
from dataclasses import dataclass
from pathlib import Path

from training.importing.errors import GeneratorError
from training.networks.graph.config import DISTRIBUTIONS, MAX_CLASSES, Noise
from training.networks.header import MAX_LABEL_CHARACTERS

MOST_TEXT = {"licence": 200, "data": 200, "source": 200, "note": 1000}  # characters
FITS = ("pad", "crop", "mnist")
_NOISE = re.compile(r"(?:(?P<name>[^=]+)=)?(?P<shape>\d+(?:x\d+)*)(?::(?P<distribution>\w+))?")


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
