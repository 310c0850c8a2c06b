"""Calls of the model: one at a time, on the event loop or in an executor, and watched."""

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic

from app.batching.admission import Key
from app.batching.scheduler import Result, Row

log = logging.getLogger(__name__)


class ModelCalls(Generic[Key, Row, Result]):
    """See the module.

    Args:
        run: The model: ``run(key, rows)`` returns one result a row, in order.
        executor: Where calls are made that are not inline.
        hang_s: How long such a call may take before the model counts as hung.
        fatal: What ``run`` raises when no call can succeed any more.
        on_hang: Called once for each call that hangs.
    """

    def __init__(
        self,
        run: Callable[[Key, list[Row]], Sequence[Result | Exception]],
        executor: Executor,
        hang_s: float,
        fatal: tuple[type[Exception], ...],
        on_hang: Callable[[], None],
    ) -> None:
        self.run = run
        self._executor = executor
        self._hang_s = hang_s
        self._fatal = fatal
        self._on_hang = on_hang
        self.hung = False  # the running call has taken over hang_s
        # When the inline call that runs now began; None = none runs. Another thread may look.
        self.inline_call_started: float | None = None
        # That thread has answered in place of this one, which must do no more.
        self.abandoned = False

    async def call(
        self, key: Key, batch: list[Row], inline_started: float | None
    ) -> Sequence[Result | Exception] | Exception:
        """What the model returns for a batch, or the exception that it raises.

        Args:
            key, batch: For the model.
            inline_started: The time, for a call on the event loop; None = in the executor.

        Raises:
            Exception: one of ``fatal``.
        """
        try:
            outcome: Sequence[Result | Exception] | Exception
            outcome = await self._results(key, batch, inline_started)
            if len(outcome) != len(batch):
                raise RuntimeError(f"the model returned {len(outcome)} results for {len(batch)}")
        except self._fatal:
            raise
        except Exception as error:
            outcome = error
        if self.abandoned:
            threading.Event().wait()  # for the end of the process
        self.hung = False
        return outcome

    def close(self) -> None:
        """Shut the executor down. A hung call is not waited for; its thread is left behind."""
        self._executor.shutdown(wait=not self.hung, cancel_futures=True)

    async def _results(
        self, key: Key, batch: list[Row], inline_started: float | None
    ) -> Sequence[Result | Exception]:
        if inline_started is not None:
            self.inline_call_started = inline_started
            try:
                return self.run(key, batch)
            finally:
                self.inline_call_started = None
        loop = asyncio.get_running_loop()
        hang_timer = None
        if self._hang_s < math.inf:
            hang_timer = loop.call_later(self._hang_s, self._hang, key, len(batch))
        try:
            return await loop.run_in_executor(self._executor, self.run, key, batch)
        finally:
            if hang_timer:
                hang_timer.cancel()

    def _hang(self, key: Key, rows: int) -> None:
        self.hung = True
        log.critical("a call of %s with %d rows has run for %s s", key, rows, self._hang_s)
        self._on_hang()
