"""A graph tried on samples before it is served: rows that depend on each other, values that are
not finite, time and memory of a batch."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from training.importing.errors import GeneratorError
from training.networks.graph.rows import Feed

ROWS = 64  # samples that are tried
# Of this many bytes one pass may take, a quarter of what the service gives to all imported graphs.
MAX_PASS_BYTES = 2**29
PASS_S = 0.5  # a batch takes no longer, if it has more than one row
SLOW_S = 0.5  # an image that takes longer is worth a word
MOST_S = 10.0  # an image that takes longer is refused
EXACT, SAME = 0.0, 1e-3  # differences of rows, of their range: none; still the same image

Floats = NDArray[np.float32]


@cache
def _limit_memory() -> None:
    """All sessions of this process allocate from one arena of MAX_PASS_BYTES."""
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"max_mem": MAX_PASS_BYTES}))


def session_of(data: bytes, name: str) -> ort.InferenceSession:
    """A session as the service makes one (``app.engines.imported_backend``).

    Raises:
        GeneratorError: ONNX Runtime cannot load the graph.
    """
    _limit_memory()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return ort.InferenceSession(
            data,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["ConstantFolding"],
        )
    except Exception as error:  # its exceptions have no common class
        text = _first_line(error)
        advice = "; compute in float32, without autocast" if "float16" in text else ""
        raise GeneratorError(f"{name}: ONNX Runtime cannot load it: {text}{advice}") from error


def run(session: ort.InferenceSession, outputs: list[str], feed: Feed, name: str) -> list[Floats]:
    """One pass.

    Raises:
        MemoryError: it takes more than MAX_PASS_BYTES.
        GeneratorError: it fails.
    """
    count = len(next(iter(feed.values())))
    try:
        results = session.run(outputs, feed)
    except Exception as error:
        if "bfc_arena" in str(error):
            raise MemoryError(f"{name} takes over {MAX_PASS_BYTES >> 20} MiB") from error
        if "indices element out of" in str(error):
            raise GeneratorError(
                f"{name} fails: {_first_line(error)}: are there fewer classes than --labels or "
                "--classes says?"
            ) from error
        raise GeneratorError(
            f"{name} fails on a batch of {count}: {_first_line(error)}. If it works on another "
            "number of rows, the batch is fixed inside the graph: export it with a dynamic batch, "
            "and write x.size(0) or -1 where a number of rows stands in view or reshape"
        ) from error
    return [np.asarray(result, dtype=np.float32) for result in results]


def _first_line(error: Exception) -> str:
    text = str(error).partition("Status Message: ")[2] or str(error)
    return (text.splitlines() or [type(error).__name__])[0][:200]


@dataclass(frozen=True)
class Trial:
    """What the trial of one graph found."""

    max_batch: int
    milliseconds: float  # an image, in the largest batch
    megabytes: float  # that the largest batch added to this process
    difference: float  # between rows alone and among others, of their range; 0 = exact


def try_graph(
    session: ort.InferenceSession,
    outputs: list[str],
    feed: Callable[[NDArray[np.int64]], Feed],
    name: str,
    largest: int = ROWS,
) -> tuple[list[Floats], Trial]:
    """Run ROWS samples in batches of every size.

    Args:
        session: Of the graph.
        outputs: Their names.
        feed: The inputs for samples of these indices.
        name: Of the graph, for errors.
        largest: No larger batch is wanted.

    Returns:
        The outputs of all ROWS samples, computed in the largest batches, and what was found.

    Raises:
        GeneratorError: the graph fails, gives values that are not finite, rows of which one
            depends on the others, or takes too long or too much memory.
    """
    indices = np.arange(ROWS)
    before = _peak_megabytes()
    alone = _one_by_one(session, outputs, feed, name)
    size, seconds = 1, alone[1]
    found = alone[0]
    while size < min(ROWS, largest) and 2 * size * seconds / size <= PASS_S:
        try:
            started = time.perf_counter()
            result = run(session, outputs, feed(indices[: 2 * size]), name)
            took = time.perf_counter() - started
        except MemoryError:
            break
        if took > PASS_S:
            break
        _same_count(result, 2 * size, name)
        size, seconds = 2 * size, took
    together = _in_batches(session, outputs, feed, name, size)
    _check_finite(together, 0, name)
    difference = max(
        _difference(found, [part[: len(found[0])] for part in together]),
        _among_others(session, outputs, feed, name, size, together),
    )
    if difference > SAME:
        raise GeneratorError(
            f"{name}: rows depend on each other: an image changes by {difference:.2g} of its range "
            "with the others in its batch. That is batch norm in training mode or without running "
            "averages, minibatch statistics, or noise that is drawn inside: export in eval mode, "
            "and make noise an input"
        )
    return together, Trial(size, seconds / size * 1e3, _peak_megabytes() - before, difference)


def _one_by_one(
    session: ort.InferenceSession,
    outputs: list[str],
    feed: Callable[[NDArray[np.int64]], Feed],
    name: str,
) -> tuple[list[Floats], float]:
    """The outputs of a few samples, each alone; and the seconds of the fastest."""
    results, fastest = [], np.inf
    for index in range(4):
        try:
            started = time.perf_counter()
            result = run(session, outputs, feed(np.array([index])), name)
            took = time.perf_counter() - started
        except MemoryError as error:
            raise GeneratorError(
                f"{name}: one image takes over {MAX_PASS_BYTES >> 20} MiB of memory; at most that "
                "can be served"
            ) from error
        _same_count(result, 1, name)
        _check_finite(result, index, name)
        if took > MOST_S:
            raise GeneratorError(
                f"{name}: one image takes {took:.1f} s; at most {MOST_S:g} s can be served"
            )
        results.append(result)
        fastest = min(fastest, took)
        if index and took > 1:
            break
    return [np.concatenate(parts) for parts in zip(*results, strict=True)], fastest


def _check_finite(result: list[Floats], first: int, name: str) -> None:
    """Refuse values that are not finite in samples whose first is ``first``."""
    for part in result:
        wrong = np.flatnonzero(~np.isfinite(part.reshape(len(part), -1)).all(axis=1))
        if len(wrong):
            of = f", the first of {len(wrong)} among {len(part)}" if len(part) > 1 else ""
            raise GeneratorError(
                f"{name}: sample {first + wrong[0]} has values that are not finite (NaN or "
                f"infinite){of}: are the weights those of this network, and of the last epoch "
                "before it diverged? Is there a log, a root or a quotient without a bound?"
            )


def _same_count(result: list[Floats], count: int, name: str) -> None:
    for part in result:
        if part.ndim < 2 or len(part) != count:
            raise GeneratorError(
                f"{name}: {count} rows in give an output of shape {list(part.shape)}; its first "
                "axis has to be the batch"
            )


def _in_batches(
    session: ort.InferenceSession,
    outputs: list[str],
    feed: Callable[[NDArray[np.int64]], Feed],
    name: str,
    size: int,
) -> list[Floats]:
    parts = [
        run(session, outputs, feed(np.arange(start, start + size)), name)
        for start in range(0, max(size, min(ROWS, 8 * size)), size)
    ]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _among_others(
    session: ort.InferenceSession,
    outputs: list[str],
    feed: Callable[[NDArray[np.int64]], Feed],
    name: str,
    size: int,
    together: list[Floats],
) -> float:
    """How far rows change if the batch is turned round, and if all but one are replaced."""
    if size == 1:
        return 0.0
    turned = run(session, outputs, feed(np.arange(size)[::-1].copy()), name)
    found = _difference([part[::-1] for part in turned], [part[:size] for part in together])
    others = np.arange(size) + 1000
    others[0] = 0
    replaced = run(session, outputs, feed(others), name)
    return max(found, _difference([p[:1] for p in replaced], [p[:1] for p in together]))


def _difference(ones: list[Floats], others: list[Floats]) -> float:
    """The largest, of the range of the values."""
    return max(
        float(np.abs(a - b).max()) / max(float(np.ptp(b)), 1e-6)
        for a, b in zip(ones, others, strict=True)
    )


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
