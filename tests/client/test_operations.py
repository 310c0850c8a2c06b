"""The client against a real service: every method, both ways."""

import asyncio
import base64
import hashlib
import inspect
import json
import threading
from collections.abc import Coroutine
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from genserve import (
    AsyncClient,
    Client,
    Dataset,
    Images,
    ProblemError,
    calls,
    download,
    results,
)
from genserve.inputs import picture_bytes
from genserve.request import ImageFormat
from PIL import Image as PillowImage

from app.rendering import schemas
from tests.client.conftest import Asks
from tests.conftest import Server


def get(server: Server, address: str) -> bytes:
    answer = httpx.get(server.url + address)
    assert answer.status_code == 200, answer.text
    return answer.content


def test_generate_gives_images_arrays_and_seeds(served: Server, asks: Asks) -> None:
    made = asks(served.url, "generate", label=7, n=3, seed=42)
    assert isinstance(made, Images)
    assert (made.model, len(made)) == ("tiny-cgan-v1", 3)
    assert made.seeds == [42, 43, 44]
    assert made.labels == ["7", "7", "7"]
    array = np.load(BytesIO(get(served, "/generate?label=7&n=3&seed=42&format=npy")))
    np.testing.assert_array_equal(made.array, array)
    assert made.array.shape == (3, 28, 28)
    for index, image in enumerate(made):
        np.testing.assert_array_equal(np.asarray(image.pil), array[index])
        assert image.png == get(served, str(image.permalink))
        assert hashlib.sha256(image.png).hexdigest() == image.digest
        assert image._repr_png_() == image.png
    assert [picture.size for picture in made.pil] == [(28, 28)] * 3
    assert made[1:] == (made[1], made[2])


def test_every_parameter_of_generate_reaches_the_service(served: Server, asks: Asks) -> None:
    made = asks(
        *(served.url, "generate"),
        model="tiny-cgan-v1",
        label=3,
        seeds=[9, 5],
        truncation=0.1 + 0.2,
        scale=2,
        metadata="none",
        timeout_ms=20_000,
    )
    assert made.seeds == [9, 5]
    query = "model=tiny-cgan-v1&label=3&truncation=0.3&scale=2&metadata=none"
    assert made[0].png == get(served, f"/generate?{query}&seed=9")
    assert made.array.shape == (2, 56, 56)
    assert asks(served.url, "generate", seeds="0-2,7").seeds == [0, 1, 2, 7]
    assert len({image.seed for image in asks(served.url, "generate", n=4)}) == 4


def test_a_file_is_as_the_service_makes_it(served: Server, tmp_path: Path) -> None:
    with Client(served.url) as client:
        forms: tuple[ImageFormat, ...] = ("png", "webp", "npy", "zip")
        for form in forms:
            call = calls.generate(label=7, n=5, seed=1, scale=3)
            file = client.send(call.file(form, layout="strip"))
            query = f"label=7&n=5&seed=1&scale=3&layout=strip&format={form}"
            assert file.body == get(served, f"/generate?{query}")
            assert get(served, str(file.permalink)) == file.body
            assert (file.model, file.seed) == ("tiny-cgan-v1", 1)
        film = client.send(calls.interpolate(3, 17, steps=4).file("webp", layout="animation"))
        with PillowImage.open(BytesIO(film.body)) as picture:
            assert getattr(picture, "n_frames", 1) == 4
        file.save(tmp_path / "five.zip")
        assert (tmp_path / "five.zip").read_bytes() == file.body
        assert client.send(calls.models().raw()).media == "application/json"


def test_pictures_go_out_in_every_form_and_come_back_alike(
    served: Server, asks: Asks, tmp_path: Path
) -> None:
    image = asks(served.url, "generate", label=7, seed=1)[0]
    path = tmp_path / "seven.png"
    path.write_bytes(image.png)
    forms = (image.png, path, str(path), image.pil, image.array)
    found = asks(served.url, "encode", *forms)
    assert found.model == "tiny-vae-v1"
    assert found.mu.shape == found.logvar.shape == found.z.shape == (5, 3)
    np.testing.assert_array_equal(found.mu, found.mu[:1].repeat(5, 0))
    np.testing.assert_array_equal(found.z, found.mu)
    drawn = asks(served.url, "encode", image.png, seed=3, model="tiny-vae-v1")
    assert drawn.seed == 3
    assert (drawn.z != drawn.mu).any()

    back = asks(served.url, "decode", found.mu[:2], scale=2)
    assert back.array.shape == (2, 56, 56)
    one = asks(served.url, "decode", found.mu[0].tolist())
    again = asks(served.url, "reconstruct", image.pil)
    np.testing.assert_array_equal(one.array, again.array)
    assert one.seeds == [None]


