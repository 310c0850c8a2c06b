"""What the service does, without HTTP: resolve the model, check the request, run it in batches.

Long, since it has every operation of the interface.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from app.batching.admission import OverloadError
from app.batching.batcher import Batcher
from app.batching.ticket import (
    BatchRequest,
    ClientDisconnectedError,
    ClosedError,
    DeadlineError,
    HungError,
    Timing,
)
from app.core.body_budget import BodyBudget
from app.core.clients import current_client
from app.core.health import Health
from app.core.pictures import Pictures
from app.core.refusals import overloaded, refusal_reason
from app.core.requests import (
    TIMEOUT_HEADER,
    Generated,
    GenerateRequest,
    RequestContext,
    check_seeds,
    check_truncation,
    waited_s,
)
from app.core.selection import ModelSelector
from app.core.telemetry.logs import dropped_lines
from app.core.telemetry.metrics import Metrics
from app.core.telemetry.process_figures import process_figures
from app.core.telemetry.tracing import RequestTrace, current_trace
from app.engines.engine import Engine
from app.engines.rows import (
    Image,
    Latent,
    OperationKey,
    Picture,
    Point,
    Posterior,
    Reproducibility,
    Result,
    Row,
    Sample,
)
from app.engines.store import StoredModel
from app.errors import (
    STOPPED_RETRY_S,
    DeadlineExceededError,
    ModelFailureError,
    NotFiniteError,
    NotReadyError,
    ServiceError,
)
from app.seeds import random_seed
from app.settings import Settings

_Request = BatchRequest[Row, Result]  # named here: in a function it would be built at each call


def fits_of(
    model: StoredModel,
    pictures: Sequence[Image],
    reconstructions: Sequence[Image],
    means: Sequence[Latent],
) -> list[float] | None:
    """``Service.fits`` of pictures that are reconstructed already."""
    table = model.description.fit
    if table is None:
        return None
    return table.fit(np.stack(pictures), np.stack(reconstructions), np.stack(means))


class Service:
    """Every operation of the interface, over one engine and one batcher.

    Args:
        engine: Runs the models.
        batcher: Queues their rows.
        metrics: Counts.
        settings: Of the service.
        refused: Files of the store that were not loaded -> reason.
        aliases: Further names of models.
        pictures: Decodes uploads and encodes responses.
    """

    def __init__(
        self,
        engine: Engine,
        batcher: Batcher[OperationKey, Row, Result],
        metrics: Metrics,
        settings: Settings,
        refused: dict[str, str],
        aliases: Mapping[str, str],
        pictures: Pictures,
    ) -> None:
        self.engine = engine
        self.batcher = batcher
        self.metrics = metrics
        self.refused = refused
        self.pictures = pictures
        self.models = engine.models
        self.selector = ModelSelector(
            self.models,
            settings.default_model,
            aliases,
            [file.removesuffix(".safetensors") for file in refused],
        )
        self.health = Health(batcher, list(self.models), self._canary)
        self.bodies = BodyBudget(
            settings.max_bodies_bytes or 8 * settings.max_body_bytes, settings.max_share
        )
        self.max_n = settings.max_n  # images of one request at most
        self.in_flight = 0  # requests accepted and not yet answered
        self.stopping = False  # no new work is accepted
        self._max_timeout_ms = settings.max_timeout_ms
        self._started = time.monotonic()

    @contextmanager
    def track_request(
        self, timeout_ms: int | None, disconnected: Callable[[], bool] | None = None
    ) -> Iterator[RequestContext]:
        """Around the work on one request: it counts as in flight, and a drain waits for it.

        Args:
            timeout_ms: As the request has it; None = the service's own limit, which is also the
                longest.
            disconnected: Whether the client has disconnected; then no model works for it.

        Raises:
            NotReadyError: no new work is accepted.
        """
        context = self.begin_request(timeout_ms, disconnected)
        try:
            yield context
        finally:
            self.end_request()

    def begin_request(
        self,
        timeout_ms: int | None,
        disconnected: Callable[[], bool] | None,
        client: str | None = None,
        trace: RequestTrace | None = None,
        waited: float | None = None,
    ) -> RequestContext:
        """``track_request`` without a with statement: the caller calls ``end_request``.

        Args:
            timeout_ms, disconnected: As in ``track_request``.
            client: Whose request it is; None = ``clients.current_client``.
            trace: Its span; None = ``tracing.current_trace``.
            waited: Seconds since it arrived; None = ``requests.waited_s``.
        """
        if self.stopping:
            raise NotReadyError("the service is stopping", retry_after_s=STOPPED_RETRY_S)
        allowed_ms = self._max_timeout_ms
        if timeout_ms is not None:
            allowed_ms = min(timeout_ms, allowed_ms)
        self.in_flight += 1
        before_s = waited_s.get() if waited is None else waited
        deadline = self.batcher.clock() + allowed_ms / 1e3 - before_s
        client, trace = client or current_client.get(), trace or current_trace.get()
        return RequestContext(deadline, disconnected, client, trace)

    def end_request(self) -> None:
        """The request is answered."""
        self.in_flight -= 1

    def generate_request(
        self,
        name: str | None,
        label: str | None,
        count: int,
        seed: int | None,
        context: RequestContext,
        seeds: Sequence[int] | None = None,
        truncation: float = 1.0,
    ) -> GenerateRequest:
        """Check a request for ``count`` images.

        Args:
            name: Model; None = the default, or one that has the label if there is one.
            label: Class index or name; None on a conditional model = one drawn from each seed.
            count: Within the configured maximum.
            seed: 0 to ``MAX_SEED``; image i has seed ``seed + i``. None = drawn here.
            context: From ``track_request``.
            seeds: One an image, instead of ``count`` and ``seed``.
            truncation: As in ``Sample``.

        Raises:
            UnknownModelError, WrongModelError: ``name``, or a label for a model without classes.
            InvalidParameterError: ``label``, or a seed out of range.
        """
        if seeds is not None:  # none is to be drawn
            count, seed = 1, seeds[0]
        model, index, run = self.resolve(name, label, count, seed)
        if truncation != 1:
            check_truncation(model)
        return GenerateRequest(model, index, run if seeds is None else seeds, context, truncation)

    def resolve(
        self, name: str | None, label: str | None, count: int, seed: int | None
    ) -> tuple[StoredModel, int | None, range]:
        """The model, the label's index and a seed an image.

        Arguments and errors as in ``generate_request``.
        """
        model, index = self.selector.resolve(name, label)
        if seed is None:
            seed = random_seed(count)
        check_seeds(seed, count)
        return model, index, range(seed, seed + count)

    async def generate(self, request: GenerateRequest) -> Generated:
        """The images of a request.

        Raises:
            OverloadedError, OverShareError: at once, and nothing is computed.
            DeadlineExceededError: the deadline passed in the queue.
            NotReadyError: the service stops, or a model hangs.
            ModelFailureError, NotFiniteError: of this request's rows.
            ClientDisconnectedError: the client has disconnected.
        """
        samples = request.samples()
        images, timing = await self.sample(request.model, samples, request.context)
        return Generated(images, samples, timing)

    def start_generate(
        self, request: GenerateRequest, on_done: Callable[[Generated | Exception], None]
    ) -> None:
        """``generate`` without a task.

        Args:
            request: The request.
            on_done: Called once, perhaps before this returns, with the images or with what
                ``generate`` would raise.
        """
        samples = request.samples()
        key: OperationKey = (request.model.name, "generate")

        def done(batched: _Request) -> None:
            if (error := batched.error) is None:
                self.metrics.queued(key, batched.queue_s)
                on_done(Generated(batched.results, samples, batched.timing))  # type: ignore[arg-type]
            elif isinstance(error, ClientDisconnectedError):
                on_done(error)
            else:
                fail(error)

        def fail(error: Exception) -> None:
            service_error = self._as_service_error(key, error)
            service_error.__cause__ = error
            on_done(service_error)

        try:
            self.batcher.begin(key, samples, done, *request.context)
        except Exception as error:
            fail(error)

    async def sample(
        self, model: StoredModel, rows: Sequence[Sample | Point], context: RequestContext
    ) -> tuple[list[Image], Timing]:
        """The image of each row, whatever labels and seeds they have. Raises as ``generate``."""
        images, timing = await self._submit((model.name, "generate"), rows, context)
        return images, timing  # type: ignore[return-value]

    async def generate_in_background(
        self, model: StoredModel, samples: list[Sample]
    ) -> list[Image]:
        """Images that wait for all other requests; each call has the service's own time limit.

        Raises:
            ServiceError: the model failed or hangs, the service stops, or the deadline passed.
        """
        context = RequestContext(self.batcher.clock() + self._max_timeout_ms / 1e3)
        key: OperationKey = (model.name, "generate")
        images, _ = await self._submit(key, samples, context, background=True)
        return images  # type: ignore[return-value]

    async def encode(
        self,
        model: StoredModel,
        images: Sequence[Image],
        labels: Sequence[int] | None,
        context: RequestContext,
    ) -> tuple[list[Posterior], Timing]:
        """The posterior of each image of the model's shape. Raises as ``generate``.

        Args:
            labels: One an image; None = the model takes none.
        """
        rows = images if labels is None else list(map(Picture, images, labels))
        results, timing = await self._submit((model.name, "encode"), rows, context)
        return results, timing  # type: ignore[return-value]

    async def decode(
        self,
        model: StoredModel,
        latents: Sequence[Latent],
        labels: Sequence[int] | None,
        context: RequestContext,
    ) -> tuple[list[Image], Timing]:
        """The image of each latent (Z,). Arguments and errors as in ``encode``."""
        rows = latents if labels is None else list(map(Point, latents, labels))
        results, timing = await self._submit((model.name, "decode"), rows, context)
        return results, timing  # type: ignore[return-value]

    async def fits(
        self,
        model: StoredModel,
        pictures: Sequence[Image],
        means: Sequence[Latent],
        context: RequestContext,
    ) -> list[float] | None:
        """How well each picture fits what the model knows (``FitTable.fit``).

        Args:
            model: Encoded them.
            pictures: Of the model's shape.
            means: mu of each.
            context: From ``track_request``.

        Returns:
            None = the checkpoint has no table.

        Raises:
            ServiceError: as ``generate``; the means are decoded.
        """
        if model.description.fit is None or not pictures:
            return None
        reconstructions, _ = await self.decode(model, means, None, context)
        return fits_of(model, pictures, reconstructions, means)

    async def _submit(
        self,
        key: OperationKey,
        rows: Sequence[Row],
        context: RequestContext,
        background: bool = False,
    ) -> tuple[list[Result], Timing]:
        try:
            results, timing = await self.batcher.submit(key, rows, *context, background)
        except ClientDisconnectedError:
            raise  # no client is there to read an error
        except Exception as error:
            raise self._as_service_error(key, error) from error
        self.metrics.queued(key, timing.queue_s)
        return results, timing

    def _as_service_error(self, key: OperationKey, error: Exception) -> ServiceError:
        """An error of the batcher in the client's words; it is counted."""
        model, operation = key
        if isinstance(error, OverloadError):
            self.metrics.refused(key, refusal_reason(error))
            return overloaded(error, self.batcher.waiting)
        if isinstance(error, DeadlineError):
            return DeadlineExceededError(
                "the images were not ready in the time that the request has; "
                f"{TIMEOUT_HEADER} asks for up to {self._max_timeout_ms}"
            )
        if isinstance(error, HungError):
            return NotReadyError("a model hangs", retry_after_s=STOPPED_RETRY_S)
        if isinstance(error, ClosedError):
            reason = None if self.stopping else self.health.restart_reason()
            return NotReadyError(reason or "the service is stopping", retry_after_s=STOPPED_RETRY_S)
        if isinstance(error, FloatingPointError):
            self.metrics.failed(key, "not_finite")
            return NotFiniteError(f"{model} gave values that are not finite for this request")
        self.metrics.failed(key, "raised")
        # The model's own message may quote weights and inputs, so the client reads its class alone.
        return ModelFailureError(f"{model} failed to {operation} ({type(error).__name__})")

    async def _canary(self, model: str, deadline: float) -> None:
        """One image through the real queue; see ``Health``."""
        await self.generate(self.generate_request(model, None, 1, 0, RequestContext(deadline)))

    def identity(self, model: StoredModel) -> str | None:
        """What a seed's pixels depend on; see ``Engine.identity``."""
        return self.engine.identity(model.name)

    def reproducibility(self, model: StoredModel) -> Reproducibility:
        """How well a seed's pixels repeat, as measured when the service started."""
        return self.engine.reproducibility[model.name]

    @property
    def uptime_s(self) -> float:
        """Seconds since this process began to serve."""
        return time.monotonic() - self._started

    @property
    def on_gpu(self) -> bool:
        """Whether any model runs on a GPU."""
        return any(model.backend.device != "cpu" for model in self.models.values())

    def update_gauges(self) -> None:
        """Set the metrics that state the present load."""
        batcher = self.batcher
        wait_s = batcher.admission.wait_s(batcher.clock())
        self.metrics.dropped_lines(dropped_lines())
        self.metrics.body_bytes(self.bodies.held)
        self.metrics.process(process_figures(), time.process_time())
        self.metrics.load(batcher.waiting, wait_s, batcher.admission.rates, self.in_flight)
