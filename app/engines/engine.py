"""Runs generate, encode and decode on batches, and measures how exactly rows repeat, and at what
cost.

Knows neither HTTP nor asyncio, nor which engine computes (``app.engines.backend``). A float row of
a network may depend in its last bits on the size of the batch it is in, because libraries choose
another algorithm for another size. So batches are run in pieces of a few sizes, and at start-up
each size
is probed: those whose rows equal, bit for bit, the rows of one fixed size are kept. Then a seed's
pixels do not depend on the batch. The passes of the probe are timed, and from their times follows
how to cut and pad a batch of any size.
"""

import hashlib
import logging
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from app import seeds
from app.engines.backend import DeviceLostError, Floats, finite_rows, to_levels
from app.engines.rows import (
    Labels,
    OperationKey,
    Reproducibility,
    Result,
    Row,
    Sample,
    network_inputs,
)
from app.engines.store import StoredModel
from training.networks.configs import Operation

log = logging.getLogger(__name__)

PASS_S = 30e-6  # what a pass costs besides the network, on one core (docs/log.md)
BATCH_S = 0.010  # of a batch, where nobody chose: costs of a pass are spread, and nobody waits long
AT_ONCE_S = 0.005  # the same where the event loop stands still meanwhile
MOST = 4096  # rows of a batch
_PAIRS = 3  # of a pass of a size and one of one row, whose times are compared
_ENOUGH = 16  # rows, by which a pass has spread its cost, if larger ones save nothing
REFERENCE = 64  # batch size whose rows are the right ones: a constant of the contract

_Number = TypeVar("_Number", bound=np.generic)


class Findings(NamedTuple):
    """What the probe of a set of models has found, as ``Engine`` describes it."""

    costs: dict[OperationKey, list[tuple[int, float]]]
    reproducibility: dict[str, Reproducibility]
    fingerprints: dict[str, str]
    failed: dict[str, str]  # name -> why a model cannot be run


def plan(costs: Sequence[tuple[int, float]], most: int) -> list[int]:
    """The size of the first pass for each number of rows, by which all passes together are fastest.

    Args:
        costs: Size and seconds of each pass that may be used.
        most: Rows.

    Returns:
        ``most`` + 1 sizes by the number of rows; the one of 0 rows means nothing. The rest of the
        rows are planned again; a pass larger than they are is padded.
    """
    first, total = [0], [0.0]
    for rows in range(1, most + 1):
        seconds, size = min(
            (PASS_S + cost + total[max(0, rows - size)], size) for size, cost in costs
        )
        first.append(size)
        total.append(seconds)
    return first


def _batch_that_takes(seconds: float, costs: Sequence[tuple[int, float]]) -> int:
    """Rows that a lane does in this time, down to a power of two."""
    row_s = min(s / size for size, s in costs)
    return int(min(MOST, max(8, 2 ** int(math.log2(max(1, seconds / row_s))))))