def test_reconstructions_show_the_original_and_the_error(served: Server, asks: Asks) -> None:
    images = asks(served.url, "generate", label=7, n=2, seed=1)
    shown = asks(served.url, "reconstruct", *images.pil, show="error")
    assert shown.model == "tiny-vae-v1"
    alone = asks(served.url, "reconstruct", *images.pil)
    for index, image in enumerate(alone):
        difference = (image.array / 255.0 - images.array[index] / 255.0) ** 2
        assert shown[index].error == pytest.approx(difference.mean())


def test_a_path_goes_from_end_to_end(served: Server, asks: Asks) -> None:
    way = asks(served.url, "interpolate", 3, 17, 5, label=7, steps=9)
    assert [image.at for image in way] == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    for index, seed in ((0, 3), (4, 17), (8, 5)):
        image = asks(served.url, "generate", label=7, seed=seed)
        np.testing.assert_array_equal(way[index].array, image.array[0])
    other = asks(served.url, "interpolate", 3, 17, label=7, steps=5, method="lerp", truncation=0.5)
    query = "/interpolate?seeds=3,17&label=7&steps=5&method=lerp&truncation=0.5&format=npy"
    np.testing.assert_array_equal(other.array, np.load(BytesIO(get(served, query))))

    picture = asks(served.url, "generate", label=7, seed=1)[0].pil
    (mu,) = asks(served.url, "encode", picture).mu
    given = {"steps": 2, "model": "tiny-vae-v1"}
    mixed = asks(served.url, "interpolate", picture, [0.0, 1.0, -1.0], **given)
    ends = asks(served.url, "decode", [mu, [0.0, 1.0, -1.0]])
    np.testing.assert_array_equal(mixed.array, ends.array)
    same = asks(served.url, "interpolate", mu, np.array([0.0, 1.0, -1.0]), **given)
    np.testing.assert_array_equal(same.array, ends.array)
    with pytest.raises(ValueError, match="True is not allowed"):
        calls.interpolate(True, 3)
    with pytest.raises(ValueError, match="is not a picture"):
        calls.interpolate(3, np.zeros((2, 2)))


def test_a_traversal_goes_along_single_axes(served: Server, asks: Asks) -> None:
    found = asks(
        served.url, "traverse", 4, model="tiny-vae-v1", axes=[2, 0], low=-1, high=1, steps=3
    )
    assert [image.axis for image in found] == [2, 2, 2, 0, 0, 0]
    assert [image.value for image in found] == [-1, 0, 1, -1, 0, 1]
    z = [0.5, 0.0, -0.5]
    found = asks(served.url, "traverse", z, axes="1", low=-0.5, high=0.5, steps=3)
    places = asks(served.url, "decode", [[0.5, value, -0.5] for value in (-0.5, 0, 0.5)])
    np.testing.assert_array_equal(found.array, places.array)
    picture = asks(served.url, "generate", label=7, seed=1)[0].pil
    assert len(asks(served.url, "traverse", picture, axes="0,1", steps=4)) == 8
    assert asks(served.url, "traverse", label=7, axes="0", steps=2).model == "tiny-cgan-v1"
    halved = asks(served.url, "traverse", 4, label=7, axes="0", steps=2, truncation=0.5)
    query = "/traverse?seed=4&label=7&axes=0&steps=2&truncation=0.5&format=npy"
    np.testing.assert_array_equal(halved.array, np.load(BytesIO(get(served, query))))


