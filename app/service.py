"""What the service does, without HTTP: choose a model, check the request, run it in the batcher."""

import asyncio
import difflib
import math
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import repeat
from typing import NamedTuple

import numpy as np

from app import seeds
from app.admission import OverloadError, Start
from app.batching import Batcher
from app.clients import asking
from app.engine import Engine, Image, Lane, Latent, Point, Posterior, Result, Row, Sample
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
    StartupError,
    UnknownModelError,
    WrongModelError,
    shown,
)
from app.metrics import Metrics
from app.pending import ClosedError, DeadlineError, HungError, LeftError, Pending, Timing
from app.settings import Settings
from app.store import StoredModel

READY_CACHE_S = 1.0
CANARY_S = 5
_POLL_S = 0.02
_PIN = re.compile(r"[0-9a-f]{12,64}")


_Asked = Pending[Row, Result]  # named once: inside a function it would be made at each call


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


class _Labels:
    """What the classes of a model can be called."""

    def __init__(self, model: StoredModel) -> None:
        self.indices = {name: i for i, name in enumerate(model.description.labels)}
        self._classes = model.network.num_classes

    def named(self, text: str) -> int | None:
        """The index of the class of this name, its accents written joined or apart."""
        if text in self.indices:
            return self.indices[text]
        return self.indices.get(unicodedata.normalize("NFC", text))

    def index(self, text: str) -> int | None:
        """The index that a class name, else an index in plain digits, stands for, if any."""
        index = self.named(text)
        plain = text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")
        if index is None and plain and len(text) <= 6 and int(text) < self._classes:
            index = int(text)
        return index


def pinned_name(model: StoredModel) -> str:
    """A model's name for addresses that no other checkpoint may answer."""
    return f"{model.name}@{model.description.digest[:12]}"


