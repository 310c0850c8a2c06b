"""Imported models through every operation that they can have."""

import base64
import io
import json
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage

from app.engines.loading import LoadedModels, adopt_findings, load_models
from app.main import create_app
from app.settings import Settings
from tests import graphs
from tests.app.api.helpers import PNG, pixels, problem
from training.networks.noise import latents_of_seeds

NAMES = list(graphs.FEATURES)
ENCODERS = [name for name, config in graphs.FEATURES.items() if "encode" in config.graphs]
DECODERS = [*ENCODERS, "decoder"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, LoadedModels]:
    """Every feature of the header as a model, probed once."""
    folder = graphs.write_features(tmp_path_factory.mktemp("features"))
    settings = Settings(models_dir=folder, default_model="plain")
    models = load_models(settings)
    models.engine.start_thread()
    return settings, adopt_findings(settings, models, models.engine.probe())


@pytest.fixture(scope="module")
async def client(loaded: tuple[Settings, LoadedModels]) -> AsyncIterator[httpx.AsyncClient]:
    settings, models = loaded
    app = create_app(settings, loaded_models=lambda: models)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client,
    ):
        yield client


def of_class(name: str) -> str:
    """The label that an autoencoder needs, as a part of a query."""
    return "&label=class%201" if graphs.FEATURES[name].num_classes else ""


def shape_of(name: str) -> tuple[int, ...]:
    channels, height, width = graphs.FEATURES[name].image_shape
    return (height, width) if channels == 1 else (height, width, channels)


async def array(client: httpx.AsyncClient, address: str) -> Any:
    answer = await client.get(address, headers={"accept": "application/x-npy"})
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content))


@pytest.mark.parametrize("name", NAMES)
async def test_it_generates_pngs_webps_and_arrays_of_the_same_pixels(
    client: httpx.AsyncClient, name: str
) -> None:
    url = f"/generate?model={name}&seed=5"
    images = await array(client, f"{url}&n=3")
    assert images.shape == (3, *shape_of(name))
    png = await client.get(url)
    assert png.headers["etag"]
    assert np.array_equal(pixels(png.content), images[0])
    webp = await client.get(f"{url}&format=webp")
    with PillowImage.open(BytesIO(webp.content)) as picture:
        shown = np.asarray(picture.convert("L") if images[0].ndim == 2 else picture)
    assert np.array_equal(shown, images[0])
    again = await client.get(png.headers["content-location"])
    assert again.content == png.content
    wide = await client.get(f"{url}&n=3&scale=2")
    height, width = shape_of(name)[:2]
    assert pixels(wide.content).shape[:2] == (4 * height, 4 * width)


@pytest.mark.parametrize("name", NAMES)
async def test_its_pictures_are_verified(client: httpx.AsyncClient, name: str) -> None:
    for format in ("png", "webp"):
        address = f"/generate?model={name}&seed=11&n=2&scale=3&format={format}"
        picture = (await client.get(address)).content
        headers = {"content-type": f"image/{format}"}
        answer = await client.post("/verify", content=picture, headers=headers)
        assert answer.json()["verdict"] == "same", answer.text


@pytest.mark.parametrize("name", NAMES)
async def test_it_interpolates_and_traverses(client: httpx.AsyncClient, name: str) -> None:
    ends = await array(client, f"/generate?model={name}&seeds=3,17")
    on_path = await array(client, f"/interpolate?model={name}&seeds=3,17&steps=5")
    assert on_path.shape == (5, *shape_of(name))
    assert np.array_equal(on_path[0], ends[0])
    if not graphs.FEATURES[name].num_classes:  # the label of the first end is kept
        assert np.array_equal(on_path[-1], ends[1])
    axes = await array(client, f"/traverse?model={name}&seed=3&axes=0,1&steps=3")
    assert axes.shape == (6, *shape_of(name))
    answer = await client.get(f"/traverse?model={name}&seed=3&axes=99&steps=3")
    problem(answer, 422, "invalid-parameter")


@pytest.mark.parametrize("name", NAMES)
async def test_its_dataset_has_the_images_of_its_seeds(
    client: httpx.AsyncClient, name: str
) -> None:
    answer = await client.get(f"/dataset?model={name}&n=5&seed=3&format=npz")
    with np.load(BytesIO(answer.content)) as file:
        images, numbers = file["images"], file["seeds"].tolist()
        labels = file["labels"].tolist() if "labels" in file else [None] * 5
    assert images.shape == (5, *shape_of(name))
    for image, seed, label in zip(images, numbers, labels, strict=True):
        chosen = "" if label is None else f"&label={label}"
        (alone,) = await array(client, f"/generate?model={name}&seed={seed}{chosen}")
        assert np.array_equal(alone, image)
    answer = await client.get(f"/dataset?model={name}&n=2&seed=3&format=zip")
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        pngs = [file for file in archive.namelist() if file.endswith(".png")]
        assert len(pngs) == 2


