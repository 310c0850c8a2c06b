"""Files that commands read: pictures, latents, points in the latent space."""

import json
import sys
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genserve.cli.exits import UsageError
from genserve.inputs import LatentInput

_NPY, _NPZ = b"\x93NUMPY", b"PK\x03\x04"  # first bytes


def read_file(path: str) -> bytes:
    """A file's content; - is standard input.

    Raises:
        OSError: it cannot be read.
        UsageError: standard input is closed or was read before.
    """
    if path != "-":
        return Path(path).read_bytes()
    if sys.stdin is None or sys.stdin.buffer.closed:
        raise UsageError("standard input is closed, or given twice: - may stand in one place only")
    with sys.stdin.buffer as stream:
        return stream.read()


def read_files(paths: Sequence[str]) -> list[bytes]:
    """The content of each file."""
    return [read_file(path) for path in paths]


def read_points(text: str) -> list[LatentInput]:
    """Points of the latent space: a seed, or a file with a picture or with latents.

    Raises:
        OSError: a file cannot be read.
        UsageError: a file holds no latents.
    """
    if text.isascii() and text.isdecimal():
        return [int(text)]
    data = read_file(text)
    if data.startswith((_NPY, _NPZ)) or data.lstrip()[:1] in (b"{", b"["):
        return list(parse_latents(data, text))
    return [data]


def parse_latents(data: bytes, path: str) -> NDArray[np.float32]:
    """Latents (n, Z) from npy, npz or JSON, as ``encode`` writes them.

    Args:
        data: The file's content.
        path: For messages.

    Raises:
        UsageError: it is something else.
    """
    try:
        if data.startswith((_NPY, _NPZ)):
            latents = np.load(BytesIO(data), allow_pickle=False)
            if isinstance(latents, np.lib.npyio.NpzFile):
                latents = latents["z"]
        else:
            latents = json.loads(data)
            if isinstance(latents, dict):
                body = latents
                latents = body["z"] if "z" in body else [item["z"] for item in body["items"]]
        z = np.atleast_2d(np.asarray(latents, dtype=np.float32))
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} holds no latents; allowed: npy (n, Z), npz or JSON as encode writes it, or "
            '{"z": [[…]]}'
        ) from error
    if z.ndim != 2:
        raise UsageError(f"{path} holds an array {z.shape}; latents are (n, Z)")
    return z
