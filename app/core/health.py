"""Liveness and readiness: whether the process must be restarted, and which models respond."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence

from app.batching.batcher import Batcher
from app.engines.rows import OperationKey, Result, Row
from app.errors import (
    STOPPED_RETRY_S,
    DeadlineExceededError,
    NotReadyError,
    OverloadedError,
    ServiceError,
)

READY_CACHE_S = 1.0
CANARY_S = 5


class Health:
    """What the probes ask for.

    Args:
        batcher: Its life is the process's liveness.
        models: Names.
        canary: Sends one image of a model through the real queue. Takes the model's name and a
            deadline on the batcher's clock; raises as ``Service.generate``.
    """

    def __init__(
        self,
        batcher: Batcher[OperationKey, Row, Result],
        models: Sequence[str],
        canary: Callable[[str, float], Awaitable[object]],
    ) -> None:
        self.draining = False  # readiness is red, though work is still accepted
        self._batcher = batcher
        self._models = models
        self._canary = canary
        self._lock = asyncio.Lock()
        self._checked_at = -math.inf
        self._failing: dict[str, str] = {}

    def restart_reason(self) -> str | None:
        """Why the process must be restarted; None = it need not."""
        if self._batcher.hung:
            return "a model hangs; the process must be restarted"
        if not self._batcher.alive:
            return "the batcher has ended; the process must be restarted"
        return None

    async def failing_models(self) -> dict[str, str]:
        """Model -> reason for each that fails its canary; ``service`` -> reason when draining.

        One round at a time, whose result is kept for ``READY_CACHE_S``, so that probes are cheap.
        """
        if self.draining:
            return {"service": "stopping"}
        async with self._lock:
            if time.monotonic() - self._checked_at >= READY_CACHE_S:
                reasons = await asyncio.gather(*map(self._canary_failure, self._models))
                results = zip(self._models, reasons, strict=True)
                self._failing = {model: reason for model, reason in results if reason}
                self._checked_at = time.monotonic()
            return self._failing

    def check_alive(self) -> None:
        """The liveness probe.

        Raises:
            NotReadyError: as ``restart_reason`` says.
        """
        if reason := self.restart_reason():
            raise NotReadyError(reason, retry_after_s=STOPPED_RETRY_S)

    async def check_ready(self, model: str | None = None) -> None:
        """The readiness probe.

        Args:
            model: The only one that matters; None = all do.

        Raises:
            NotReadyError: as ``failing_models`` says.
        """
        failing = await self.failing_models()
        relevant = [
            f"{name}: {reason}"
            for name, reason in failing.items()
            if model in (None, name) or name == "service"
        ]
        if relevant:
            raise NotReadyError("; ".join(relevant), retry_after_s=1)

    async def _canary_failure(self, model: str) -> str | None:
        try:
            await self._canary(model, self._batcher.clock() + CANARY_S)
        except DeadlineExceededError:
            return f"no answer within {CANARY_S} s"
        except OverloadedError:
            return None  # it works, on other requests
        except ServiceError as error:
            return error.detail
        return None