@pytest.mark.parametrize("name", ENCODERS)
async def test_it_encodes_and_reconstructs(client: httpx.AsyncClient, name: str) -> None:
    model = f"{name}{of_class(name)}"
    picture = (await client.get(f"/generate?model={model}&seed=2")).content
    answer = await client.post(f"/encode?model={model}", content=picture, headers=PNG)
    (item,) = answer.json()["items"]
    size = graphs.FEATURES[name].latent_dim
    assert len(item["mu"]) == len(item["z"]) == size
    assert item["picture"]["steps"] == []
    assert (item["logvar"] is None) == (len(graphs.FEATURES[name].posterior) == 1)
    shown = await client.post(
        f"/reconstruct?model={model}&format=npy", content=picture, headers=PNG
    )
    decoded = await client.post(f"/decode?model={model}&format=npy", json={"z": [item["mu"]]})
    assert np.array_equal(np.load(BytesIO(shown.content)), np.load(BytesIO(decoded.content)))
    ends = {"ends": [{"image": base64.b64encode(picture).decode()}, {"seed": 3}]}
    answer = await client.post(f"/interpolate?model={model}&steps=3&format=npy", json=ends)
    walk = np.load(BytesIO(answer.content))
    assert walk.shape == (3, *shape_of(name))
    assert np.array_equal(walk[0], np.load(BytesIO(shown.content))[0])


async def test_a_conditional_vae_encodes_and_decodes_by_the_label(
    client: httpx.AsyncClient,
) -> None:
    picture = (await client.get("/generate?model=conditional-vae&seed=2")).content
    means: dict[str, list[list[float]]] = {}
    for name in ("conditional-vae", "conditional-decoder"):  # whose encoder takes no label
        answers = [
            await client.post(f"/encode?model={name}&label={n}", content=picture, headers=PNG)
            for n in (0, 1)
        ]
        means[name] = [answer.json()["items"][0]["mu"] for answer in answers]
        images = [
            await client.post(f"/decode?model={name}&label={n}", json={"z": [[0.5] * 6]})
            for n in (0, 1)
        ]
        assert images[0].content != images[1].content
    assert means["conditional-vae"][0] != means["conditional-vae"][1]
    assert means["conditional-decoder"][0] == means["conditional-decoder"][1]


@pytest.mark.parametrize("operation", ["encode", "reconstruct", "decode"])
async def test_a_label_is_asked_for_where_it_is_needed_and_refused_elsewhere(
    client: httpx.AsyncClient, operation: str
) -> None:
    picture = (await client.get("/generate?model=vae&seed=2")).content
    sent = {"json": {"z": [[0.5] * 6]}} if operation == "decode" else {"content": picture}
    headers = {} if operation == "decode" else PNG
    for query, slug, detail in (
        ("model=conditional-vae", "invalid-parameter", "images of a class: give its label"),
        (
            "model=conditional-vae&label=9",
            "invalid-parameter",
            "label is '9'; conditional-vae knows",
        ),
        ("model=vae&label=1", "wrong-model", "vae is unconditional and takes no label"),
    ):
        answer = await client.post(f"/{operation}?{query}", headers=headers, **sent)
        assert detail in problem(answer, 422, slug)["detail"]


async def test_a_seed_for_an_encoding_without_a_variance_is_refused(
    client: httpx.AsyncClient,
) -> None:
    picture = (await client.get("/generate?model=autoencoder&seed=2")).content
    url = "/encode?model=autoencoder&seed=1"
    body = problem(await client.post(url, content=picture, headers=PNG), 422, "invalid-parameter")
    assert "encodes a picture to one latent" in body["detail"]
    url = "/encode?model=vae&seed=1"
    assert (await client.post(url, content=picture, headers=PNG)).status_code == 200


@pytest.mark.parametrize("name", DECODERS)
async def test_a_seeds_latent_decodes_to_the_seeds_image(
    client: httpx.AsyncClient, name: str
) -> None:
    config = graphs.FEATURES[name]
    (z,), model = latents_of_seeds(config, [4]), f"{name}{of_class(name)}"
    answer = await client.post(f"/decode?model={model}&format=npy", json={"z": [z.tolist()]})
    (expected,) = await array(client, f"/generate?model={model}&seed=4")
    assert np.array_equal(np.load(BytesIO(answer.content))[0], expected)


