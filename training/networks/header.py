"""What a checkpoint says of itself, read and checked without torch.

One safetensors file holds a network, its description and its digest; reading runs no code. The
header's metadata are text values:

=============== ================================================================================
``format``      ``"5"``; older ones lack the fields of ``network`` in ``FIXED``
``kind``        a key of ``training.networks.configs.CONFIGS``
``network``     JSON: every field of that kind's config class
``labels``      JSON: class names by index; ``[]`` for an unconditional network
``data``        JSON: data set and where it is from, its digest, licence, images; ``fit`` = how the
                service makes a picture of another shape fit: ``crop`` to its middle square, else
                black is put around it
``training``    JSON: command, preset, every setting of the run, seed, images seen, seconds, which
                weights these are, source revision, torch version
``metrics``     JSON: name -> figure
``graphs``      JSON: operation -> fields of ``Graph``; ``{}``, or missing in the oldest files, =
                the network was not exported
``digest``      SHA-256 of everything else in the file (see ``digest_of``)
=============== ================================================================================

Tensors are the averaged weights with batch-norm buffers: what is served, and nothing for resuming.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import re
import stat
import tempfile
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import deserialize

from training.networks.configs import CONFIGS, Config, Curve, Operation, VaeConfig

FORMAT = "5"
# format -> kind -> fields of the network that a header of that format lacks, because they could not
# be chosen when it was written, and what they were.
_NO_CURVE: dict[str, Any] = {"tone": []}
_EVEN: dict[str, Any] = {"mode_offsets": []}
_NO_MODES: dict[str, Any] = {"modes": 0} | _EVEN
_PLAIN_GAN = _NO_CURVE | _NO_MODES
FIXED: dict[str, dict[str, dict[str, Any]]] = {
    "1": {
        **dict.fromkeys(("gan", "cgan"), _PLAIN_GAN),
        "vae": {"blocks": [1, 1], "prior_mixing": "reverse", **_NO_CURVE},
    },
    "2": {**dict.fromkeys(("gan", "cgan"), _PLAIN_GAN), "vae": _NO_CURVE},
    "3": dict.fromkeys(("gan", "cgan"), _NO_MODES),
    "4": dict.fromkeys(("gan", "cgan"), _EVEN),
    FORMAT: {},
}
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # of a published checkpoint: fits any address
MAX_FILE_BYTES = 512 * 2**20  # refuses a mistaken file before reading it into memory
MAX_HEADER_BYTES = 2**20
# What a file may ask for, so that a hostile one keeps neither the builder nor the service busy.
MAX_WIDTHS = 16
MAX_NUMBERS = {"image_size": 512, "image_channels": 3, "blocks": 16, "prior_layers": 64}
MAX_NUMBER = 2**13  # of every other field
MAX_LABEL_CHARACTERS = 64
MAX_DEPTH = 16  # of the descriptive tables
MAY_BE_ZERO = ("num_classes", "blocks", "prior_layers", "modes")
_FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


class CheckpointError(Exception):
    """A file that is not a whole checkpoint of ours; the message names the file and the reason."""


@dataclass(frozen=True)
class Graph:
    """One operation of the network, exported: the file beside the checkpoint, and how well it
    repeats torch (``training.release.export``)."""

    sha256: str  # of the file, 64 hex digits
    samples: int  # outputs compared with torch's
    max_difference: float  # of a pixel in 0 to 1; of an encoding's number, over its size if above 1
    differing_pixels: float  # share of the pixels, after rounding to 8 bits; 0 for encodings


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself."""

    kind: str
    network: Config
    labels: tuple[str, ...] = ()  # class names by index; () = unconditional
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    graphs: dict[Operation, Graph] = field(default_factory=dict)  # {} = not exported
    digest: str = ""  # SHA-256, 64 hex digits; filled in by save

    @property
    def operations(self) -> tuple[Operation, ...]:
        """What a network of this kind can do."""
        encodes = isinstance(self.network, VaeConfig)
        return ("generate", "decode", "encode") if encodes else ("generate",)


@dataclass(frozen=True)
class Contents:
    """A whole checkpoint in memory, its digest and description checked."""

    description: Description
    data: bytes  # the file