class Engine:
    """Every loaded model, each on its engine. Call ``start_thread`` first in the thread that runs
    them, and ``warm_up`` before anything is run.

    Args:
        models: By name.
        max_batch: The largest batch that ``run`` is meant to get; None = ``warm_up`` finds, for
            each lane, one that takes about BATCH_S, or AT_ONCE_S where it surely ends.

    ``max_batch`` has that largest batch by lane.
    ``inline_rows`` has rows that ``run`` does in AT_ONCE_S, and surely ends, by lane; 0 = none.
    ``costs`` has the size and seconds of each pass in use, smallest size first, by lane.
    ``reproducibility`` has whether each model repeats itself to the bit, by name.
    ``fingerprints`` has a digest of what each model's ``generate`` gave in the probe, by name: it
    differs where processor, engine or settings round otherwise, so seeds there give other pixels.
    """

    def __init__(self, models: Mapping[str, StoredModel], max_batch: int | None) -> None:
        self.max_batch: dict[OperationKey, int] = {}
        self.inline_rows: dict[OperationKey, int] = {}
        self._chosen = max_batch
        self.models = dict(models)
        self.costs: dict[OperationKey, list[tuple[int, float]]] = {}
        self.reproducibility: dict[str, Reproducibility] = {}
        self.fingerprints: dict[str, str] = {}
        self._plans: dict[OperationKey, list[int]] = {}

    def start_thread(self) -> None:
        """Each engine's thread-local settings."""
        for model in self.models.values():
            model.backend.start_thread()

    def operations(self, name: str) -> tuple[Operation, ...]:
        """What a model can do."""
        return self.models[name].operations

    def warm_up(self) -> dict[str, str]:
        """Probe every model, and be ready to run.

        Returns:
            As ``Findings.failed``. Such a model is dropped; the others are served.

        Raises:
            DeviceLostError: as of ``probe``.
        """
        found = self.probe()
        self.adopt(found)
        return found.failed

    def probe(self) -> Findings:
        """Run every model at every size, choose the sizes whose rows agree, and grade each model.

        A model fails that raises, or gives values that are not finite.

        Raises:
            DeviceLostError: no model can be run any more.
        """
        found = Findings({}, {}, {}, {})
        for name, model in self.models.items():
            try:
                probes = {(name, op): self._probe((name, op)) for op in model.operations}
            except DeviceLostError:
                raise
            except Exception as error:
                log.exception("%s failed its probe", name)
                found.failed[name] = f"the network failed its first passes ({type(error).__name__})"
                continue
            for lane, probed in probes.items():
                found.costs[lane] = probed.costs
                if lane[1] == "generate":
                    found.fingerprints[name] = probed.digest
            exact = all(probed.exact for probed in probes.values())
            found.reproducibility[name] = "exact" if exact else "visual"
            log.info(
                "%s: %s with %s on %s; milliseconds by batch size: %s",
                *(name, found.reproducibility[name], model.backend.engine, model.backend.device),
                "; ".join(
                    f"{lane[1]} " + ", ".join(f"{size}: {s * 1e3:.2f}" for size, s in probed.costs)
                    for lane, probed in probes.items()
                ),
            )
        return found

    def adopt(self, found: Findings) -> None:
        """Be ready to run by what a probe of the same models found here, perhaps in another
        process."""
        for name in found.failed:
            del self.models[name]
        self.reproducibility.update(found.reproducibility)
        self.fingerprints.update(found.fingerprints)
        self.costs.update(found.costs)
        for lane, costs in self.costs.items():
            sure = self.models[lane[0]].backend.sure_to_end
            usual = _batch_that_takes(AT_ONCE_S if sure else BATCH_S, costs)
            self.max_batch[lane] = self._chosen or usual
            self._plans[lane] = plan(costs, self.max_batch[lane])
            self.inline_rows[lane] = self._in_time(lane)

    def _in_time(self, lane: OperationKey) -> int:
        """``inline_rows`` of a lane: ``max_batch``, or what halving leaves of it."""
        if not self.models[lane[0]].backend.sure_to_end:
            return 0
        rows = self.max_batch[lane]
        while rows and self._seconds(lane, rows) > AT_ONCE_S:
            rows //= 2
        return rows

    def _seconds(self, lane: OperationKey, rows: int) -> float:
        """What so many rows cost; infinity where that is more than a batch has."""
        if rows > self.max_batch[lane]:
            return math.inf
        costs = dict(self.costs[lane])
        return sum(costs[size] for _, _, size in self.pieces(lane, rows))

    def run(self, lane: OperationKey, rows: Sequence[Row]) -> list[Result | Exception]:
        """Each row's result. A row that goes in or comes out not finite gives an exception in its
        place.

        Args:
            lane: Model and operation.
            rows: ``Sample`` or ``Point``, latents (Z,) float32, or images (H, W[, 3]) uint8, by
                operation.

        Raises:
            DeviceLostError: the device computes nothing more in this process.
            Exception: whatever else the backend raises, of any of these rows.
        """
        name, operation = lane
        batch, labels = network_inputs(self.models[name].network, operation, rows)
        backend = self.models[name].backend
        results: list[Result | Exception] = []
        for start, count, size in self.pieces(lane, len(batch)):
            part = _pad(batch[start : start + count], size)
            part_labels = None if labels is None else _pad(labels[start : start + count], size)
            finite: NDArray[np.bool_] | None  # None = all
            outputs = backend.run(operation, part, part_labels)
            if operation == "encode":
                mu, logvar = (output[:count] for output in outputs)
                finite = finite_rows(mu) & finite_rows(logvar)
                results.extend(zip(mu, logvar, strict=True))
            else:
                levels, finite = to_levels(outputs[0])
                results.extend(levels[:count])
                if operation == "decode":  # an engine may turn a NaN into a number
                    whole = finite_rows(part)
                    finite = whole if finite is None else finite & whole
            if finite is not None and not finite[:count].all():
                for index in np.flatnonzero(~finite[:count]):
                    error = FloatingPointError(f"{name} met values that are not finite")
                    results[start + index] = error
        return results

    def pieces(self, lane: OperationKey, rows: int) -> Iterator[tuple[int, int, int]]:
        """Start, rows and padded size of each pass for a batch."""
        sizes, start = self._plans[lane], 0
        while start < rows:
            size = sizes[min(rows - start, len(sizes) - 1)]
            count = min(size, rows - start)
            yield start, count, size
            start += count

    def _probe_rows(self, lane: OperationKey, count: int) -> list[Row]:
        name, operation = lane
        network = self.models[name].network
        numbers = np.arange(count, dtype=np.uint64)
        if operation == "generate":
            classes = network.num_classes
            return [Sample(seed, seed % classes if classes else None) for seed in range(count)]
        if operation == "decode":
            return list(seeds.normals(numbers, network.latent_dim))
        channels, height, width = network.image_shape
        noise = seeds.normals(numbers, channels * height * width) * 64 + 128
        shape = (count, height, width) if channels == 1 else (count, height, width, channels)
        return list(noise.clip(0, 255).astype(np.uint8).reshape(shape))

    def _probe(self, lane: OperationKey) -> "_Probed":
        """Size and seconds of each pass to use, and whether their rows repeat.

        The sizes are those whose rows equal those of one pass of REFERENCE rows: a fixed number, so
        neither ``max_batch`` nor the sizes kept change an image. Each size is fed all the rows,
        backwards, so that each meets other places and neighbours; then some of them beside one that
        is not a number. If no size agrees, not even REFERENCE itself, the device does not repeat.

        A size is timed against passes of one row between its own, and of the ratios the median
        counts: where others take a part of the machine for a moment, they slow both, and no size
        looks dearer than another by bad luck.

        Raises:
            FloatingPointError: an output is not finite.
        """
        name, operation = lane
        backend = self.models[name].backend
        batch, labels = network_inputs(
            self.models[name].network, operation, self._probe_rows(lane, REFERENCE)
        )
        # Where one thread does all the work, its own time does not count what others take.
        alone = backend.device == "cpu" and backend.threads == 1

        def timed(rows: Floats, row_labels: Labels | None) -> tuple[tuple[Floats, ...], float]:
            wall, own = time.perf_counter(), time.thread_time()
            outputs = backend.run(operation, rows, row_labels)
            wall, own = time.perf_counter() - wall, time.thread_time() - own
            return outputs, _took(wall, own if alone else None)

        reference, reference_seconds = timed(batch, labels)
        if not all(np.isfinite(output).all() for output in reference):
            raise FloatingPointError("an output of the probe is not finite")
        digest = hashlib.sha256(reference[0].tobytes()).hexdigest()

        def seconds_if_exact(size: int, start: int, bad: int = 0) -> float:
            """The time of one pass; infinity if its rows, but the first ``bad``, differ."""
            order = (np.arange(size)[::-1] + start) % REFERENCE
            rows = batch[order]
            rows[:bad] = math.nan
            part, seconds = timed(rows, None if labels is None else labels[order])
            exact = all(
                np.array_equal(p[bad:], r[order[bad:]])
                for p, r in zip(part, reference, strict=True)
            )
            return seconds if exact else math.inf

        single = batch[:1], None if labels is None else labels[:1]
        one = math.inf  # seconds of its pass

        def cost(size: int) -> float:
            """The time of a pass, in passes of one row; infinity: its rows differ."""
            nonlocal one
            # As many passes as show every row, the last one overlapping.
            starts = {*range(0, max(1, REFERENCE - size), size), max(0, REFERENCE - size)}
            passes = [*((start, 0) for start in starts), *[(0, 1)] * (size > 1)]
            found: list[float] = []
            for start, bad in [*passes, *[(0, 0)] * (_PAIRS - len(passes))]:
                seconds = seconds_if_exact(size, start, bad)
                if seconds == math.inf:
                    return seconds
                if len(found) < _PAIRS:
                    # The first of the two finds the weights out of the cache.
                    unit = min(timed(*single)[1] for _ in range(2))
                    one = min(one, unit)
                    found.append(seconds / unit)
            return statistics.median(found)

        costs: list[tuple[int, float]] = []  # in passes of one row
        best, in_vain = math.inf, 0
        for size in sorted({*backend.sizes, REFERENCE}):
            try:
                units = cost(size)
            except MemoryError:
                continue
            if units == math.inf:
                continue
            costs.append((size, units))
            row_s = (PASS_S + one * units) / size
            in_vain = in_vain + 1 if row_s > 0.98 * best else 0
            best = min(best, row_s)
            if size >= (self._chosen or MOST) or (size >= _ENOUGH and in_vain >= 2):
                break  # larger passes would not be used
        costs = [(size, one * units) for size, units in costs]
        if not costs:
            return _Probed([(REFERENCE, reference_seconds)], False, digest)
        return _Probed(costs, True, digest)


class _Probed(NamedTuple):
    """What the probe of one lane has found."""

    costs: list[tuple[int, float]]
    exact: bool  # the rows of these sizes repeat
    digest: str  # of what was computed


def _took(wall_s: float, own_s: float | None) -> float:
    """Seconds of a pass: those of its thread if they are known, else the wall clock's; never 0.

    Some kernels count a thread's time in ticks of several milliseconds, so that a pass takes none
    at all, or more than has gone by.
    """
    return max(1e-6, min(wall_s, own_s) if own_s else wall_s)


def _pad(batch: NDArray[_Number], size: int) -> NDArray[_Number]:
    """Repeat the last row until the batch has ``size`` rows."""
    if len(batch) == size:
        return batch
    return np.concatenate([batch, batch[-1:].repeat(size - len(batch), axis=0)])