def test_a_colour_array_is_a_picture_and_others_are_refused_here() -> None:
    colour = np.zeros((4, 6, 3), dtype=np.uint8)
    (data,) = json.loads(calls.encode(colour).body or b"")["images"]
    with PillowImage.open(BytesIO(base64.b64decode(data))) as picture:
        assert (picture.mode, picture.size) == ("RGB", (6, 4))
    for wrong in (np.zeros((4, 6)), np.zeros((2, 4, 6), dtype=np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(ValueError, match="is not a picture; allowed"):
            calls.encode(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lost its recipe"):
        calls.verify(PillowImage.new("L", (28, 28)))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV", "RGBX"])
def test_an_opened_picture_that_no_png_can_hold_goes_out_as_rgb(mode: str) -> None:
    red = PillowImage.new("RGB", (3, 2), (255, 0, 0))
    opened = red.convert("RGB").convert("RGBX") if mode == "RGBX" else PillowImage.new(mode, (3, 2))
    with PillowImage.open(BytesIO(picture_bytes(opened))) as sent:
        assert (sent.format, sent.mode, sent.size) == ("PNG", "RGB", (3, 2))
        assert sent.tobytes() == opened.convert("RGB").tobytes()


def test_verify_tells_same_from_different(served: Server, asks: Asks) -> None:
    for form in ("png", "webp"):
        body = get(served, f"/generate?label=7&seed=1&format={form}")
        assert asks(served.url, "verify", body)["verdict"] == "same"
    other = asks(served.url, "generate", label=7, seed=2)[0].png
    recipe = get(served, "/generate?label=7&seed=1")
    pixels = len(recipe) - recipe.index(b"IDAT")
    forged = recipe[:-pixels] + other[-pixels:]  # the recipe of one, the pixels of the other
    found = asks(served.url, "verify", forged)
    assert found["verdict"] == "different"
    assert found["recipe"]["seeds"] == "1"
    assert found["different_pixels"] > 0


def test_models_and_status(served: Server, asks: Asks) -> None:
    found = asks(served.url, "models")
    assert [card["name"] for card in found["models"]] == [
        *("tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1"),
    ]
    card = asks(served.url, "model", found["default"])
    assert card in found["models"]
    assert asks(served.url, "model", f"{card['name']}@{card['digest'][:12]}") == card
    status = asks(served.url, "status")
    assert status["processes"] == 1
    assert set(status["models"]) == {card["name"] for card in found["models"]}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (results.ModelCard, schemas.ModelCard),
        (results.ModelList, schemas.ModelList),
        (results.Recipe, schemas.RecipeBody),
        (results.Verification, schemas.Verification),
        (results.Status, schemas.Status),
    ],
)
def test_the_dictionaries_have_the_fields_of_the_services_schemas(ours: Any, theirs: Any) -> None:
    assert set(ours.__annotations__) == set(theirs.model_fields)


def test_both_clients_have_every_operation_with_its_arguments_and_words() -> None:
    operations = {
        name: made
        for name, made in inspect.getmembers(calls, inspect.isfunction)
        if made.__module__ == calls.__name__ and not name.startswith("_")
    } | {"dataset": download.dataset}
    assert {"generate", "encode", "decode", "verify", "models"} <= set(operations)
    for kind in (Client, AsyncClient):
        for name, made in operations.items():
            method = getattr(kind("http://127.0.0.1:1"), name)
            assert list(inspect.signature(method).parameters.values()) == list(
                inspect.signature(made).parameters.values()
            )
            assert method.__doc__ == made.__doc__
            assert inspect.iscoroutinefunction(method) == (kind is AsyncClient)


def test_a_problem_carries_what_the_service_says(served: Server, asks: Asks) -> None:
    with pytest.raises(ProblemError) as caught:
        asks(served.url, "generate", label=10)
    problem = caught.value
    assert (problem.status, problem.type) == (422, "/problems/invalid-parameter")
    assert problem.title == "A parameter is not acceptable"
    assert "0 to 9" in problem.detail
    assert problem.errors[0]["pointer"] == "?label"
    assert problem.request_id
    assert problem.retry_after is None
    assert problem.request_id in str(problem)
    assert problem.detail in str(problem)
    with pytest.raises(ProblemError, match="unknown model"):
        asks(served.url, "model", "a?b")


def test_a_client_is_of_use_to_several_threads(served: Server) -> None:
    found: dict[int, Any] = {}
    with Client(served.url) as client:

        def work(seed: int) -> None:
            found[seed] = client.generate(label=7, seed=seed).array

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for seed, array in found.items():
            np.testing.assert_array_equal(array, client.generate(label=7, seed=seed).array)
    assert len(found) == 8


async def test_many_calls_of_one_async_client_run_at_the_same_time(served: Server) -> None:
    async with AsyncClient(served.url) as client:
        tasks = [asyncio.create_task(client.generate(label=7, seed=seed)) for seed in range(8)]
        made = await asyncio.gather(*tasks)
    assert [images.seeds for images in made] == [[seed] for seed in range(8)]


if TYPE_CHECKING:  # mypy finds arguments and results of the methods, which are made from functions

    def _typed(client: Client, other: AsyncClient) -> None:
        images: Images = client.generate(label=7)
        number: int = client.generate(label=7)  # type: ignore[assignment]
        client.generate(lable=7)  # type: ignore[call-arg]
        dataset: Dataset = client.dataset("x.zip", n=5)
        coroutine: Coroutine[Any, Any, Images] = other.generate(label=7)
        del images, number, dataset, coroutine
