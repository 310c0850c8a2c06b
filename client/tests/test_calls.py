"""Requests as they are built, and the methods made from them."""

import base64
import inspect
import json
from collections.abc import Coroutine
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import genserve
from genserve import AsyncClient, Client, Dataset, Images, calls, download
from genserve.inputs import picture_bytes


def test_only_what_is_given_is_sent() -> None:
    request = calls.generate(label=3, seeds=[9, 5], truncation=0.1 + 0.2, timeout_ms=20)
    assert (request.method, request.path, request.body) == ("GET", "/generate", None)
    query = {"label": "3", "seeds": "9,5", "truncation": "0.3", "format": "json"}
    assert request.query == query
    assert request.headers == {"x-timeout-ms": "20"}
    film = request.file("webp", layout="animation", frame_ms=50)
    wanted = {"format": "webp", "layout": "animation", "frame_ms": "50"}
    assert film.query == query | wanted
    assert calls.model("a?b/c@1").path == "/models/a%3Fb%2Fc@1"


def test_points_of_the_latent_space_are_seeds_latents_or_pictures() -> None:
    seeds = calls.interpolate(3, np.int64(17))  # type: ignore[arg-type]
    assert (seeds.method, seeds.query["seeds"]) == ("GET", "3,17")
    picture = np.zeros((4, 4), dtype=np.uint8)
    mixed = calls.interpolate(3, [0.0, 1.0], np.array([2.0, -1.0]), picture)
    *others, image = json.loads(mixed.body or b"")["ends"]
    assert others == [{"seed": 3}, {"z": [0.0, 1.0]}, {"z": [2.0, -1.0]}]
    assert base64.b64decode(image["image"]).startswith(b"\x89PNG")
    assert calls.traverse(4).query["seed"] == "4"
    assert "seed" not in calls.traverse().query
    with pytest.raises(ValueError, match="True is not allowed here; allowed: a seed, a latent"):
        calls.interpolate(True, 3)
    with pytest.raises(ValueError, match="is not a picture"):
        calls.interpolate(3, np.zeros((2, 2)))


def test_a_colour_array_is_a_picture_and_other_arrays_are_refused() -> None:
    colour = np.zeros((4, 6, 3), dtype=np.uint8)
    (data,) = json.loads(calls.encode(colour).body or b"")["images"]
    with PillowImage.open(BytesIO(base64.b64decode(data))) as picture:
        assert (picture.mode, picture.size) == ("RGB", (6, 4))
    for wrong in (np.zeros((4, 6)), np.zeros((2, 4, 6, 2), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(ValueError, match="is not a picture; allowed"):
            calls.encode(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV", "RGBX"])
def test_a_picture_in_a_mode_that_png_lacks_is_sent_as_rgb(mode: str) -> None:
    red = PillowImage.new("RGB", (3, 2), (255, 0, 0))
    opened = red.convert("RGB").convert("RGBX") if mode == "RGBX" else PillowImage.new(mode, (3, 2))
    with PillowImage.open(BytesIO(picture_bytes(opened))) as sent:
        assert (sent.format, sent.mode, sent.size) == ("PNG", "RGB", (3, 2))
        assert sent.tobytes() == opened.convert("RGB").tobytes()


def test_verify_takes_files_in_their_own_type_and_no_opened_image(tmp_path: Path) -> None:
    for name, media_type in (("PNG", "image/png"), ("WebP", "image/webp"), ("JPEG", "image/jpeg")):
        path = tmp_path / name
        PillowImage.new("L", (28, 28)).save(path, name)
        request = calls.verify(path)
        assert (request.body, request.headers["content-type"]) == (path.read_bytes(), media_type)
    with pytest.raises(ValueError, match="lost its recipe"):
        calls.verify(PillowImage.new("L", (28, 28)))  # type: ignore[arg-type]


def test_both_clients_have_a_method_per_call_with_its_arguments_and_docstring() -> None:
    functions = {
        name: function
        for name, function in inspect.getmembers(calls, inspect.isfunction)
        if function.__module__ == calls.__name__ and not name.startswith("_")
    } | {"dataset": download.dataset}
    assert {"generate", "encode", "decode", "verify", "models"} <= set(functions)
    for kind in (Client, AsyncClient):
        for name, function in functions.items():
            method = getattr(kind("http://127.0.0.1:1"), name)
            assert list(inspect.signature(method).parameters.values()) == list(
                inspect.signature(function).parameters.values()
            )
            assert method.__doc__ == function.__doc__
            assert inspect.iscoroutinefunction(method) == (kind is AsyncClient)


def test_the_public_names_are_there_and_those_of_version_0_1_too() -> None:
    for name in genserve.__all__:
        assert getattr(genserve, name) is not None
    assert genserve.ask is genserve.calls
    assert genserve.AnswerError is genserve.InvalidResponseError


if TYPE_CHECKING:  # mypy sees arguments and results of the methods, which are made from functions

    def _typed(client: Client, other: AsyncClient) -> None:
        images: Images = client.generate(label=7)
        number: int = client.generate(label=7)  # type: ignore[assignment]
        client.generate(lable=7)  # type: ignore[call-arg]
        dataset: Dataset = client.dataset("x.zip", n=5)
        coroutine: Coroutine[Any, Any, Images] = other.generate(label=7)
        del images, number, dataset, coroutine
