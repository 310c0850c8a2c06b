"""The client against a real service: every method, both ways."""

import asyncio
import hashlib
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage

from app.rendering import schemas
from genserve import (
    AsyncClient,
    Client,
    Images,
    ProblemError,
    calls,
    results,
)
from genserve.request import ImageFormat
from tests.client.conftest import Call
from tests.conftest import Server


def get(server: Server, address: str) -> bytes:
    answer = httpx.get(server.url + address)
    assert answer.status_code == 200, answer.text
    return answer.content


def test_generate_returns_images_arrays_and_seeds(served: Server, call: Call) -> None:
    images = call(served.url, "generate", label=7, n=3, seed=42)
    assert isinstance(images, Images)
    assert (images.model, len(images)) == ("tiny-cgan-v1", 3)
    assert images.seeds == [42, 43, 44]
    assert images.labels == ["7", "7", "7"]
    array = np.load(BytesIO(get(served, "/generate?label=7&n=3&seed=42&format=npy")))
    np.testing.assert_array_equal(images.array, array)
    assert images.array.shape == (3, 28, 28)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(np.asarray(image.pil), array[index])
        assert image.png == get(served, str(image.permalink))
        assert hashlib.sha256(image.png).hexdigest() == image.digest
        assert image._repr_png_() == image.png
    assert [picture.size for picture in images.pil] == [(28, 28)] * 3
    assert images[1:] == (images[1], images[2])


def test_every_parameter_of_generate_reaches_the_service(served: Server, call: Call) -> None:
    images = call(
        *(served.url, "generate"),
        model="tiny-cgan-v1",
        label=3,
        seeds=[9, 5],
        truncation=0.1 + 0.2,
        scale=2,
        metadata="none",
        timeout_ms=20_000,
    )
    assert images.seeds == [9, 5]
    query = "model=tiny-cgan-v1&label=3&truncation=0.3&scale=2&metadata=none"
    assert images[0].png == get(served, f"/generate?{query}&seed=9")
    assert images.array.shape == (2, 56, 56)
    assert call(served.url, "generate", seeds="0-2,7").seeds == [0, 1, 2, 7]
    assert len({image.seed for image in call(served.url, "generate", n=4)}) == 4


def test_a_file_is_as_the_service_returns_it(served: Server, tmp_path: Path) -> None:
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


def test_a_picture_gives_the_same_latents_in_every_form_of_input(
    served: Server, call: Call, tmp_path: Path
) -> None:
    image = call(served.url, "generate", label=7, seed=1)[0]
    path = tmp_path / "seven.png"
    path.write_bytes(image.png)
    forms = (image.png, path, str(path), image.pil, image.array)
    posteriors = call(served.url, "encode", *forms)
    assert posteriors.model == "tiny-vae-v1"
    assert posteriors.mu.shape == posteriors.logvar.shape == posteriors.z.shape == (5, 3)
    np.testing.assert_array_equal(posteriors.mu, posteriors.mu[:1].repeat(5, 0))
    np.testing.assert_array_equal(posteriors.z, posteriors.mu)
    drawn = call(served.url, "encode", image.png, seed=3, model="tiny-vae-v1")
    assert drawn.seed == 3
    assert (drawn.z != drawn.mu).any()

    back = call(served.url, "decode", posteriors.mu[:2], scale=2)
    assert back.array.shape == (2, 56, 56)
    one = call(served.url, "decode", posteriors.mu[0].tolist())
    again = call(served.url, "reconstruct", image.pil)
    np.testing.assert_array_equal(one.array, again.array)
    assert one.seeds == [None]


def test_reconstructions_show_the_original_and_the_error(served: Server, call: Call) -> None:
    images = call(served.url, "generate", label=7, n=2, seed=1)
    shown = call(served.url, "reconstruct", *images.pil, show="error")
    assert shown.model == "tiny-vae-v1"
    alone = call(served.url, "reconstruct", *images.pil)
    for index, image in enumerate(alone):
        difference = (image.array / 255.0 - images.array[index] / 255.0) ** 2
        assert shown[index].error == pytest.approx(difference.mean())


