"""The start-up probe: which batch sizes give a row the same bits, and what a pass of each costs.

A row of a network may differ in its last bits with the size of the batch it is in, because
libraries choose another algorithm for another size. The probe runs every operation of every model
on fixed rows, as many as the backend's ``reference`` has, then in passes of each size. It keeps
the sizes whose rows equal, bit for bit, those of the one pass of all of them, so that a seed's
pixels do not depend on its batch.

With times from an earlier start (``probe_cache``) one pass of each of their sizes is enough: it
shows again that rows repeat, beside one that is not a number, and that the times are right.
"""

import json
import logging
import math
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from app.engines.backend import DeviceLostError, Floats, GraphError, Labels, Output
from app.engines.batch_plan import INLINE_S, LEAST_ROWS, MAX_BATCH, PASS_S
from app.engines.probe_cache import ProbeCache, Times
from app.engines.rows import OperationKey, Reproducibility
from app.engines.store import StoredModel
from training.networks.configs import Operation
from training.networks.golden import golden_inputs, output_digest

log = logging.getLogger(__name__)

_TIMED = 3  # passes of a size that are timed, each beside passes of one row
_RIGHT = 4.0  # times that differ by more than this factor are not of this machine
_FLAT_ROWS = 16  # rows from which on larger sizes may be skipped, once two in a row save nothing


class Findings(NamedTuple):
    """What the probe of some models measured. It crosses from the process that probed as JSON."""

    costs: dict[OperationKey, list[tuple[int, float]]]  # rows and seconds of each size to use
    reproducibility: dict[str, Reproducibility]  # by model
    # By model, the SHA-256 of what ``generate`` returned. It differs where processor, engine or
    # settings round differently, so that seeds give other pixels.
    fingerprints: dict[str, str]
    failed: dict[str, str]  # by model that cannot be run: why

    def to_json(self) -> str:
        """As ``from_json`` reads it."""
        costs = [(*key, passes) for key, passes in self.costs.items()]
        return json.dumps([costs, *self[1:]])

    @classmethod
    def from_json(cls, text: bytes) -> "Findings":
        """The same findings, from what ``to_json`` returned."""
        costs, *others = json.loads(text)
        by_key: dict[OperationKey, list[tuple[int, float]]] = {
            (name, operation): [(size, seconds) for size, seconds in passes]
            for name, operation, passes in costs
        }
        return cls(by_key, *others)


def merged(parts: Iterable[Findings]) -> Findings:
    """The findings of probes of different models."""
    whole = Findings({}, {}, {}, {})
    for part in parts:
        whole.costs.update(part.costs)
        whole.reproducibility.update(part.reproducibility)
        whole.fingerprints.update(part.fingerprints)
        whole.failed.update(part.failed)
    return whole


def probe(
    models: Mapping[str, StoredModel], max_batch: int | None, cache: ProbeCache | None = None
) -> Findings:
    """Run every operation of every model in passes of each size.

    A model whose pass raises, or returns values that are not finite, is listed as failed.

    Args:
        models: By name.
        max_batch: No size beyond the first that holds so many rows is tried; None = no such bound.
        cache: Has times of an earlier start, and gets those of this one; None = none.

    Raises:
        DeviceLostError: no model can be run any more.
    """
    findings = Findings({}, {}, {}, {})
    for name, model in models.items():
        try:
            probes = {
                operation: _OperationProbe(model, operation) for operation in model.operations
            }
            times = cache.times(model) if cache else None
            probed = _confirmed(probes, times) if times else None
            if not probed:
                probed = {operation: each.run(max_batch) for operation, each in probes.items()}
                if cache and all(measured.exact for measured in probed.values()):
                    cache.keep(model, {name: measured.costs for name, measured in probed.items()})
        except DeviceLostError:
            raise
        except GraphError as error:
            log.error("%s: %s", name, error)
            findings.failed[name] = str(error)
            continue
        except Exception as error:
            log.exception("%s failed its probe", name)
            findings.failed[name] = f"the network failed its first passes ({type(error).__name__})"
            continue
        for operation, measured in probed.items():
            findings.costs[name, operation] = measured.costs
        findings.fingerprints[name] = probed["generate"].digest
        findings.reproducibility[name] = _grade(model, probed)
        log.info(
            "%s: %s with %s on %s; milliseconds by batch size: %s",
            *(name, findings.reproducibility[name], model.backend.engine, model.backend.device),
            "; ".join(
                f"{operation} " + ", ".join(f"{size}: {s * 1e3:.2f}" for size, s in measured.costs)
                for operation, measured in probed.items()
            ),
        )
    return findings


class _Measured(NamedTuple):
    """What the probe of one operation measured."""

    costs: list[tuple[int, float]]
    exact: bool  # the rows of these sizes repeat, bit for bit
    digest: str  # of the reference pass's outputs


def _confirmed(
    probes: "Mapping[Operation, _OperationProbe]", times: Times
) -> dict[Operation, _Measured] | None:
    """What the probes measured at an earlier start; None = it does not hold any more."""
    found: dict[Operation, _Measured] = {}
    for operation, each in probes.items():
        measured = each.confirm(times[operation])
        if not measured:
            return None
        found[operation] = measured
    return found


def _grade(model: StoredModel, probed: Mapping[Operation, _Measured]) -> Reproducibility:
    """What the results of a model's operations promise."""
    exact = all(measured.exact for measured in probed.values())
    if model.description.portable:
        golden = {operation: graph.golden for operation, graph in model.description.graphs.items()}
        wrong = [name for name, measured in probed.items() if measured.digest != golden[name]]
        if exact and not wrong:
            return "portable"
        # Loud, because permalinks of other machines show other pixels here.
        log.error(
            "%s is portable, but not on this machine: %s with %s on %s did not give the golden "
            "digests of its checkpoint. It is served as %s. Please report processor and versions",
            *(model.name, ", ".join(wrong) or "a batch size", model.backend.engine),
            *(model.backend.device, "exact" if exact else "visual"),
        )
    return "exact" if exact else "visual"


