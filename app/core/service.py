"""What the service does, without HTTP: choose a model, check the request, run it in the batcher."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from app import seeds
from app.batching.admission import OverloadError, QueueConfig
from app.batching.batcher import Batcher
from app.batching.ticket import (
    BatchRequest,
    ClientDisconnectedError,
    ClosedError,
    DeadlineError,
    HungError,
    Timing,
)
from app.core.clients import current_client
from app.core.metrics import Metrics
from app.core.selection import Choice
from app.engines.engine import Engine
from app.engines.rows import (
    Image,
    Latent,
    OperationKey,
    Point,
    Posterior,
    Result,
    Row,
    Sample,
    samples_from_seeds,
)
from app.engines.store import StoredModel
from app.errors import (
    STOPPED_RETRY_S,
    DeadlineExceededError,
    InvalidParameterError,
    ModelFailureError,
    NotFiniteError,
    NotReadyError,
    OverloadedError,
    OverShareError,
    ServiceError,
)
from app.settings import Settings

TIMEOUT_HEADER = "X-Timeout-Ms"
READY_CACHE_S = 1.0
CANARY_S = 5
_POLL_S = 0.02


_Asked = BatchRequest[Row, Result]  # named once: inside a function it would be made at each call


class Caller(NamedTuple):
    """Who waits for an answer."""

    deadline: float  # on the batcher's clock
    left: Callable[[], bool] | None = None  # tells whether the caller has gone away
    client: str | None = None  # as ``clients`` names it


class Order(NamedTuple):
    """A checked request for images."""

    model: StoredModel
    label: int | None  # None = none, or on a conditional model one drawn from each seed
    seeds: Sequence[int]  # one an image
    caller: Caller
    truncation: float = 1.0  # as in ``Sample``


class Generated(NamedTuple):
    """Images with the rows that made them."""

    images: list[Image]
    samples: list[Sample]
    timing: Timing


def measured_lanes(engine: Engine) -> dict[OperationKey, QueueConfig]:
    """Every lane, with the rate of its best size as the engine's start-up probe has measured it.

    A start for the batcher, which measures every call from then on.

    Args:
        engine: That has been probed.
    """
    return {
        key: QueueConfig(
            plan.max_batch, max(size / seconds for size, seconds in plan.costs), plan.inline_rows
        )
        for key, plan in engine.plans.items()
    }


def refused_for(error: OverloadError) -> str:
    """The reason, as the metrics have it."""
    return error.reason if error.own_rows is None else "share"


def _overloaded(error: OverloadError, waiting: int) -> ServiceError:
    """The refusal in the caller's words."""
    if error.own_rows is not None:
        return OverShareError.of(error.own_rows, waiting, error.retry_after_s)
    told = {
        "queue": f"{waiting} images are waiting, and there is no room for these",
        "wait": f"the predicted wait is {error.predicted_s:.2f} s; "
        f"at most {error.allowed_s:.2f} s are allowed",
        "deadline": f"the images are predicted in {error.predicted_s:.2f} s; "
        f"this request leaves {error.allowed_s:.2f} s",
    }
    return OverloadedError(
        f"{told[error.reason]}; try again in {error.retry_after_s} s",
        retry_after_s=error.retry_after_s,
    )


