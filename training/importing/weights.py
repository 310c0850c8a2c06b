"""Weights of a torch module from a file: read as numbers, never unpickled, and found in it."""

import argparse
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from training.importing.errors import GeneratorError, said

# Under which names training scripts keep a generator's weights, best first: where several parts of
# a file fit the module, the first of these is meant.
_NAMES = (
    *("g_ema", "G_ema", "generator_ema", "netG_ema", "ema", "ema_model", "model_ema"),
    *("netG", "generator", "G", "state_dict", "model_state_dict", "model"),
)
MOST_DEPTH = 4  # tables in tables
_COUNTERS = "num_batches_tracked"  # of batch norm; older files have none, and eval needs none
# Settings and figures that training scripts save beside weights. All are data: making one runs
# nothing of the file's choice.
_RECONSTRUCT, _SCALAR = (part.__reduce__()[0] for part in (np.zeros(1), np.float64(0)))
_PLAIN: list[Any] = [
    argparse.Namespace,
    *(np.ndarray, np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_RECONSTRUCT, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]
_SAVE = "torch.save(generator.state_dict(), 'generator.pth')"


class _Part(NamedTuple):
    """Weights that a file may mean: a table in it, or what begins alike in one."""

    place: tuple[str, ...]  # keys of the tables, then the parts of what the names begin with
    tensors: dict[str, Tensor]

    def __str__(self) -> str:
        return ".".join(self.place)


def load_weights(module: nn.Module, path: Path, key: str | None = None) -> None:
    """Fill a module with weights of a ``.safetensors`` file, or of one that ``torch.save`` wrote.

    They are found by names and shapes, wherever in the file they are: in tables in tables, and
    behind names that DataParallel, torch.compile, Lightning or a larger network put before theirs.

    Args:
        key: A name on the way to them, where a file has several that fit; None = found.

    Raises:
        GeneratorError: the file cannot be read without running code from it, or does not fit.
    """
    wanted = module.state_dict()
    tables = list(_tables(_contents(path)))
    if not tables:
        raise GeneratorError(f"{path} holds no weights. Save them with {_SAVE}")
    parts = [part for table in tables for part in _parts(table, wanted)]
    if key is not None:
        keyed = [part for part in parts if key in (str(part), *part.place)]
        keyed = keyed or [table for table in tables if key in (str(table), *table.place)]
        if not keyed:
            names = dict.fromkeys(name for part in parts or tables for name in part.place)
            raise GeneratorError(f"{path} has no {key!r}; it has {', '.join(names)[:300] or 'one'}")
        parts = keyed
    fitting = [part for part in parts if not _misfit(part.tensors, wanted)]
    if fitting:
        ranks = [min(map(_rank, part.place), default=len(_NAMES)) for part in fitting]
        best = [part for part, rank in zip(fitting, ranks, strict=True) if rank == min(ranks)]
        if len(best) > 1:
            raise GeneratorError(
                f"{path} holds weights of {', '.join(map(str, best))[:300]}: choose with --key NAME"
            )
        module.load_state_dict(best[0].tensors, strict=False)  # without counters
        return
    closest = max(
        parts or tables, key=lambda part: len(part.tensors.keys() & wanted.keys())
    ).tensors
    problem = _misfit(closest, wanted)
    if closest.keys() != wanted.keys():
        try:
            module.load_state_dict(closest)  # layers may know the older names of their weights
            return
        except RuntimeError:
            pass
    raise GeneratorError(f"{path} does not fit {type(module).__name__}: {problem}")


def _rank(name: str) -> int:
    return _NAMES.index(name) if name in _NAMES else len(_NAMES)


def _tables(found: Any, place: tuple[str, ...] = (), seen: tuple[int, ...] = ()) -> Iterator[_Part]:
    """The tables in what a file holds that have tensors by name."""
    if not isinstance(found, Mapping) or id(found) in seen or len(place) > MOST_DEPTH:
        return
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    if tensors:
        yield _Part(place, tensors)
    for key, value in found.items():
        if isinstance(key, str):  # an optimiser's state has numbers
            yield from _tables(value, (*place, key), (*seen, id(found)))


def _parts(table: _Part, wanted: Mapping[str, Tensor]) -> Iterator[_Part]:
    """The parts of a table where the first of the wanted names is found."""
    first = next((name for name in wanted if not name.endswith(_COUNTERS)), "")
    for name in table.tensors:
        if name == first or name.endswith(f".{first}"):
            before = name.removesuffix(first)
            tensors = {
                other.removeprefix(before): value
                for other, value in table.tensors.items()
                if other.startswith(before)
            }
            yield _Part((*table.place, *filter(None, before.split("."))), tensors)


def _misfit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Why weights are not those of a module; "" = they are."""
    missing = [name for name in wanted if name not in tensors and not name.endswith(_COUNTERS)]
    surplus = [name for name in tensors if name not in wanted]
    problems = [
        f"{len(names)} {what}, the first {names[0]}"
        for what, names in (("are missing", missing), ("do not belong to it", surplus))
        if names
    ]
    if problems:
        return f"{'; '.join(problems)}. Are they of this class, built with these arguments (--arg)?"
    for name, tensor in tensors.items():
        like = wanted[name]
        if nn.parameter.is_lazy(like):
            continue
        if tensor.shape != like.shape:
            return (
                f"{name} has the shape {list(tensor.shape)}, not {list(like.shape)}; was it built "
                "with other arguments? Give them with --arg NAME=VALUE"
            )
        floats = tensor.is_floating_point() or not like.is_floating_point()
        if not floats or tensor.layout != torch.strided:
            return f"{name} is {tensor.dtype}, {tensor.layout}; wanted is a dense {like.dtype}"
    return ""


def _contents(path: Path) -> Any:
    """What a file holds.

    Raises:
        GeneratorError: it is no file of weights, or holds more than data.
    """
    if not path.is_file():
        raise GeneratorError(f"{path} {'is no file' if path.exists() else 'does not exist'}")
    with path.open("rb") as file:
        begin = file.read(24)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_PLAIN):
            warnings.simplefilter("ignore")  # about the file's form
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many classes for what is no file of weights
        text = str(error)
        if "TorchScript" in text:
            raise GeneratorError(
                f"{path} is a TorchScript program. Save the weights alone: {_SAVE}"
            ) from error
        if begin[:1] not in (b"P", b"\x80") and path.suffix != ".safetensors":  # zip, pickle
            raise GeneratorError(
                f"{path} is no file of weights: it begins with {begin!r}. Save them with {_SAVE}"
            ) from error
        if "weights_only" in text or "Unsupported" in text:
            kind = re.search(r"GLOBAL (\S+)", text)
            raise GeneratorError(
                f"{path} holds more than numbers{f' ({kind[1][:100]})' if kind else ''}, and "
                f"reading that would run code from it. Save the weights alone: {_SAVE}"
            ) from error
        raise GeneratorError(f"{path} is no whole file of weights: {said(error)}") from error
