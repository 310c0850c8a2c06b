"""Engines over tiny untrained networks, on both backends."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from app.engines.backend import Backend, EngineName, Floats, Labels
from app.engines.engine import Engine
from app.engines.rows import OperationKey, Row, Sample
from app.engines.store import StoredModel, load_store
from training.networks.configs import Operation

NAMES = ("tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1")
GAN: OperationKey = ("tiny-gan-v1", "generate")


def warm_engine(models: dict[str, StoredModel], max_batch: int = 16) -> Engine:
    """An engine that has been probed, and no model failed."""
    engine = Engine(models, max_batch)
    engine.start_thread()
    assert engine.warm_up() == {}
    return engine


@pytest.fixture(scope="module", params=["onnx", "torch"])
def kind(request: pytest.FixtureRequest) -> EngineName:
    name: EngineName = request.param
    return name


@pytest.fixture(scope="module")  # probing it takes seconds on torch
def engine(tiny_store: Path, kind: EngineName) -> Engine:
    engine = warm_engine(load_store(tiny_store, kind)[0])
    assert {model.backend.engine for model in engine.models.values()} == {kind}
    return engine


def samples(count: int, labels: bool = True) -> list[Row]:
    return [Sample(1000 + i, i % 10 if labels else None) for i in range(count)]


class ChangedBackend(Backend):
    """A network whose outputs a test changes."""

    engine: ClassVar[EngineName] = "onnx"
    sizes = (1, 2, 3, 4, 6, 8)

    def __init__(self, honest: Backend, change: Callable[[Floats, Floats], Floats]) -> None:
        self.device, self.threads = "cpu", 1
        self._honest, self._change = honest, change

    def run(self, operation: Operation, batch: Floats, labels: Labels | None) -> tuple[Floats, ...]:
        (pixels,) = self._honest.run(operation, batch, labels)
        return (self._change(batch, pixels),)


def changed_engine(
    store: Path, change: Callable[[Floats, Floats], Floats], max_batch: int | None = 8
) -> Engine:
    """An engine with one network, whose pixels are ``change(z, pixels)``."""
    model = load_store(store)[0]["tiny-gan-v1"]
    backend = ChangedBackend(model.backend, change)
    return Engine({model.name: dataclasses.replace(model, backend=backend)}, max_batch)