def test_an_interpolation_starts_and_ends_at_its_points(served: Server, call: Call) -> None:
    way = call(served.url, "interpolate", 3, 17, 5, label=7, steps=9)
    assert [image.at for image in way] == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    for index, seed in ((0, 3), (4, 17), (8, 5)):
        image = call(served.url, "generate", label=7, seed=seed)
        np.testing.assert_array_equal(way[index].array, image.array[0])
    other = call(served.url, "interpolate", 3, 17, label=7, steps=5, method="lerp", truncation=0.5)
    query = "/interpolate?seeds=3,17&label=7&steps=5&method=lerp&truncation=0.5&format=npy"
    np.testing.assert_array_equal(other.array, np.load(BytesIO(get(served, query))))

    picture = call(served.url, "generate", label=7, seed=1)[0].pil
    (mu,) = call(served.url, "encode", picture).mu
    given = {"steps": 2, "model": "tiny-vae-v1"}
    mixed = call(served.url, "interpolate", picture, [0.0, 1.0, -1.0], **given)
    ends = call(served.url, "decode", [mu, [0.0, 1.0, -1.0]])
    np.testing.assert_array_equal(mixed.array, ends.array)
    same = call(served.url, "interpolate", mu, np.array([0.0, 1.0, -1.0]), **given)
    np.testing.assert_array_equal(same.array, ends.array)


def test_a_traversal_varies_one_axis_at_a_time(served: Server, call: Call) -> None:
    images = call(
        served.url, "traverse", 4, model="tiny-vae-v1", axes=[2, 0], low=-1, high=1, steps=3
    )
    assert [image.axis for image in images] == [2, 2, 2, 0, 0, 0]
    assert [image.value for image in images] == [-1, 0, 1, -1, 0, 1]
    z = [0.5, 0.0, -0.5]
    images = call(served.url, "traverse", z, axes="1", low=-0.5, high=0.5, steps=3)
    places = call(served.url, "decode", [[0.5, value, -0.5] for value in (-0.5, 0, 0.5)])
    np.testing.assert_array_equal(images.array, places.array)
    picture = call(served.url, "generate", label=7, seed=1)[0].pil
    assert len(call(served.url, "traverse", picture, axes="0,1", steps=4)) == 8
    assert call(served.url, "traverse", label=7, axes="0", steps=2).model == "tiny-cgan-v1"
    halved = call(served.url, "traverse", 4, label=7, axes="0", steps=2, truncation=0.5)
    query = "/traverse?seed=4&label=7&axes=0&steps=2&truncation=0.5&format=npy"
    np.testing.assert_array_equal(halved.array, np.load(BytesIO(get(served, query))))


def test_verify_finds_a_picture_that_does_not_match_its_recipe(served: Server, call: Call) -> None:
    for form in ("png", "webp"):
        body = get(served, f"/generate?label=7&seed=1&format={form}")
        assert call(served.url, "verify", body)["verdict"] == "same"
    other = call(served.url, "generate", label=7, seed=2)[0].png
    recipe = get(served, "/generate?label=7&seed=1")
    pixels = len(recipe) - recipe.index(b"IDAT")
    forged = recipe[:-pixels] + other[-pixels:]  # the recipe of one, the pixels of the other
    verification = call(served.url, "verify", forged)
    assert verification["verdict"] == "different"
    assert verification["recipe"]["seeds"] == "1"
    assert verification["different_pixels"] > 0


def test_models_and_status(served: Server, call: Call) -> None:
    models = call(served.url, "models")
    assert [card["name"] for card in models["models"]] == [
        *("tiny-cgan-v1", "tiny-gan-v1", "tiny-vae-v1"),
    ]
    card = call(served.url, "model", models["default"])
    assert card in models["models"]
    assert call(served.url, "model", f"{card['name']}@{card['digest'][:12]}") == card
    status = call(served.url, "status")
    assert status["processes"] == 1
    assert set(status["models"]) == {card["name"] for card in models["models"]}


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


def test_a_problem_carries_what_the_service_says(served: Server, call: Call) -> None:
    with pytest.raises(ProblemError) as caught:
        call(served.url, "generate", label=10)
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
        call(served.url, "model", "a?b")


def test_several_threads_share_one_client(served: Server) -> None:
    arrays: dict[int, Any] = {}
    with Client(served.url) as client:

        def work(seed: int) -> None:
            arrays[seed] = client.generate(label=7, seed=seed).array

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for seed, array in arrays.items():
            np.testing.assert_array_equal(array, client.generate(label=7, seed=seed).array)
    assert len(arrays) == 8


async def test_calls_of_one_async_client_run_concurrently(served: Server) -> None:
    async with AsyncClient(served.url) as client:
        tasks = [asyncio.create_task(client.generate(label=7, seed=seed)) for seed in range(8)]
        results = await asyncio.gather(*tasks)
    assert [images.seeds for images in results] == [[seed] for seed in range(8)]
