"""A checkpoint's header: what the file says about itself, read and checked without torch.

One safetensors file holds a network, its description and its digest; reading it runs no code. The
metadata of the safetensors header are text values:

=============== ================================================================================
``format``      ``"5"``
``kind``        one of ``training.networks.configs.KINDS``
``network``     JSON: every field of that kind's config class, or of ``GraphConfig``
``labels``      JSON: class names by index; ``[]`` for an unconditional network
``data``        JSON: name, source, digest, licence and number of the training images; ``fit`` says
                how the service fits a picture of another shape: ``crop`` to its middle square,
                ``mnist`` as MNIST's digits are placed, else pad it with black; optional
                ``holdout_groups``: what named the groups of pictures that were held out whole
``training``    JSON: command, preset, every setting of the run, seed, images seen, seconds, which
                weights were published, source revision, torch version
``metrics``     JSON: name -> figure; ``choosing_judge``: a table of those of another judge
``graphs``      JSON: operation -> fields of ``Graph``; ``{}`` = the network was not exported,
                which the kind ``graph`` always is
``fit``         optional, of a VAE; JSON: the fields of ``training.networks.fit.FitTable``
``digest``      SHA-256 of everything else in the file (see ``digest_of``)
=============== ================================================================================

The tensors are the averaged weights and batch-norm buffers: what is served, nothing for resuming.
The kind ``graph`` has none: its graphs hold all weights.
"""

import dataclasses
import hashlib
import json
import math
import re
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import deserialize

from training.networks.configs import (
    CONFIGS,
    GRAPH,
    KINDS,
    Config,
    Curve,
    Operation,
    VaeConfig,
)
from training.networks.files import errors_naming, read_regular_file
from training.networks.fit import FitTable
from training.networks.graph.config import GraphConfig, parse_graph_config
from training.networks.tensors import check_tensors

FORMAT = "5"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # of a published checkpoint: valid in any URL
MAX_HEADER_BYTES = 2**20
# Limits of a network's config, so that a hostile file keeps neither the builder nor the service
# busy.
MAX_WIDTHS = 16
MAX_NUMBERS = {"image_size": 512, "image_channels": 3, "blocks": 16, "prior_layers": 64}
MAX_NUMBER = 2**13  # of every other field
MAY_BE_ZERO = ("num_classes", "blocks", "prior_layers", "modes")
MAX_LABEL_CHARACTERS = 64
MAX_DEPTH = 16  # nesting of the JSON tables
_FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


@dataclass(frozen=True)
class Graph:
    """One operation of the network as an ONNX file beside the checkpoint, and how closely it
    reproduces torch (``training.release.export`` measures it)."""

    sha256: str  # of the file, 64 hex digits
    samples: int  # outputs compared with torch's
    # Largest difference: of a pixel in 0 to 1, or of a number of an encoding, divided by its
    # magnitude where that is above 1.
    max_difference: float
    differing_pixels: float  # share of the pixels, after rounding to 8 bits; 0 for encodings
    # Mean difference: of a pixel in levels, or of a number of an encoding.
    mean_difference: float = 0.0
    # SHA-256 of what the golden rows give (``training.networks.golden``) wherever they are
    # computed; "" = a graph in floating point, which machines round differently.
    golden: str = ""


@dataclass(frozen=True)
class Description:
    """A checkpoint's header, parsed."""

    kind: str
    network: Config
    labels: tuple[str, ...] = ()  # class names by index; () = unconditional
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    graphs: dict[Operation, Graph] = field(default_factory=dict)  # {} = not exported
    fit: FitTable | None = None  # None = not measured, or no VAE
    digest: str = ""  # SHA-256, 64 hex digits; "" = not saved yet

    @property
    def portable(self) -> bool:
        """Whether every operation's graph states the bytes that it gives on every machine."""
        return bool(self.graphs) and all(graph.golden for graph in self.graphs.values())

    @property
    def operations(self) -> tuple[Operation, ...]:
        """What a network of this kind can do."""
        if isinstance(self.network, GraphConfig):
            return self.network.operations
        encodes = isinstance(self.network, VaeConfig)
        return ("generate", "decode", "encode") if encodes else ("generate",)


@dataclass(frozen=True)
class Contents:
    """A checkpoint in memory, its digest and description checked."""

    description: Description
    data: bytes  # the file