class Service:
    """Every operation of the interface, over one engine and one batcher."""

    def __init__(
        self,
        engine: Engine,
        batcher: Batcher[OperationKey, Row, Result],
        metrics: Metrics,
        settings: Settings,
        refused: dict[str, str],
    ) -> None:
        self.engine = engine
        self.batcher = batcher
        self.metrics = metrics
        self.refused = refused  # file name -> reason
        self.models = engine.models
        self.choice = Choice(self.models, settings.default_model)
        self.in_flight = 0  # requests accepted and not yet answered
        self.max_n = settings.max_n  # images of one request at most
        self._max_timeout_ms = settings.max_timeout_ms
        self.draining = self.stopping = False
        self._started = time.monotonic()
        self._ready_lock = asyncio.Lock()
        self._ready_at = -math.inf
        self._not_ready: dict[str, str] = {}

    @contextmanager
    def accepted(
        self, timeout_ms: int | None, left: Callable[[], bool] | None = None
    ) -> Iterator[Caller]:
        """Around the work on one request: it counts as in flight, and a drain waits for it.

        Args:
            timeout_ms: What the request asks for; None = the service's own limit, which is also
                the most.
            left: Tells whether the caller has gone away: then no model works for it.

        Raises:
            NotReadyError: no new work is accepted.
        """
        caller = self.enter(timeout_ms, left)
        try:
            yield caller
        finally:
            self.leave()

    def enter(
        self,
        timeout_ms: int | None,
        left: Callable[[], bool] | None,
        client: str | None = None,
    ) -> Caller:
        """``accepted``, for who cannot use a with statement and calls ``leave`` at the end.

        Args:
            timeout_ms, left: As of ``accepted``.
            client: Who asks; None = as ``clients.current_client`` says.
        """
        if self.stopping:
            raise NotReadyError("the service is stopping", retry_after_s=STOPPED_RETRY_S)
        allowed_ms = self._max_timeout_ms
        if timeout_ms is not None:
            allowed_ms = min(timeout_ms, allowed_ms)
        self.in_flight += 1
        return Caller(self.batcher.clock() + allowed_ms / 1e3, left, client or current_client.get())

    def leave(self) -> None:
        """The request is answered."""
        self.in_flight -= 1

    def start_draining(self) -> None:
        """Turn readiness red, at once. Work is still accepted; safe in a signal handler."""
        self.draining = True

    async def drain(self, delay_s: float, limit_s: float, forced: Callable[[], bool]) -> None:
        """Accept work for ``delay_s`` more, then none, and return when what was accepted is done.

        Args:
            delay_s: How long a load balancer takes to notice that readiness is red.
            limit_s: How long to wait, after that, for what was accepted.
            forced: Return at once when this is true.
        """
        self.start_draining()
        ends = time.monotonic() + delay_s
        while time.monotonic() < ends and not forced():  # noqa: ASYNC110  # as uvicorn waits
            await asyncio.sleep(_POLL_S)
        self.stopping = True
        ends = time.monotonic() + limit_s
        while self.in_flight and time.monotonic() < ends and not forced():  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)

    def order(
        self,
        name: str | None,
        label: str | None,
        count: int,
        seed: int | None,
        caller: Caller,
        numbers: Sequence[int] | None = None,
        truncation: float = 1.0,
    ) -> Order:
        """Check a request for ``count`` images.

        Args:
            name: Model; None = the default, or one that knows the label if there is one.
            label: Class index or name; None on a conditional model = one drawn from each seed.
            count: Within the configured maximum.
            seed: 0 to ``seeds.MAX_SEED``; image i has seed ``seed + i``. None = drawn here.
            caller: As ``accepted`` gives it.
            numbers: A seed an image, instead of ``count`` and ``seed``.
            truncation: As in ``Sample``.

        Raises:
            UnknownModelError, WrongModelError: ``name``, or a label for a model without.
            InvalidParameterError: ``label``, or a seed out of range.
        """
        if numbers is not None:  # none is to be drawn
            count, seed = 1, numbers[0]
        model, index, run = self.choose(name, label, count, seed)
        return Order(model, index, run if numbers is None else numbers, caller, truncation)

    def choose(
        self, name: str | None, label: str | None, count: int, seed: int | None
    ) -> tuple[StoredModel, int | None, range]:
        """The model, the label's index and a seed an image; arguments and errors are
        ``order``'s."""
        model, index = self.choice.of(name, label)
        if seed is None:
            seed = seeds.random_seed(count)
        self.check_seeds(seed, count)
        return model, index, range(seed, seed + count)

    async def generate(self, order: Order) -> Generated:
        """The images of an order.

        Raises:
            OverloadedError, OverShareError: at once, and nothing is computed.
            DeadlineExceededError: the order's deadline passed in the queue.
            NotReadyError: the service stops, or a model hangs.
            ModelFailureError, NotFiniteError: of this order's rows.
            ClientDisconnectedError: the caller has gone.
        """
        samples = self.samples(order)
        images, timing = await self.sample(order.model, samples, order.caller)
        return Generated(images, samples, timing)

    async def sample(
        self, model: StoredModel, samples: Sequence[Sample | Point], caller: Caller
    ) -> tuple[list[Image], Timing]:
        """The image of each row, whatever labels and seeds they have. Raises what ``generate``
        does."""
        images, timing = await self._submit((model.name, "generate"), samples, caller)
        return images, timing  # type: ignore[return-value]

    def ask(self, order: Order, then: Callable[[Generated | Exception], None]) -> None:
        """``generate`` for who waits without a task: ``then`` is called once, perhaps at once, with
        the images or with what ``generate`` would raise."""
        samples = self.samples(order)
        lane: OperationKey = (order.model.name, "generate")

        def done(request: _Asked) -> None:
            if (error := request.error) is None:
                then(Generated(request.results, samples, request.timing))  # type: ignore[arg-type]
            elif isinstance(error, ClientDisconnectedError):
                then(error)
            else:
                refuse(error)

        def refuse(error: Exception) -> None:
            told = self._told(lane, error)
            told.__cause__ = error
            then(told)

        try:
            self.batcher.begin(lane, samples, done, *order.caller)
        except Exception as error:
            refuse(error)

    @staticmethod
    def samples(order: Order) -> list[Sample]:
        """The rows of an order, a label drawn for each where none was asked for."""
        if len(order.seeds) == 1 and order.label is not None:  # the usual one
            return [Sample(order.seeds[0], order.label, order.truncation)]
        classes = order.model.network.num_classes
        return samples_from_seeds(order.seeds, order.label, classes, order.truncation)

    async def generate_behind(self, model: StoredModel, samples: list[Sample]) -> list[Image]:
        """Images for which all other requests go first; each call has the service's own deadline.

        Raises:
            ServiceError: the model failed or hangs, the service stops, or the deadline passed.
        """
        caller = Caller(self.batcher.clock() + self._max_timeout_ms / 1e3)
        lane: OperationKey = (model.name, "generate")
        images, _ = await self._submit(lane, samples, caller, background=True)
        return images  # type: ignore[return-value]

    @staticmethod
    def check_seeds(seed: int, count: int) -> None:
        """Refuse a seed whose ``count``-th successor is out of range.

        Raises:
            InvalidParameterError
        """
        if seed + count - 1 > seeds.MAX_SEED:
            raise InvalidParameterError(
                f"seed is {seed} for {count} images: the last one's seed would be over "
                f"{seeds.MAX_SEED}",
                errors=[{"pointer": "?seed", "detail": f"at most {seeds.MAX_SEED + 1 - count}"}],
            )

    async def encode(
        self, model: StoredModel, images: Sequence[Image], caller: Caller
    ) -> tuple[list[Posterior], Timing]:
        """The posterior of each image, as ``read_upload`` returns it. Raises what
        ``generate`` does."""
        results, timing = await self._submit((model.name, "encode"), images, caller)
        return results, timing  # type: ignore[return-value]

    async def decode(
        self, model: StoredModel, latents: Sequence[Latent], caller: Caller
    ) -> tuple[list[Image], Timing]:
        """The image of each latent (Z,). Raises what ``generate`` does."""
        results, timing = await self._submit((model.name, "decode"), latents, caller)
        return results, timing  # type: ignore[return-value]

    async def _submit(
        self, lane: OperationKey, rows: Sequence[Row], caller: Caller, background: bool = False
    ) -> tuple[list[Result], Timing]:
        try:
            return await self.batcher.submit(lane, rows, *caller, background)
        except ClientDisconnectedError:
            raise  # nobody is there to be told
        except Exception as error:
            raise self._told(lane, error) from error

    def _told(self, lane: OperationKey, error: Exception) -> ServiceError:
        """What the batcher raised, in the caller's words; counted."""
        if isinstance(error, OverloadError):
            self.metrics.refused(lane, refused_for(error))
            return _overloaded(error, self.batcher.waiting)
        if isinstance(error, DeadlineError):
            return DeadlineExceededError(
                "the images were not ready in the time that the request has; "
                f"{TIMEOUT_HEADER} asks for up to {self._max_timeout_ms}"
            )
        if isinstance(error, HungError):
            return NotReadyError("a model hangs", retry_after_s=STOPPED_RETRY_S)
        if isinstance(error, ClosedError):
            reason = None if self.stopping else self.not_alive()
            return NotReadyError(reason or "the service is stopping", retry_after_s=STOPPED_RETRY_S)
        if isinstance(error, FloatingPointError):
            self.metrics.failed(lane, "not_finite")
            return NotFiniteError(f"{lane[0]} gave values that are not finite for this request")
        self.metrics.failed(lane, "raised")
        # What the model raised; it may quote weights and inputs, so only its class is told.
        return ModelFailureError(f"{lane[0]} failed to {lane[1]} ({type(error).__name__})")

    def identity(self, model: StoredModel) -> str | None:
        """What the pixels of a seed depend on besides the parameters; None = the device does not
        repeat itself."""
        if self.engine.reproducibility[model.name] != "exact":
            return None
        return f"{model.description.digest} {self.engine.fingerprints[model.name]}"

    @property
    def uptime_s(self) -> float:
        """Seconds since this process began to serve."""
        return time.monotonic() - self._started

    @property
    def on_gpu(self) -> bool:
        """Whether a model runs on one."""
        return any(model.backend.device != "cpu" for model in self.models.values())

    def measure(self) -> None:
        """Record how things stand now, for the metrics."""
        batcher = self.batcher
        wait_s = batcher.admission.wait_s(batcher.clock())
        self.metrics.load(batcher.waiting, wait_s, batcher.admission.rates, self.in_flight)

    def not_alive(self) -> str | None:
        """Why the process must be restarted; None = it need not."""
        if self.batcher.hung:
            return "a model hangs; the process must be restarted"
        return (
            None if self.batcher.alive else "the batcher has ended; the process must be restarted"
        )

    async def not_ready(self) -> dict[str, str]:
        """Model -> reason for each that does not answer a canary sent through the real queue.

        One round at a time, and its result is kept for a second: probes cost next to nothing.
        """
        if self.draining:
            return {"service": "stopping"}
        async with self._ready_lock:
            if time.monotonic() - self._ready_at >= READY_CACHE_S:
                found = await asyncio.gather(*(self._canary(name) for name in self.models))
                self._not_ready = {name: reason for name, reason in found if reason}
                self._ready_at = time.monotonic()
            return self._not_ready

    def check_alive(self) -> None:
        """For probes.

        Raises:
            NotReadyError: as ``not_alive`` says.
        """
        if reason := self.not_alive():
            raise NotReadyError(reason, retry_after_s=STOPPED_RETRY_S)

    async def check_ready(self, name: str | None = None) -> None:
        """For probes.

        Args:
            name: Of the one model that matters; None = all do.

        Raises:
            NotReadyError: as ``not_ready`` says.
        """
        failing = await self.not_ready()
        told = [f"{n}: {why}" for n, why in failing.items() if name in (None, n) or n == "service"]
        if told:
            raise NotReadyError("; ".join(told), retry_after_s=1)

    async def _canary(self, name: str) -> tuple[str, str | None]:
        try:
            caller = Caller(self.batcher.clock() + CANARY_S)
            await self.generate(self.order(name, None, 1, 0, caller))
        except DeadlineExceededError:
            return name, f"no answer within {CANARY_S} s"
        except OverloadedError:
            return name, None  # it works, on the requests of others
        except ServiceError as error:
            return name, error.detail
        return name, None