async def test_what_a_model_cannot_do_is_refused_with_those_that_can(
    client: httpx.AsyncClient,
) -> None:
    body = problem(
        await client.post("/decode?model=plain", json={"z": [[0.0] * 6]}), 422, "wrong-model"
    )
    assert body["detail"].startswith("plain is a graph, which cannot decode; models that can: auto")
    assert "decoder" in body["detail"]
    body = problem(
        await client.post("/encode?model=decoder", content=b"x", headers=PNG), 422, "wrong-model"
    )
    assert "decoder is a graph, which cannot encode" in body["detail"]


@pytest.mark.parametrize("operation", ["generate", "interpolate", "traverse"])
async def test_truncation_where_it_has_no_meaning_is_refused(
    client: httpx.AsyncClient, operation: str
) -> None:
    rest = "seeds=1,2" if operation == "interpolate" else "seed=1"
    body = problem(
        await client.get(f"/{operation}?model=sphere&truncation=0.5&{rest}"),
        422,
        "invalid-parameter",
    )
    assert body["detail"].startswith("sphere takes no truncation")
    url = f"/{operation}?model=codes&truncation=0.5&{rest}"
    assert (await client.get(url)).status_code == 200


async def test_a_label_is_taken_by_name_and_by_index(client: httpx.AsyncClient) -> None:
    for name in ("indexed", "one-hot"):
        by_name = await client.get(f"/generate?model={name}&label=class%202&seed=1")
        by_index = await client.get(f"/generate?model={name}&label=2&seed=1")
        assert by_name.content == by_index.content
        other = await client.get(f"/generate?model={name}&label=1&seed=1")
        assert not np.array_equal(pixels(other.content), pixels(by_name.content))


@pytest.mark.parametrize("name", NAMES)
async def test_its_card_says_what_a_latent_is(client: httpx.AsyncClient, name: str) -> None:
    config = graphs.FEATURES[name]
    card = (await client.get(f"/models/{name}")).json()
    assert card["kind"] == "graph"
    assert card["operations"] == list(config.operations)
    assert card["latent_dim"] == sum(np.prod(part["shape"]) for part in card["latent"])
    assert [part["distribution"] for part in card["latent"]] == [
        part.distribution for part in config.noise
    ]
    assert card["truncation"] == config.truncation
    assert card["image_shape"] == list(config.image_shape)
    assert card["reproducibility"] == "exact"
    page = (await client.get(f"/models/{name}", headers={"accept": "text/html"})).text
    assert config.noise[0].distribution in page


@pytest.mark.parametrize("name", NAMES)
async def test_the_open_inference_protocol_serves_it_with_exact_metadata(
    client: httpx.AsyncClient, name: str
) -> None:
    config = graphs.FEATURES[name]
    for operation in config.operations:
        served = name if operation == "generate" else f"{name}.{operation}"
        metadata = (await client.get(f"/v2/models/{served}")).json()
        assert metadata["properties"]["latent"].count(";") == len(config.noise) - 1
        inputs = []
        for spec in metadata["inputs"]:
            row = spec["shape"][1:]
            kind = spec["datatype"]
            count = int(np.prod(row)) if row else 1
            values = [1] * count if kind != "FP32" else [0.5] * count
            inputs.append({"name": spec["name"], "shape": [1, *row], "datatype": kind})
            inputs[-1]["data"] = values
        answer = await client.post(f"/v2/models/{served}/infer", json={"inputs": inputs})
        assert answer.status_code == 200, answer.text
        outputs = {one["name"]: one for one in answer.json()["outputs"]}
        for spec in metadata["outputs"]:
            if spec["name"] in outputs:
                assert outputs[spec["name"]]["shape"][1:] == spec["shape"][1:]
                assert outputs[spec["name"]]["datatype"] == spec["datatype"]
        if operation == "encode":
            assert ("logvar" in outputs) == (len(config.posterior) == 2)
            assert ("label" in {spec["name"] for spec in metadata["inputs"]}) == bool(config.label)


async def test_tensors_of_another_shape_are_refused(client: httpx.AsyncClient) -> None:
    body = {"inputs": [{"name": "z", "shape": [1, 2, 2, 2], "datatype": "FP32", "data": [0] * 8}]}
    answer = await client.post("/v2/models/autoencoder.decode/infer", json=body)
    assert answer.status_code == 400, answer.text
    assert "shape" in json.loads(answer.text)["error"]


async def test_the_list_of_models_and_the_status_have_them_all(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    names = {card["name"] for card in (await client.get("/models")).json()["models"]}
    assert names == set(NAMES)
    assert set((await client.get("/status")).json()["models"]) == set(NAMES)
    assert (await client.get("/readyz")).status_code == 200
