"""What a checkpoint without a network of ours says of its graphs: kind ``graph``.

Its graphs are the network; nothing here knows how they compute. So the header has to say what a
network of ours knows by itself: how the latent is drawn, how a label enters, what the pixels mean.

A latent is one row of float32 numbers everywhere outside the graph: the noise inputs one after the
other, each in C order. ``[4, 8, 8]`` is 256 numbers.
"""

import math
import re
import typing
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

Operation = Literal["generate", "decode", "encode"]
Distribution = Literal["normal", "uniform", "truncated_normal", "sphere", "categorical"]
DISTRIBUTIONS: tuple[str, ...] = typing.get_args(Distribution)
LABEL_FORMS = ("index", "one_hot")
LAYOUTS = ("NCHW", "NHWC")
RANGES = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0), "0..255": (0.0, 255.0)}
# Which graphs a checkpoint may have, and with them what it can do: an image is always sampled, by
# decoding noise where there is no graph for it.
GRAPHS: tuple[tuple[Operation, ...], ...] = (
    ("generate",),
    ("decode",),
    ("decode", "encode"),
)

MAX_INPUTS = 64  # of noise
MAX_RANK = 6
MAX_LATENT_NUMBERS = 2**18  # of all inputs together: noise of 3 x 256 x 256 pixels fits
MAX_MEAN = 2**13  # numbers of a mean latent
MAX_SIDE = 1024  # pixels
MAX_CLASSES = 2**13
MAX_BATCH = 64
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_.:/\[\]-]{1,128}")


@dataclass(frozen=True)
class Noise:
    """One noise input of a graph."""

    name: str  # of the graph's input
    shape: tuple[int, ...]  # of one row
    # normal: N(0, 1); uniform: -1 to 1; truncated_normal: N(0, 1) within -2 to 2; sphere: evenly on
    # the unit sphere; categorical: one-hot along the last axis
    distribution: str = "normal"

    @property
    def size(self) -> int:
        """Numbers of one row."""
        return math.prod(self.shape)

    @property
    def classes(self) -> int:
        """Of a categorical input, the numbers of one code."""
        return self.shape[-1] if self.shape else 1


@dataclass(frozen=True)
class LabelInput:
    """How a label enters a graph."""

    name: str  # of the graph's input
    form: str = "index"  # index: int64 (B,); one_hot: float32 (B, K)


@dataclass(frozen=True)
class Pixels:
    """An image as a tensor of a graph."""

    name: str  # of the graph's input or output
    layout: str = "NCHW"  # one of LAYOUTS
    range: str = "0..1"  # one of RANGES: the numbers of black and of full intensity


