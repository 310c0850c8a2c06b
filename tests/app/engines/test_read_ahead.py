"""What is kept ready is what would have been made, and nobody gets what another has."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray

from app import seeds
from app.engines import engine as engine_module
from app.engines.backend import DeviceLostError
from app.engines.engine import Engine, Lane, Row, Sample
from app.engines.read_ahead import Ahead
from app.engines.store import load_store

AppOf = Callable[[httpx.AsyncClient], FastAPI]
CGAN: Lane = ("tiny-cgan-v1", "generate")
MOST = engine_module._TOGETHER - 1


def image(value: int) -> NDArray[np.uint8]:
    return np.full((2, 2), value, np.uint8)


def test_numbers_drawn_ahead_are_those_of_their_seeds() -> None:
    ahead = Ahead(64)
    given = []
    for turn in range(300):
        # Asked for or not, alone or with others, twice: all the same.
        numbers = [turn] if turn % 7 == 0 else [ahead.seed()]
        numbers += [ahead.seed(), turn] if turn % 11 == 0 else []
        numbers += [ahead.seed(), ahead.seed()] if turn % 5 == 0 else []
        for _ in range(1 + (turn % 13 == 0)):
            drawn = ahead.normals(numbers)
            expected = seeds.normals(np.array(numbers, np.uint64), 64)
            np.testing.assert_array_equal(drawn, expected)
            drawn[:] = 0  # the caller's own
        given += [number for number in numbers if number != turn]
    assert len(set(given)) == len(given) > 250
    assert all(0 <= number <= seeds.MAX_SEED for number in given)


def asked(ahead: Ahead, label: int | None) -> tuple[int | None, list[int]]:
    """What a lone request for an image of a label has made beside it."""
    seed = ahead.seed(label)
    found = ahead.more(seed, 3)
    ahead.normals([seed])
    return found


def test_images_are_made_ahead_only_of_a_label_asked_for_twice_in_a_row() -> None:
    ahead = Ahead(64)
    assert asked(ahead, 7) == (7, [])  # the first; and its seed was not one drawn ahead
    label, numbers = asked(ahead, 7)
    assert label == 7
    assert len(set(numbers)) == 3
    assert asked(ahead, 8) == (8, [])
    assert asked(ahead, 7) == (7, [])
    assert asked(ahead, None) == (None, [])
    assert len(asked(ahead, None)[1]) == 3
    assert ahead.more(5, 3) == (None, [])  # a seed that was asked for


def test_an_image_made_ahead_is_given_once_to_who_asks_for_its_label() -> None:
    ahead = Ahead(64)
    asked(ahead, 7)
    label, numbers = asked(ahead, 7)
    ahead.keep(label, [(number, 7, image(number % 256)) for number in numbers])
    assert ahead.seed(3) not in numbers
    for number in numbers:
        assert ahead.take(number, 3) is None
        assert ahead.seed(7) == number
        found = ahead.take(number, 7)
        assert found
        np.testing.assert_array_equal(found[0], image(number % 256))
        assert found[1] == 4
        assert ahead.take(number, 7) is None
    assert ahead.seed(7) not in numbers


def test_seeds_are_drawn_ahead_until_none_is_left() -> None:
    ahead = Ahead(1024)  # few at a time
    given = [7]
    ahead.normals([7])
    for _ in range(20):
        given.append(ahead.seed(1))
        given += ahead.more(given[-1], 3)[1]
        ahead.normals(given[-1:])
    assert len(set(given)) == len(given)


def made(store: Path, kind: Literal["onnx", "torch"]) -> Engine:
    engine = Engine(load_store(store, kind)[0], 16)
    engine.start_thread()
    assert engine.warm_up() == {}
    engine._beside.add(CGAN)  # whatever a pass costs on a busy machine
    return engine


@pytest.mark.parametrize("kind", ["onnx", "torch"])
@pytest.mark.parametrize("label", [7, None])
def test_a_seed_has_the_same_bytes_whether_made_ahead_or_not(
    tiny_store: Path, kind: Literal["onnx", "torch"], label: int | None
) -> None:
    engine, ready = made(tiny_store, kind), 0
    name = CGAN[0]
    for _ in range(40):
        seed = engine.seed(name, label)
        (sample,) = engine_module.samples_of([seed], label, 10)
        if found := engine.ready(name, sample):
            given, ready = found[0], ready + 1
        else:
            (result,) = engine.run(CGAN, [sample])
            assert isinstance(result, np.ndarray)
            given = result
        again = engine.run(CGAN, [sample, Sample(1, 1)])[0]
        np.testing.assert_array_equal(given, again)
    assert ready == 29  # three of four, after the first


def test_whose_seed_is_his_own_or_truncated_has_none_made_beside_it(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, sizes = made(tiny_store, "onnx"), []
    run = engine._run

    def counted(lane: Lane, rows: list[Row]) -> object:
        sizes.append(len(rows))
        return run(lane, rows)

    monkeypatch.setattr(engine, "_run", counted)
    for seed in range(5):
        engine.run(CGAN, [Sample(seed, 7)])
    for _ in range(5):
        engine.run(CGAN, [Sample(engine.seed(CGAN[0], 7), 7, 0.5)])
    assert sizes == [1] * 10
    engine.run(CGAN, [Sample(engine.seed(CGAN[0], 7), 7)])
    assert sizes[-1] == 4


@pytest.mark.parametrize("lost", [False, True])
def test_what_was_not_asked_for_fails_nobody(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    engine, run = made(tiny_store, "onnx"), Engine._run

    def fails_with_others(self: Engine, lane: Lane, rows: list[Row]) -> object:
        if len(rows) > 1:
            raise DeviceLostError("gone") if lost else ValueError("no")
        return run(self, lane, rows)

    monkeypatch.setattr(Engine, "_run", fails_with_others)
    engine.seed(CGAN[0], 7)
    engine.run(CGAN, [Sample(3, 7)])  # seeds are drawn
    sample = Sample(engine.seed(CGAN[0], 7), 7)
    if lost:
        with pytest.raises(DeviceLostError):
            engine.run(CGAN, [sample])
    else:
        assert isinstance(engine.run(CGAN, [sample])[0], np.ndarray)


def test_values_that_are_not_finite_are_not_kept(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, run = made(tiny_store, "onnx"), Engine._run

    def bad(self: Engine, lane: Lane, rows: list[Row]) -> list[object]:
        found = run(self, lane, rows)
        return [found[0], *(FloatingPointError("nan") for _ in found[1:])]

    monkeypatch.setattr(Engine, "_run", bad)
    for _ in range(8):
        sample = Sample(engine.seed(CGAN[0], 7), 7)
        assert engine.ready(CGAN[0], sample) is None
        assert isinstance(engine.run(CGAN, [sample])[0], np.ndarray)


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("label=7", {}),
        ("", {}),
        ("model=tiny-gan-v1", {}),
        ("label=7", {"cookie": "a=b"}),  # the full way
        ("label=7&format=json", {}),
        ("label=7&scale=2&metadata=mark", {}),
    ],
)
async def test_images_made_ahead_are_answered_and_counted_like_all(
    wire: httpx.AsyncClient, app_of: AppOf, query: str, headers: dict[str, str]
) -> None:
    service = app_of(wire).state.service
    lane: Lane = ("tiny-gan-v1", "generate") if "gan-v1" in query else CGAN
    service.engine._beside.add(lane)  # whatever a pass costs on a busy machine
    path, told = f"/generate?{query}", []
    for _ in range(10):
        answer = await wire.get(path, headers=headers)
        assert answer.status_code == 200
        told.append(answer.headers["server-timing"])
        again = await wire.get(answer.headers["content-location"])
        assert again.content == answer.content
    ahead = [timing for timing in told if 'desc="1 of 4", compute;dur=0.00' in timing]
    assert len(ahead) == 6
    metrics = (await wire.get("/metrics")).text
    of_lane = f'{{model="{lane[0]}",operation="generate"}}'
    assert f"genserve_images_total{of_lane} 20.0" in metrics
    assert f"genserve_images_ahead_total{of_lane} 6.0" in metrics
    assert f"genserve_forward_passes_total{of_lane} 14.0" in metrics


async def test_when_a_model_hangs_no_image_is_given_any_more(
    wire: httpx.AsyncClient, app_of: AppOf
) -> None:
    service = app_of(wire).state.service
    service.engine._beside.add(CGAN)
    for _ in range(3):
        assert (await wire.get("/generate?label=7")).status_code == 200
    service.batcher.hung = True
    assert (await wire.get("/generate?label=7")).status_code == 503
    service.batcher.hung = False
    assert (await wire.get("/generate?label=7")).status_code == 200


def test_a_seed_that_comes_twice_in_a_request_has_its_numbers_twice() -> None:
    ahead = Ahead(64)
    ahead.normals([ahead.seed()])
    seed = ahead.seed()
    drawn = ahead.normals([seed, seed])
    np.testing.assert_array_equal(drawn, seeds.normals(np.array([seed, seed], np.uint64), 64))