def read(path: Path) -> Contents:
    """Read one checkpoint and check all that does not need its network: format, digest,
    description, table of tensors, and that every number is finite.

    The file is read once, so the bytes that are hashed are the bytes that are parsed.

    Raises:
        CheckpointError: unreadable, truncated, altered, of another format, or not what its
            description says. The message names the file and the reason.
    """
    with errors_naming(path):
        data = read_regular_file(path)
        header, tensor_bytes = split(data)
        metadata = header["__metadata__"]
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not all text")
        found = metadata.get("format")
        if found != FORMAT:
            raise ValueError(
                f"format is {found!r}; accepted: {FORMAT!r}. Publish its run again with this "
                "version, or serve it with the version that wrote it"
            )
        actual = digest_of(header, tensor_bytes)
        if metadata.get("digest") != actual:
            raise ValueError(
                f"its contents have the digest {actual[:12]}…, its header says "
                f"{str(metadata.get('digest'))[:12]}…: damaged or altered"
            )
        description = _parse_description(metadata)
        check_tensors(header, description.network)
        _check_numbers(data)
        return Contents(description, data)


def digest_of(header: dict[str, Any], tensor_bytes: bytes | memoryview) -> str:
    """SHA-256 over the header (canonical JSON, without the digest itself) and the tensors' bytes.

    The header lists each tensor's name, type, shape and offsets, so no byte of the file is left
    out.
    """
    metadata = {k: v for k, v in header.get("__metadata__", {}).items() if k != "digest"}
    canonical = json.dumps(
        {**header, "__metadata__": metadata}, sort_keys=True, separators=(",", ":")
    )
    sha = hashlib.sha256(canonical.encode())
    sha.update(tensor_bytes)
    return sha.hexdigest()


def split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """A safetensors file's header and tensor bytes.

    Raises:
        ValueError: the header is missing, too long or not a JSON object.
    """
    if len(data) < 8:
        raise ValueError(f"{len(data)} bytes is too short for a header")
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError(f"its header claims {length} bytes of a {len(data)}-byte file")

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):  # parsers differ in which of the two they keep
            raise ValueError("a name is given twice")
        return table

    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError("its header is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__"), dict):
        raise ValueError("its header has no __metadata__ table")
    return header, memoryview(data)[8 + length :]


def _parse_description(metadata: dict[str, str]) -> Description:
    kind = metadata["kind"]
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; accepted: {', '.join(KINDS)}")
    labels = json.loads(metadata["labels"])
    if not isinstance(labels, list) or not all(
        isinstance(name, str) and 1 <= len(name) <= MAX_LABEL_CHARACTERS and name.isprintable()
        for name in labels
    ):
        raise ValueError(
            f"labels is not a list of names of 1 to {MAX_LABEL_CHARACTERS} printable characters"
        )
    config = _parse_config(kind, metadata["network"])
    num_classes = config.num_classes
    if kind != GRAPH and (kind == "cgan") != bool(num_classes):
        raise ValueError(f"kind is {kind!r}, but the network has {num_classes} classes")
    if len(labels) != num_classes or len(set(labels)) != len(labels):
        raise ValueError(f"{len(labels)} labels (distinct ones) do not name {num_classes} classes")
    description = Description(
        kind=kind,
        network=config,
        labels=tuple(labels),
        data=_json_table("data", metadata["data"]),
        training=_json_table("training", metadata["training"]),
        metrics=_json_table("metrics", metadata["metrics"]),
        digest=metadata["digest"],
    )
    if isinstance(config, GraphConfig):
        graphs = _parse_graphs(metadata["graphs"], config.graphs)
        if not graphs:
            raise ValueError("it has no graphs, and its kind has nothing else")
    else:
        graphs = _parse_graphs(metadata["graphs"], description.operations)
    fit = None
    if "fit" in metadata:
        if config.num_classes:
            raise ValueError("it has a fit table, which only encoders without labels have")
        fit = _parse_fit(metadata["fit"], config.latent_dim)
    return dataclasses.replace(description, graphs=graphs, fit=fit)


