"""One safetensors file holds a network, its description and its digest; loading runs no code.

The header's metadata are text values:

=============== ================================================================================
``format``      ``"1"``
``kind``        a key of ``training.networks.NETWORKS``
``network``     JSON: every field of that kind's config class
``labels``      JSON: class names by index; ``[]`` for an unconditional network
``data``        JSON: data set, licence, images; ``fit`` = how the service makes a picture of
                another shape fit: ``crop`` to its middle square, else black is put around it
``training``    JSON: preset, seed, data digest, images seen, source revision, torch version, time
``metrics``     JSON: name -> figure
``digest``      SHA-256 of everything else in the file (see ``digest_of``)
=============== ================================================================================

Tensors are the averaged weights with batch-norm buffers: what is served, and nothing for resuming.
"""

import dataclasses
import hashlib
import json
import os
import re
import stat
import tempfile
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialise_tensors
from torch import Tensor

from training.networks import NETWORKS, Config, build
from training.networks.gan import Generator
from training.networks.vae import VAE

FORMAT = "1"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # of a published checkpoint: fits any address
MAX_FILE_BYTES = 512 * 2**20  # refuses a mistaken file before reading it into memory
MAX_HEADER_BYTES = 2**20
# What a file may ask for, so that a hostile one keeps neither the builder nor the service busy.
MAX_WIDTHS = 16
MAX_NUMBERS = {"image_size": 512, "image_channels": 3, "prior_layers": 64}
MAX_NUMBER = 2**13  # of every other field
MAX_LABEL_CHARACTERS = 64
MAX_DEPTH = 16  # of the descriptive tables
MAY_BE_ZERO = ("num_classes", "prior_layers")


class CheckpointError(Exception):
    """A file that is not a whole checkpoint of ours; the message names the file and the reason."""


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself."""

    kind: str
    network: Config
    labels: tuple[str, ...] = ()  # class names by index; () = unconditional
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    digest: str = ""  # SHA-256, 64 hex digits; filled in by save


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


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
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


def save(path: Path, network: Generator | VAE, description: Description) -> str:
    """Write a checkpoint: to a temporary name beside ``path``, then renamed over it.

    A reader sees the old file or the new one, never a part. Returns the digest.
    """
    metadata = {
        "format": FORMAT,
        "kind": description.kind,
        "network": json.dumps(dataclasses.asdict(description.network)),
        "labels": json.dumps(description.labels),
        "data": json.dumps(description.data),
        "training": json.dumps(description.training),
        "metrics": json.dumps(description.metrics),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    # Serialised twice: the digest covers the header, and then becomes a part of it.
    metadata["digest"] = digest_of(*_split(serialise_tensors(tensors, metadata)))
    data = serialise_tensors(tensors, metadata)
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
    return metadata["digest"]


def _parse_config(kind: str, text: str) -> Config:
    """The config class of ``kind`` from JSON with exactly its fields, each of its type."""
    fields = _json_table("network", text)
    config_class = NETWORKS[kind][0]
    types = typing.get_type_hints(config_class)
    if set(fields) != set(types):
        raise ValueError(f"fields of network are not exactly {', '.join(types)}")
    values: dict[str, Any] = {}
    for name, value in fields.items():
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
    if found != FORMAT:
        raise ValueError(f"format is {found!r}; accepted: {FORMAT!r}")
    kind = metadata["kind"]
    if kind not in NETWORKS:
        raise ValueError(f"kind is {kind!r}; accepted: {', '.join(NETWORKS)}")
    labels = json.loads(metadata["labels"])
    if not isinstance(labels, list) or not all(
        isinstance(name, str) and 1 <= len(name) <= MAX_LABEL_CHARACTERS and name.isprintable()
        for name in labels
    ):
        raise ValueError(
            f"labels is not a list of names of 1 to {MAX_LABEL_CHARACTERS} printable characters"
        )
    config = _parse_config(kind, metadata["network"])
    num_classes = getattr(config, "num_classes", 0)
    if (kind == "cgan") != bool(num_classes):
        raise ValueError(f"kind is {kind!r}, but the network has {num_classes} classes")
    if len(labels) != num_classes or len(set(labels)) != len(labels):
        raise ValueError(f"{len(labels)} labels (distinct ones) do not name {num_classes} classes")
    return Description(
        kind=kind,
        network=config,
        labels=tuple(labels),
        data=_json_table("data", metadata["data"]),
        training=_json_table("training", metadata["training"]),
        metrics=_json_table("metrics", metadata["metrics"]),
        digest=metadata["digest"],
    )


def _build(description: Description, tensors: dict[str, Tensor]) -> Generator | VAE:
    # On the meta device nothing is allocated, so a header that lies about sizes costs nothing:
    # its shapes simply do not match the tensors that are there.
    with torch.device("meta"):
        network = build(description.kind, description.network)
    wanted = network.state_dict()
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise ValueError(f"tensor {missing[0]} is missing ({len(missing)} in all)")
    if surplus := sorted(tensors.keys() - wanted.keys()):
        raise ValueError(f"tensor {surplus[0]} is not of this network ({len(surplus)} in all)")
    for name, tensor in tensors.items():
        found = (tuple(tensor.shape), tensor.dtype)
        expected = (tuple(wanted[name].shape), wanted[name].dtype)
        if found != expected:
            raise ValueError(f"tensor {name} is {found}, expected {expected}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"tensor {name} has values that are not finite")
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def load(path: Path) -> tuple[Generator | VAE, Description]:
    """Read one checkpoint, check it, and build its network in eval mode on the CPU.

    The file is read once, so the bytes that are hashed are the bytes that are parsed.

    Raises:
        CheckpointError: unreadable, truncated, altered, of an unknown format, or not what its
            description says. The message names the file and the reason.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, for ever
            raise ValueError("not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise ValueError(f"{status.st_size} bytes is over the limit of {MAX_FILE_BYTES}")
        data = path.read_bytes()
        header, tensor_bytes = _split(data)
        metadata = header["__metadata__"]
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not all text")
        if metadata.get("format") == FORMAT:  # another format may digest otherwise: named below
            actual = digest_of(header, tensor_bytes)
            if metadata.get("digest") != actual:
                raise ValueError(
                    f"its contents have the digest {actual[:12]}…, its header says "
                    f"{str(metadata.get('digest'))[:12]}…: damaged or altered"
                )
        description = _describe(metadata)
        return _build(description, parse_tensors(data)), description
    except KeyError as error:
        raise CheckpointError(f"{path}: its header lacks {error.args[0]!r}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except Exception as error:  # a hostile file fails wherever it can
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: {reason[:300]}") from error