def measured_lanes(engine: Engine) -> dict[Lane, Start]:
    """Every lane, with the rate of its best size as the engine's start-up probe has measured it.

    A start for the batcher, which measures every call from then on.
    """
    return {
        lane: Start(
            engine.max_batch[lane],
            max(size / seconds for size, seconds in costs),
            engine.at_once[lane],
        )
        for lane, costs in engine.costs.items()
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
        batcher: Batcher[Lane, Row, Result],
        metrics: Metrics,
        settings: Settings,
        refused: dict[str, str],
    ) -> None:
        self.engine = engine
        self.batcher = batcher
        self.metrics = metrics
        self.refused = refused  # file name -> reason
        self.models = engine.models
        self._labels = {name: _Labels(model) for name, model in self.models.items()}
        conditional = [name for name in self.models if self.models[name].network.num_classes]
        wanted = settings.default_model
        if wanted is not None and wanted not in self.models:
            raise StartupError(
                f"default_model is {wanted!r}; available: {', '.join(sorted(self.models))}"
            )
        self.default = wanted or (conditional or sorted(self.models))[0]
        self.default_conditional = self.default if self.default in conditional else None
        if self.default_conditional is None and conditional:
            self.default_conditional = conditional[0]
        encoders = [n for n in sorted(self.models) if "encode" in engine.operations(n)]
        self.default_encoder = min(encoders, key=self._reconstruction_error, default=None)
        # What was found once; what is refused is looked for anew.
        self._chosen = lru_cache(1024)(self._choose)
        self.in_flight = 0  # requests accepted and not yet answered
        self.max_n = settings.max_n  # images of one request at most
        self._max_timeout_ms = settings.max_timeout_ms
        self.draining = self.stopping = False
        self._started = time.monotonic()
        self._ready_lock = asyncio.Lock()
        self._ready_at = -math.inf
        self._not_ready: dict[str, str] = {}

    def _reconstruction_error(self, name: str) -> float:
        """As a VAE's card has it, mean squared; what is not measured comes last."""
        error = self.models[name].description.metrics.get("reconstruction_mse")
        return error if isinstance(error, float) else math.inf

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
            client: Who asks; None = as ``clients.asking`` says.
        """
        if self.stopping:
            raise NotReadyError("the service is stopping", retry_after_s=STOPPED_RETRY_S)
        allowed_ms = self._max_timeout_ms
        if timeout_ms is not None:
            allowed_ms = min(timeout_ms, allowed_ms)
        self.in_flight += 1
        return Caller(self.batcher.clock() + allowed_ms / 1e3, left, client or asking.get())

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

    def model(self, name: str) -> StoredModel:
        """A loaded model.

        Args:
            name: Its name alone, or pinned to its checkpoint: ``name@`` and 12 or more digits of
                the digest, as ``pinned_name`` gives it.

        Raises:
            UnknownModelError: there is none of this name, or it is not the checkpoint pinned.
        """
        if name in self.models:
            return self.models[name]
        name, pin, digits = name.partition("@")
        if pin and (model := self.models.get(name)):
            if _PIN.fullmatch(digits) and model.description.digest.startswith(digits):
                return model
            raise UnknownModelError(
                f"{name} is pinned to {shown(digits)}; served is {pinned_name(model)} (12 to 64 "
                "digits of the digest)"
            )
        near = difflib.get_close_matches(name[:64], self.models, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        available = ", ".join(sorted(self.models))
        raise UnknownModelError(f"unknown model {shown(name)}; available: {available}{hint}")

    def encoder(self, name: str | None) -> StoredModel:
        """The model that encodes and decodes: the one asked for, else the one
        that reconstructs best.

        Raises:
            UnknownModelError, WrongModelError: there is none, or it cannot.
        """
        if name is None and self.default_encoder is None:
            raise WrongModelError("no loaded model can encode: that takes a VAE")
        model = self.model(name or self.default_encoder or "")
        if "encode" not in self.engine.operations(model.name):
            able = [n for n in self.models if "encode" in self.engine.operations(n)]
            raise WrongModelError(
                f"{model.name} is a {model.description.kind}, which cannot encode or decode; "
                f"models that can: {', '.join(able) or 'none'}"
            )
        return model

    def _model_for(self, label: str) -> str:
        """The model of a request that names a label and no model: the default conditional one if
        it takes the label, else the first by name that has a class of this name.

        Raises:
            WrongModelError: no model takes labels.
        """
        if self.default_conditional is None:
            raise WrongModelError("no loaded model takes a label")
        if self._labels[self.default_conditional].index(label) is None:
            for name in sorted(self.models):
                if self._labels[name].named(label) is not None:
                    return name
        return self.default_conditional

    def _label(self, model: StoredModel, text: str) -> int:
        """A class index or class name to the index."""
        index = self._labels[model.name].index(text)
        if index is not None:
            return index
        names = model.description.labels
        if not names:
            able = [n for n, m in self.models.items() if m.description.labels]
            raise WrongModelError(
                f"{model.name} is unconditional and takes no label; "
                f"models that do: {', '.join(able) or 'none'}",
                errors=[{"pointer": "?label", "detail": "not for this model"}],
            )
        allowed = f"0 to {len(names) - 1}"
        if names != tuple(str(i) for i in range(len(names))):
            allowed += f", or a name: {', '.join(names[:20])}{'…' if len(names) > 20 else ''}"
            if near := difflib.get_close_matches(text.casefold(), names, 1):
                allowed += f"; did you mean {near[0]}?"
        raise InvalidParameterError(
            f"label is {shown(text)}; {model.name} knows {allowed}",
            errors=[{"pointer": "?label", "detail": f"allowed: {allowed}"}],
        )

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
        """
        model, index, run = self.choose(name, label, count, seed)
        return Order(model, index, run if numbers is None else numbers, caller, truncation)

    def choose(
        self, name: str | None, label: str | None, count: int, seed: int | None
    ) -> tuple[StoredModel, int | None, range]:
        """The model, the label's index and a seed an image; the arguments are ``order``'s."""
        model, index = self._chosen(name, label)
        if seed is None:
            seed = seeds.random_seed(count)
        self.check_seeds(seed, count)
        return model, index, range(seed, seed + count)

    def _choose(self, name: str | None, label: str | None) -> tuple[StoredModel, int | None]:
        if name is None:
            name = self.default if label is None else self._model_for(label)
        model = self.model(name)
        return model, None if label is None else self._label(model, label)

    async def generate(self, order: Order) -> Generated:
        """The images of an order."""
        samples = self.samples(order)
        images, timing = await self.sample(order.model, samples, order.caller)
        return Generated(images, samples, timing)

    async def sample(
        self, model: StoredModel, samples: Sequence[Sample | Point], caller: Caller
    ) -> tuple[list[Image], Timing]:
        """The image of each row, whatever labels and seeds they have."""
        images, timing = await self._submit((model.name, "generate"), samples, caller)
        return images, timing  # type: ignore[return-value]

    def ask(self, order: Order, then: Callable[[Generated | Exception], None]) -> None:
        """``generate`` for who waits without a task: ``then`` is called once, perhaps at once, with
        the images or with what ``generate`` would raise."""
        samples = self.samples(order)
        lane: Lane = (order.model.name, "generate")

        def done(request: _Asked) -> None:
            if (error := request.error) is None:
                then(Generated(request.results, samples, request.timing))  # type: ignore[arg-type]
            elif isinstance(error, LeftError):
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
        labels: Iterable[int | None] = repeat(order.label)
        if order.label is None and (classes := order.model.network.num_classes):
            labels = seeds.label_draws(np.array(order.seeds, dtype=np.uint64), classes).tolist()
        return list(map(Sample, order.seeds, labels, repeat(order.truncation)))

    async def generate_behind(self, model: StoredModel, samples: list[Sample]) -> list[Image]:
        """Images for which all other requests go first; each call has the service's own deadline.

        Raises:
            ServiceError: the model failed or hangs, the service stops, or the deadline passed.
        """
        caller = Caller(self.batcher.clock() + self._max_timeout_ms / 1e3)
        lane: Lane = (model.name, "generate")
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
        """The posterior of each image, as ``pictures.read_picture`` makes them."""
        results, timing = await self._submit((model.name, "encode"), images, caller)
        return results, timing  # type: ignore[return-value]

    async def decode(
        self, model: StoredModel, latents: Sequence[Latent], caller: Caller
    ) -> tuple[list[Image], Timing]:
        """The image of each latent (Z,)."""
        results, timing = await self._submit((model.name, "decode"), latents, caller)
        return results, timing  # type: ignore[return-value]

    async def _submit(
        self, lane: Lane, rows: Sequence[Row], caller: Caller, background: bool = False
    ) -> tuple[list[Result], Timing]:
        try:
            return await self.batcher.submit(lane, rows, *caller, background)
        except LeftError:
            raise  # nobody is there to be told
        except Exception as error:
            raise self._told(lane, error) from error

    def _told(self, lane: Lane, error: Exception) -> ServiceError:
        """What the batcher raised, in the caller's words; counted."""
        if isinstance(error, OverloadError):
            self.metrics.refused(lane, refused_for(error))
            return _overloaded(error, self.batcher.waiting)
        if isinstance(error, DeadlineError):
            return DeadlineExceededError(
                "the images were not ready in the time that the request has; X-Timeout-Ms asks "
                f"for up to {self._max_timeout_ms}"
            )
        if isinstance(error, HungError):
            return NotReadyError("a model hangs", retry_after_s=STOPPED_RETRY_S)
        if isinstance(error, ClosedError):
            return NotReadyError("the service is stopping", retry_after_s=STOPPED_RETRY_S)
        if isinstance(error, FloatingPointError):
            self.metrics.failed(lane, "not_finite")
            return NotFiniteError(f"{lane[0]} gave values that are not finite for this request")
        self.metrics.failed(lane, "raised")
        # What the model raised; it may quote weights and inputs, so only its class is told.
        return ModelFailureError(f"{lane[0]} failed to {lane[1]} ({type(error).__name__})")

    def identity(self, model: StoredModel) -> str | None:
        """What the pixels of a seed depend on besides the parameters; None = the device does not
        repeat itself."""
        if self.engine.grades[model.name] != "exact":
            return None
        return f"{model.description.digest} {self.engine.fingerprints[model.name]}"

    @property
    def uptime_s(self) -> float:
        """Seconds since this process began to serve."""
        return time.monotonic() - self._started

    @property
    def on_gpu(self) -> bool:
        """Whether a model runs on one."""
        return any(model.runner.device != "cpu" for model in self.models.values())

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