@dataclass(frozen=True)
class GraphConfig:
    """What a checkpoint's graphs take and return."""

    architecture: str  # graph
    graphs: tuple[Operation, ...]  # generate; decode; or decode and encode
    noise: tuple[Noise, ...]  # inputs that an image's seed gives numbers to: list of Noise
    label: LabelInput | None  # LabelInput; null = none
    num_classes: int  # 0 = unconditional
    image_shape: tuple[int, int, int]  # channels, height, width
    output: Pixels  # of generate, or of decode: Pixels
    input: Pixels | None  # of encode: Pixels; null = none
    posterior: tuple[str, ...]  # names of encode's outputs: latent, or mean and log-variance
    truncation: bool  # whether moving the first noise input towards its mean makes sense
    mean_latent: tuple[float, ...]  # of the first noise input; () = 0
    max_batch: int  # most rows of a pass: bounds its memory and time

    def __post_init__(self) -> None:
        if self.architecture != "graph":
            raise ValueError(f"architecture is {self.architecture!r}; a graph's is 'graph'")
        if self.graphs not in GRAPHS:
            listed = "; ".join(" and ".join(names) for names in GRAPHS)
            raise ValueError(f"graphs are {', '.join(self.graphs)}; allowed: {listed}")
        if bool(self.num_classes) != (self.label is not None):
            raise ValueError(f"{self.num_classes} classes and label {self.label} do not agree")
        if not 0 <= self.num_classes <= MAX_CLASSES:
            raise ValueError(f"num_classes is {self.num_classes}; allowed: 0 to {MAX_CLASSES}")
        if self.label and self.label.form not in LABEL_FORMS:
            raise ValueError(f"label is {self.label.form!r}; allowed: {', '.join(LABEL_FORMS)}")
        if not 1 <= self.max_batch <= MAX_BATCH or self.max_batch & (self.max_batch - 1):
            raise ValueError(f"max_batch is {self.max_batch}; allowed: a power of 2 to {MAX_BATCH}")
        names = [part.name for part in self.noise] + ([self.label.name] if self.label else [])
        if len(set(names)) < len(names):
            raise ValueError(f"two inputs of the graph are called {', '.join(names)}")
        ends = [self.output.name, *([self.input.name] if self.input else []), *self.posterior]
        for name in (*names, *ends):
            if not _TENSOR_NAME.fullmatch(name):
                raise ValueError(f"a tensor's name is {name[:40]!r}, not {_TENSOR_NAME.pattern}")
        self._check_latent()
        self._check_images()

    def _check_latent(self) -> None:
        if not 1 <= len(self.noise) <= MAX_INPUTS:
            raise ValueError(f"{len(self.noise)} noise inputs; allowed: 1 to {MAX_INPUTS}")
        for part in self.noise:
            if len(part.shape) > MAX_RANK or not all(1 <= n <= 2**18 for n in part.shape):
                raise ValueError(f"noise {part.name} has the shape {list(part.shape)}")
            if part.distribution not in DISTRIBUTIONS:
                raise ValueError(
                    f"noise {part.name} is {part.distribution!r}; allowed: "
                    f"{', '.join(DISTRIBUTIONS)}"
                )
            if part.distribution == "categorical" and not part.shape:
                raise ValueError(f"noise {part.name} is categorical and has no axis of classes")
        if self.latent_dim > MAX_LATENT_NUMBERS:
            raise ValueError(
                f"the noise of an image has {self.latent_dim} numbers; at most {MAX_LATENT_NUMBERS}"
            )
        if "encode" in self.graphs and len(self.noise) != 1:
            raise ValueError("with encode there is one latent, not several noise inputs")
        scaled = self.noise[0].distribution not in ("sphere", "categorical")
        if self.truncation and not scaled:
            raise ValueError(f"{self.noise[0].distribution} noise cannot be truncated")
        if self.mean_latent:
            if not self.truncation or len(self.mean_latent) != self.noise[0].size:
                raise ValueError(
                    f"mean_latent has {len(self.mean_latent)} numbers; the first noise input has "
                    f"{self.noise[0].size}, and truncation is {self.truncation}"
                )
            # Written so that a NaN fails it.
            if len(self.mean_latent) > MAX_MEAN or not all(abs(x) <= 1e3 for x in self.mean_latent):
                raise ValueError(f"mean_latent is over {MAX_MEAN} numbers, or not within +-1000")

    def _check_images(self) -> None:
        channels, *sides = self.image_shape
        if channels not in (1, 3, 4) or not all(1 <= side <= MAX_SIDE for side in sides):
            raise ValueError(
                f"image_shape is {list(self.image_shape)}; allowed: 1, 3 or 4 channels, and sides "
                f"of 1 to {MAX_SIDE} pixels"
            )
        if bool(self.input) != ("encode" in self.graphs) or (
            len(self.posterior) not in ((1, 2) if self.input else (0,))
        ):
            raise ValueError("encode has an input and one or two outputs; other graphs none")
        for pixels in (self.output, *([self.input] if self.input else [])):
            if pixels.layout not in LAYOUTS or pixels.range not in RANGES:
                raise ValueError(
                    f"{pixels.name} is {pixels.layout} {pixels.range}; allowed: "
                    f"{', '.join(LAYOUTS)}; {', '.join(RANGES)}"
                )

    @cached_property
    def latent_dim(self) -> int:
        """Numbers of a latent: of all noise inputs."""
        return sum(part.size for part in self.noise)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """What it can do."""
        return ("generate", *(name for name in self.graphs if name != "generate"))


def parse_graph_config(table: dict[str, Any]) -> GraphConfig:
    """The config from JSON with exactly its fields, each of its type.

    Raises:
        ValueError: it is not that.
    """
    config = _parse("network", GraphConfig, table)
    assert isinstance(config, GraphConfig)
    return config


def _parse(where: str, wanted: Any, value: Any) -> Any:
    """A value of a type that the dataclasses above use, from what JSON has for it."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if type(None) in inner:
        return None if value is None else _parse(where, inner[0], value)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > MAX_MEAN:
            raise ValueError(f"{where} is not a list of at most {MAX_MEAN}")
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(value) != len(kinds):
            raise ValueError(f"{where} has {len(value)} values, not {len(kinds)}")
        return tuple(_parse(where, kind, one) for kind, one in zip(kinds, value, strict=True))
    if isinstance(wanted, type) and hasattr(wanted, "__dataclass_fields__"):
        names = [field.name for field in fields(wanted)]
        if not isinstance(value, dict) or set(value) != set(names):
            raise ValueError(f"fields of {where} are not exactly {', '.join(names)}")
        types = typing.get_type_hints(wanted)
        return wanted(
            **{name: _parse(f"{where} {name}", types[name], value[name]) for name in names}
        )
    plain = str if origin is Literal else wanted
    if type(value) is not plain and not (plain is float and type(value) is int):
        raise ValueError(f"{where} is not of type {plain.__name__}")
    return plain(value)