def digest_of(header: dict[str, Any], tensor_bytes: bytes | memoryview) -> str:
    """SHA-256 over the header (canonical JSON, without the digest itself) and the tensors' bytes.

    The header lists each tensor's name, type, shape and place, so nothing in the file escapes it.
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

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):  # which of the two counts would be a matter of the parser
            raise ValueError("a name stands twice")
        return table

    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ValueError("its header is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__"), dict):
        raise ValueError("its header has no __metadata__ table")
    return header, memoryview(data)[8 + length :]


def _parse_config(kind: str, text: str, fixed: dict[str, Any]) -> Config:
    """The config class of ``kind`` from JSON with exactly its fields, each of its type.

    Args:
        fixed: Fields that the JSON must not have, since its format fixes them.
    """
    fields = _json_table("network", text)
    config_class = CONFIGS[kind]
    types = typing.get_type_hints(config_class)
    stated = [name for name in types if name not in fixed]
    if set(fields) != set(stated):
        raise ValueError(f"fields of network are not exactly {', '.join(stated)}")
    values: dict[str, Any] = {}
    for name, value in (fields | fixed).items():
        if types[name] == Curve:
            values[name] = _parse_curve(name, value)
            continue
        if types[name] == tuple[float, ...]:
            values[name] = _parse_floats(name, value)
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
    return tuple((x, y) for x, y in value)  # the config looks at what they are


def _parse_floats(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not all(type(number) is float for number in value):
        raise ValueError(f"network field {name} is not a list of numbers with a fraction")
    return tuple(value)  # the config looks at what they are


def _json_table(key: str, text: str) -> dict[str, Any]:
    """A JSON object that a JSON answer can hold again: no NaN, no half characters, not too deep."""
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


def _describe(metadata: dict[str, str]) -> Description:
    found = metadata.get("format")
    if found not in FIXED:
        raise ValueError(f"format is {found!r}; accepted: {', '.join(map(repr, FIXED))}")
    kind = metadata["kind"]
    if kind not in CONFIGS:
        raise ValueError(f"kind is {kind!r}; accepted: {', '.join(CONFIGS)}")
    labels = json.loads(metadata["labels"])
    if not isinstance(labels, list) or not all(
        isinstance(name, str) and 1 <= len(name) <= MAX_LABEL_CHARACTERS and name.isprintable()
        for name in labels
    ):
        raise ValueError(
            f"labels is not a list of names of 1 to {MAX_LABEL_CHARACTERS} printable characters"
        )
    config = _parse_config(kind, metadata["network"], FIXED[found].get(kind, {}))
    num_classes = config.num_classes
    if (kind == "cgan") != bool(num_classes):
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
    graphs = _parse_graphs(metadata.get("graphs", "{}"), description.operations)
    return dataclasses.replace(description, graphs=graphs)


def _parse_graphs(text: str, operations: tuple[Operation, ...]) -> dict[Operation, Graph]:
    """All of the kind's operations, or none."""
    table = _json_table("graphs", text)
    if table and set(table) != set(operations):
        raise ValueError(f"its graphs are not exactly {', '.join(operations)}")
    return {name: _parse_graph(name, table[name]) for name in operations if name in table}


def _parse_graph(operation: str, fields: Any) -> Graph:
    types = typing.get_type_hints(Graph)
    if not isinstance(fields, dict) or set(fields) != set(types):
        raise ValueError(f"fields of graph {operation} are not exactly {', '.join(types)}")
    graph = Graph(**fields)
    if type(graph.sha256) is not str or not re.fullmatch("[0-9a-f]{64}", graph.sha256):
        raise ValueError(f"sha256 of graph {operation} is not 64 hex digits")
    for name in ("samples", "max_difference", "differing_pixels"):
        number = fields[name]
        if type(number) not in (int, float) or not 0 <= number < math.inf:
            raise ValueError(f"{name} of graph {operation} is not a number of at least 0")
    return graph


def _check_tensors(data: bytes) -> None:
    """Refuse a table of tensors that does not fit the file, and numbers that are not finite."""
    for name, tensor in deserialize(data):  # type: ignore[no-untyped-call]
        dtype = _FLOATS.get(tensor["dtype"])
        if dtype and not np.isfinite(np.frombuffer(tensor["data"], dtype)).all():
            raise ValueError(f"tensor {name} has values that are not finite")


def read_whole(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes.

    Raises:
        ValueError, OSError: it is not one.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, for ever
        raise ValueError("not a regular file")
    if status.st_size > limit:
        raise ValueError(f"{status.st_size} bytes is over the limit of {limit}")
    return path.read_bytes()


def write_whole(path: Path, data: bytes) -> None:
    """Write to a temporary name beside ``path``, then rename over it: a reader sees the old file
    or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
    ) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


@contextlib.contextmanager
def refusals_of(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside into a CheckpointError of one line that names ``path``."""
    try:
        yield
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"{path}: its header lacks {error.args[0]!r}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except Exception as error:  # a hostile file fails wherever it can
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: {reason[:300]}") from error


def read(path: Path) -> Contents:
    """Read one checkpoint and check all that does not take its network: digest, description,
    table of tensors, and that every number is finite.

    The file is read once, so the bytes that are hashed are the bytes that are parsed.

    Raises:
        CheckpointError: unreadable, truncated, altered, of an unknown format, or not what its
            description says. The message names the file and the reason.
    """
    with refusals_of(path):
        data = read_whole(path)
        header, tensor_bytes = split(data)
        metadata = header["__metadata__"]
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not all text")
        if metadata.get("format") in FIXED:  # another format may digest otherwise: named below
            actual = digest_of(header, tensor_bytes)
            if metadata.get("digest") != actual:
                raise ValueError(
                    f"its contents have the digest {actual[:12]}…, its header says "
                    f"{str(metadata.get('digest'))[:12]}…: damaged or altered"
                )
        description = _describe(metadata)
        _check_tensors(data)
        return Contents(description, data)
