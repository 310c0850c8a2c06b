"""What the service does, without HTTP: choose a model, check the request, run it in the batcher."""

import asyncio
import difflib
import math
import secrets
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app import seeds
from app.batching import Batcher, ClosedError, QueueFullError, Timing
from app.engine import Engine, Image, Lane, Latent, Posterior, Result, Row, Sample
from app.errors import (
    InvalidParameterError,
    ModelFailureError,
    NotReadyError,
    OverloadedError,
    ServiceError,
    StartupError,
    UnknownModelError,
    WrongModelError,
    shown,
)
from app.metrics import Metrics
from app.settings import Settings
from app.store import StoredModel

READY_CACHE_S = 1.0
CANARY_S = 5


@dataclass(frozen=True)
class Generated:
    """Images with what made them; one seed and label an image."""

    model: StoredModel
    images: list[Image]
    samples: list[Sample]
    timing: Timing

    def label_name(self, index: int) -> str | None:
        """The class name of one image, None for an unconditional model."""
        label = self.samples[index].label
        return None if label is None else self.model.description.labels[label]


def _named(model: StoredModel, text: str) -> int | None:
    """The index of the class of this name, its accents written joined or apart."""
    names = model.description.labels
    for spelt in (text, unicodedata.normalize("NFC", text)):
        if spelt in names:
            return names.index(spelt)
    return None


def _label_index(model: StoredModel, text: str) -> int | None:
    """The index that a class name, else an index in plain digits, stands for; None = neither."""
    index = _named(model, text)
    plain = text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")
    if index is None and plain and len(text) <= 6 and int(text) < model.network.num_classes:
        index = int(text)
    return index


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
        encoders = [n for n in self.models if "encode" in engine.operations(n)]
        self.default_encoder = encoders[0] if encoders else None
        self._ready_lock = asyncio.Lock()
        self._ready_at = -math.inf
        self._not_ready: dict[str, str] = {}

    def model(self, name: str) -> StoredModel:
        """A loaded model.

        Raises:
            UnknownModelError: there is none of this name.
        """
        if name in self.models:
            return self.models[name]
        near = difflib.get_close_matches(name[:64], self.models, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        available = ", ".join(sorted(self.models))
        raise UnknownModelError(f"unknown model {shown(name)}; available: {available}{hint}")

    def encoder(self, name: str | None) -> StoredModel:
        """The model that encodes and decodes: the one asked for, else the first that can.

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
        if _label_index(self.models[self.default_conditional], label) is None:
            for name in sorted(self.models):
                if _named(self.models[name], label) is not None:
                    return name
        return self.default_conditional

    def _label(self, model: StoredModel, text: str) -> int:
        """A class index or class name to the index."""
        names = model.description.labels
        if not names:
            able = [n for n, m in self.models.items() if m.description.labels]
            raise WrongModelError(
                f"{model.name} is unconditional and takes no label; "
                f"models that do: {', '.join(able) or 'none'}",
                errors=[{"pointer": "?label", "detail": "not for this model"}],
            )
        index = _label_index(model, text)
        if index is not None:
            return index
        allowed = f"0 to {len(names) - 1}"
        if names != tuple(str(i) for i in range(len(names))):
            allowed += f", or a name: {', '.join(names[:20])}{'…' if len(names) > 20 else ''}"
            if near := difflib.get_close_matches(text.casefold(), names, 1):
                allowed += f"; did you mean {near[0]}?"
        raise InvalidParameterError(
            f"label is {shown(text)}; {model.name} knows {allowed}",
            errors=[{"pointer": "?label", "detail": f"allowed: {allowed}"}],
        )

    async def generate(
        self, name: str | None, label: str | None, count: int, seed: int | None
    ) -> Generated:
        """``count`` images; image i has seed ``seed + i``.

        Args:
            name: Model; None = the default, or one that knows the label if there is one.
            label: Class index or name; None on a conditional model = one drawn from each seed.
            count: Within the configured maximum.
            seed: 0 to ``seeds.MAX_SEED``; None = drawn here.
        """
        if name is None:
            name = self.default if label is None else self._model_for(label)
        model = self.model(name)
        index = None if label is None else self._label(model, label)
        if seed is None:
            seed = secrets.randbelow(seeds.MAX_SEED + 2 - count)
        self.check_seeds(seed, count)
        numbers = range(seed, seed + count)
        classes = model.network.num_classes
        labels: Sequence[int | None]
        if index is not None or not classes:
            labels = [index] * count
        else:
            labels = seeds.label_draws(np.array(numbers, dtype=np.uint64), classes).tolist()
        samples = [Sample(*pair) for pair in zip(numbers, labels, strict=True)]
        images, timing = await self._submit((model.name, "generate"), samples)
        return Generated(model, images, samples, timing)  # type: ignore[arg-type]

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
        self, model: StoredModel, images: Sequence[Image]
    ) -> tuple[list[Posterior], Timing]:
        """The posterior of each image, as ``images.read_picture`` makes them."""
        results, timing = await self._submit((model.name, "encode"), images)
        return results, timing  # type: ignore[return-value]

    async def decode(
        self, model: StoredModel, latents: Sequence[Latent]
    ) -> tuple[list[Image], Timing]:
        """The image of each latent (Z,)."""
        results, timing = await self._submit((model.name, "decode"), latents)
        return results, timing  # type: ignore[return-value]

    async def _submit(self, lane: Lane, rows: Sequence[Row]) -> tuple[list[Result], Timing]:
        try:
            return await self.batcher.submit(lane, rows)
        except QueueFullError as error:
            raise OverloadedError(
                f"{error.waiting} images are waiting and {len(rows)} more do not fit into "
                f"{error.limit}; try again in {error.retry_after_s} s",
                retry_after_s=error.retry_after_s,
            ) from error
        except ClosedError as error:
            raise NotReadyError("the service is stopping", retry_after_s=5) from error
        except Exception as error:
            # What the model raised; it may quote weights and inputs, so only its class is told.
            raise ModelFailureError(
                f"{lane[0]} failed to {lane[1]} ({type(error).__name__})"
            ) from error

    async def not_ready(self) -> dict[str, str]:
        """Model -> reason for each that does not answer a canary sent through the real queue.

        One round at a time, and its result is kept for a second: probes cost next to nothing.
        """
        async with self._ready_lock:
            if time.monotonic() - self._ready_at >= READY_CACHE_S:
                found = await asyncio.gather(*(self._canary(name) for name in self.models))
                self._not_ready = {name: reason for name, reason in found if reason}
                self._ready_at = time.monotonic()
            return self._not_ready

    async def _canary(self, name: str) -> tuple[str, str | None]:
        try:
            async with asyncio.timeout(CANARY_S):
                await self.generate(name, None, 1, 0)
        except TimeoutError:
            return name, f"no answer within {CANARY_S} s"
        except ServiceError as error:
            return name, error.detail
        return name, None
