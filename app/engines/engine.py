"""Runs generate, encode and decode on batches of rows, in passes of sizes that were probed.

Knows neither HTTP nor asyncio, nor which library computes (``app.engines.backend``).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app.engines.backend import finite_rows, to_levels
from app.engines.batch_plan import BatchPlan
from app.engines.probe import Findings, probe
from app.engines.probe_cache import ProbeCache
from app.engines.rows import OperationKey, Reproducibility, Result, Row, network_inputs
from app.engines.store import StoredModel
from training.networks.configs import Operation

_Number = TypeVar("_Number", bound=np.generic)


class Engine:
    """Every loaded model, each on its backend.

    Call ``start_thread`` first in each thread that runs them, and ``warm_up`` (or ``adopt``)
    before ``run``.

    Args:
        models: By name.
        max_batch: Rows of the largest batch that ``run`` will get; None = one for each operation,
            as ``BatchPlan`` chooses it.
        cache: As of ``probe``.

    ``plans`` has the passes of each operation's batches, with their sizes and times.
    ``reproducibility`` and ``fingerprints``, by model, are those of ``Findings``.
    """

    def __init__(
        self,
        models: Mapping[str, StoredModel],
        max_batch: int | None,
        cache: ProbeCache | None = None,
    ) -> None:
        self.models = dict(models)
        self.plans: dict[OperationKey, BatchPlan] = {}
        self.reproducibility: dict[str, Reproducibility] = {}
        self.fingerprints: dict[str, str] = {}
        self._max_batch = max_batch
        self._cache = cache

    def start_thread(self) -> None:
        """Make each backend's thread-local settings."""
        for model in self.models.values():
            model.backend.start_thread()

    def operations(self, name: str) -> tuple[Operation, ...]:
        """What a model can do."""
        return self.models[name].operations

    def identity(self, name: str) -> str | None:
        """All that the pixels of a seed depend on besides the parameters of a request.

        Of a portable model the checkpoint's digest alone, of an exact one also how this machine
        rounds. None = the device does not repeat its results.
        """
        digest = self.models[name].description.digest
        grade = self.reproducibility[name]
        if grade == "exact":
            return f"{digest} {self.fingerprints[name]}"
        return digest if grade == "portable" else None

    def warm_up(self) -> dict[str, str]:
        """Probe every model here, and be ready to run.

        Returns:
            ``Findings.failed``. Those models are dropped; the others are served.

        Raises:
            DeviceLostError: no model can be run any more.
        """
        findings = self.probe()
        self.adopt(findings)
        return findings.failed

    def probe(self, names: Iterable[str] | None = None) -> Findings:
        """``app.engines.probe.probe`` of some of these models; None = of all."""
        some = self.models if names is None else {name: self.models[name] for name in names}
        return probe(some, self._max_batch, self._cache)

    def adopt(self, findings: Findings) -> None:
        """Be ready to run by what a probe of the same models measured, here or in another
        process."""
        for name in findings.failed:
            del self.models[name]
        self.reproducibility.update(findings.reproducibility)
        self.fingerprints.update(findings.fingerprints)
        for key, costs in findings.costs.items():
            bounded = self.models[key[0]].backend.bounded_time
            self.plans[key] = BatchPlan(costs, self._max_batch, bounded)

    def run(self, key: OperationKey, rows: Sequence[Row]) -> list[Result | Exception]:
        """The result of each row, in order; an exception in its place where it is not finite.

        Args:
            key: Model and operation.
            rows: ``Sample`` or ``Point``, latents (Z,) float32, or images (H, W[, C]) uint8, by
                operation.

        Raises:
            DeviceLostError: the device computes nothing more in this process.
            Exception: whatever else the backend raises, of any of these rows.
        """
        name, operation = key
        model = self.models[name]
        batch, labels = network_inputs(model.network, operation, rows)
        results: list[Result | Exception] = []
        for start, count, size in self.plans[key].passes(len(batch)):
            part = _pad(batch[start : start + count], size)
            part_labels = None if labels is None else _pad(labels[start : start + count], size)
            outputs = model.backend.run(operation, part, part_labels)
            finite: NDArray[np.bool_] | None  # None = all
            if operation == "encode":
                mu, *logvar = (output[:count] for output in outputs)
                finite = np.logical_and.reduce([finite_rows(part) for part in (mu, *logvar)])
                results.extend(zip(mu, logvar[0] if logvar else [None] * count, strict=True))
            else:
                levels, finite = to_levels(outputs[0])
                results.extend(levels[:count])
                # A backend may turn a NaN into a number, and levels are always numbers.
                if operation == "decode" or outputs[0].dtype == np.uint8:
                    finite_in = finite_rows(part)
                    finite = finite_in if finite is None else finite & finite_in
            if finite is not None and not finite[:count].all():
                for index in np.flatnonzero(~finite[:count]):
                    error = FloatingPointError(f"{name} met values that are not finite")
                    results[start + index] = error
        return results


def _pad(batch: NDArray[_Number], size: int) -> NDArray[_Number]:
    """Repeat the last row until the batch has ``size`` rows."""
    if len(batch) == size:
        return batch
    return np.concatenate([batch, batch[-1:].repeat(size - len(batch), axis=0)])