def _parse_config(kind: str, text: str) -> Config:
    """The config class of ``kind`` from JSON with exactly its fields, each of its type."""
    fields = _json_table("network", text)
    if kind == GRAPH:
        return parse_graph_config(fields)
    config_class = CONFIGS[kind]
    types = typing.get_type_hints(config_class)
    if set(fields) != set(types):
        raise ValueError(f"fields of network are not exactly {', '.join(types)}")
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if types[name] == Curve:
            values[name] = _parse_curve(name, value)
            continue
        if types[name] == tuple[float, ...]:
            values[name] = _parse_floats(f"network field {name}", value)
            continue
        several = types[name] == tuple[int, ...]
        if several and not (isinstance(value, list) and 1 <= len(value) <= MAX_WIDTHS):
            raise ValueError(f"network field {name} is not a list of 1 to {MAX_WIDTHS} numbers")
        values[name] = tuple(value) if several else value
        numbers = value if several else [value]
        wanted = str if types[name] is str else int
        if not all(type(number) is wanted for number in numbers):
            raise ValueError(f"network field {name} has the wrong type")
        least, most = 0 if name in MAY_BE_ZERO else 1, MAX_NUMBERS.get(name, MAX_NUMBER)
        if wanted is int and not all(least <= number <= most for number in numbers):
            raise ValueError(f"network field {name} is not within {least} to {most}")
    if values["image_channels"] == 2:
        raise ValueError("network field image_channels is 2; allowed: 1 (grey) or 3 (RGB)")
    return config_class(**values)


def _parse_curve(name: str, value: Any) -> Curve:
    if not isinstance(value, list) or not all(
        isinstance(knot, list) and [type(number) for number in knot] == [float, float]
        for knot in value
    ):
        raise ValueError(f"network field {name} is not a list of pairs of numbers")
    return tuple((x, y) for x, y in value)  # the config checks the values


def _parse_floats(what: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not all(type(number) is float for number in value):
        raise ValueError(f"{what} is not a list of floating-point numbers")
    return tuple(value)  # the class that gets them checks the values


def _json_table(key: str, text: str) -> dict[str, Any]:
    """A JSON object that a JSON response can contain: no NaN, no lone surrogates, not too deep."""
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError(f"its {key} is not a JSON object")
    try:
        json.dumps(table, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise ValueError(f"its {key} has a number or character that JSON cannot hold") from error
    if _depth(table) > MAX_DEPTH:
        raise ValueError(f"its {key} is nested more than {MAX_DEPTH} deep")
    return table


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _parse_graphs(text: str, operations: tuple[Operation, ...]) -> dict[Operation, Graph]:
    """A graph for each of the kind's operations, or none at all."""
    table = _json_table("graphs", text)
    if table and set(table) != set(operations):
        raise ValueError(f"its graphs are not exactly {', '.join(operations)}")
    return {name: _parse_graph(name, table[name]) for name in operations if name in table}


def _parse_graph(operation: str, fields: Any) -> Graph:
    names = {field.name for field in dataclasses.fields(Graph)}
    optional = {"mean_difference", "golden"}  # later additions
    if not isinstance(fields, dict) or not names - optional <= set(fields) <= names:
        raise ValueError(f"fields of graph {operation} are not exactly {', '.join(sorted(names))}")
    graph = Graph(**fields)
    for name, digest in (("sha256", graph.sha256), ("golden", graph.golden)):
        if type(digest) is not str or not re.fullmatch("[0-9a-f]{64}", digest or "0" * 64):
            raise ValueError(f"{name} of graph {operation} is not 64 hex digits")
    if not graph.sha256:
        raise ValueError(f"sha256 of graph {operation} is missing")
    for name in ("samples", "max_difference", "differing_pixels", "mean_difference"):
        number = getattr(graph, name)
        if type(number) not in (int, float) or not 0 <= number < math.inf:
            raise ValueError(f"{name} of graph {operation} is not a number of at least 0")
    return graph


def _parse_fit(text: str, latent_dim: int) -> FitTable:
    fields = _json_table("fit", text)
    names = [entry.name for entry in dataclasses.fields(FitTable)]
    if set(fields) != set(names):
        raise ValueError(f"fields of its fit are not exactly {', '.join(names)}")
    pictures = fields.pop("pictures")
    lists = {name: _parse_floats(f"{name} of its fit", value) for name, value in fields.items()}
    if type(pictures) is not int or len(lists["mean"]) != latent_dim:
        raise ValueError(f"its fit is not of latents of {latent_dim} numbers")
    return FitTable(pictures, **lists)


def _check_numbers(data: bytes) -> None:
    """Refuse a table of tensors that does not match the file, and numbers that are not finite."""
    for name, tensor in deserialize(data):  # type: ignore[no-untyped-call]
        dtype = _FLOATS.get(tensor["dtype"])
        if dtype and not np.isfinite(np.frombuffer(tensor["data"], dtype)).all():
            raise ValueError(f"tensor {name} has values that are not finite")