class _OperationProbe:
    """Passes of one operation on fixed rows, compared with one pass of them all.

    Raises:
        FloatingPointError: an output of the reference pass is not finite.
    """

    def __init__(self, model: StoredModel, operation: Operation) -> None:
        self._backend, self._operation = model.backend, operation
        self._rows = model.backend.reference
        self._batch, self._labels = golden_inputs(model.network, operation, self._rows)
        # Where one thread does all the work, its CPU time leaves out what other processes take.
        self._by_thread_time = model.backend.device == "cpu" and model.backend.threads == 1
        self._reference, self._reference_s = self._timed(self._batch, self._labels)
        if not all(np.isfinite(output).all() for output in self._reference):
            raise FloatingPointError("an output of the probe is not finite")
        self._one_row_s = math.inf  # the fastest pass of one row so far

    def run(self, max_batch: int | None) -> _Measured:
        """Try the sizes, smallest first, until larger ones would not be used."""
        digest = output_digest(self._reference)
        relative: list[tuple[int, float]] = []  # size, and its time in passes of one row
        best_row_s, without_gain = math.inf, 0
        inline = self._backend.bounded_time and max_batch is None
        for size in sorted({*self._backend.sizes, self._rows}):
            try:
                cost = self._relative_cost(size)
            except MemoryError:
                continue
            if cost == math.inf:
                continue
            relative.append((size, cost))
            row_s = (PASS_S + self._one_row_s * cost) / size
            without_gain = without_gain + 1 if row_s > 0.98 * best_row_s else 0
            best_row_s = min(best_row_s, row_s)
            if size >= (max_batch or MAX_BATCH) or (size >= _FLAT_ROWS and without_gain >= 2):
                break
            # No call on the event loop has twice the rows, unless a row then takes half as long.
            if inline and size >= LEAST_ROWS and self._one_row_s * cost > INLINE_S:
                break
        if not relative:  # not even the reference agrees with itself: the device does not repeat
            return _Measured([(self._rows, self._reference_s)], False, digest)
        costs = [(size, self._one_row_s * cost) for size, cost in relative]
        return _Measured(costs, True, digest)

    def confirm(self, costs: list[tuple[int, float]]) -> _Measured | None:
        """What was measured earlier, if some passes of each size still repeat and one of them takes
        about as long; else None.

        Of all that ``run`` shows: the first rows, the last, and some beside one that is no number.
        """
        for size, expected_s in costs:
            shown = ((0, 0), (max(0, self._rows - size), 0), (0, int(size > 1)))
            passes = [self._seconds_if_exact(size, *each) for each in shown]
            if max(passes) == math.inf:
                return None
            if not any(expected_s / _RIGHT < seconds < expected_s * _RIGHT for seconds in passes):
                return None
        return _Measured(costs, True, output_digest(self._reference))

    def _relative_cost(self, size: int) -> float:
        """The time of a pass in passes of one row; infinity if a row differs from the reference.

        Every row is shown, backwards, so that it meets other places and neighbours; then some of
        them beside a row that is not a number. Passes are timed between passes of one row, and the
        median of the ratios counts. So where other processes take a part of the machine for a
        moment, they slow both, and no size looks dear by bad luck.
        """
        # As many passes as show every row; the last one overlaps.
        starts = {*range(0, max(1, self._rows - size), size), max(0, self._rows - size)}
        passes = [*((start, 0) for start in starts), *[(0, 1)] * (size > 1)]
        ratios: list[float] = []
        for start, bad in [*passes, *[(0, 0)] * (_TIMED - len(passes))]:
            seconds = self._seconds_if_exact(size, start, bad)
            if seconds == math.inf:
                return seconds
            if len(ratios) < _TIMED:
                # Twice: the first finds the weights out of the cache.
                one_row_s = min(self._one_row_pass_s() for _ in range(2))
                self._one_row_s = min(self._one_row_s, one_row_s)
                ratios.append(seconds / one_row_s)
        return statistics.median(ratios)

    def _seconds_if_exact(self, size: int, start: int, bad: int) -> float:
        """The time of one pass; infinity if its rows, but the first ``bad``, which are NaN,
        differ."""
        order = (np.arange(size)[::-1] + start) % self._rows
        rows = self._batch[order]
        rows[:bad] = math.nan
        outputs, seconds = self._timed(rows, None if self._labels is None else self._labels[order])
        exact = all(
            np.array_equal(output[bad:], reference[order[bad:]])
            for output, reference in zip(outputs, self._reference, strict=True)
        )
        return seconds if exact else math.inf

    def _one_row_pass_s(self) -> float:
        labels = None if self._labels is None else self._labels[:1]
        return self._timed(self._batch[:1], labels)[1]

    def _timed(self, batch: Floats, labels: Labels | None) -> tuple[tuple[Output, ...], float]:
        """The outputs of one pass, and its seconds."""
        wall, own = time.perf_counter(), time.thread_time()
        outputs = self._backend.run(self._operation, batch, labels)
        wall, own = time.perf_counter() - wall, time.thread_time() - own
        return outputs, _pass_seconds(wall, own if self._by_thread_time else None)


def _pass_seconds(wall_s: float, thread_s: float | None) -> float:
    """The CPU seconds of a pass's thread where they are known, else the wall clock's; never 0.

    Some kernels count a thread's time in ticks of several milliseconds: a pass then seems to take
    none at all, or more than has gone by.
    """
    return max(1e-6, min(wall_s, thread_s) if thread_s else wall_s)
