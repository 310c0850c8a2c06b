"""What a dataset contains."""

import asyncio
import csv
import hashlib
import json
import zipfile
from io import BytesIO, StringIO
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from app.core.datasets.files import Dataset, npz_size, write_npz
from app.core.datasets.seed_streams import stream_seeds
from tests.app.api.helpers import pixels
from training.networks.configs import GanConfig

Messages = list[dict[str, Any]]


def listed(archive: zipfile.ZipFile) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(archive.read("metadata.csv").decode())))


async def test_a_zip_has_the_images_of_generate_in_balanced_classes_and_a_list_of_them(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/dataset?n=43&seed=100")  # five batches of 8 and a rest
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["x-model"] == "tiny-cgan-v1"
    assert answer.headers["x-seed"] == "100"
    assert answer.headers["cache-control"] == "no-cache"
    assert 'filename="tiny-cgan-v1-seed100-n43.zip"' in answer.headers["content-disposition"]
    assert (await client.get(answer.headers["content-location"])).content == answer.content
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[-1] == "metadata.csv"
        rows = listed(archive)
        assert [row["file_name"] for row in rows] == archive.namelist()[:-1]
        assert [row["label"] for row in rows] == [str(index % 10) for index in range(43)]
        assert [row["name"] for row in rows] == [row["label"] for row in rows]
        assert [int(row["seed"]) for row in rows] == stream_seeds(100, "", 0, 43).tolist()
        for row in rows:
            query = {"label": row["label"], "seed": row["seed"], "metadata": "mark"}
            one = await client.get("/generate", params=query)
            assert archive.read(row["file_name"]) == one.content, row


async def test_an_npz_has_the_same_and_says_its_length(client: httpx.AsyncClient) -> None:
    answer = await client.get("/dataset?n=43&seed=100&format=npz")
    assert answer.headers["content-type"] == "application/x-npz"
    assert int(answer.headers["content-length"]) == len(answer.content)
    zipped = await client.get("/dataset?n=43&seed=100&format=zip")
    with (
        np.load(BytesIO(answer.content), allow_pickle=False) as arrays,
        zipfile.ZipFile(BytesIO(zipped.content)) as archive,
    ):
        assert set(arrays) == {"images", "labels", "seeds"}
        assert arrays["images"].dtype == np.uint8
        assert arrays["labels"].tolist() == [index % 10 for index in range(43)]
        assert arrays["seeds"].tolist() == stream_seeds(100, "", 0, 43).tolist()
        for image, row in zip(arrays["images"], listed(archive), strict=True):
            np.testing.assert_array_equal(image, pixels(archive.read(row["file_name"])))


@pytest.mark.parametrize("form", ["zip", "npz"])
async def test_a_compressed_file_has_the_same_members_in_fewer_bytes(
    client: httpx.AsyncClient, form: str
) -> None:
    query = f"/dataset?n=43&seed=100&format={form}"
    plain, packed = await client.get(query), await client.get(f"{query}&compress=true")
    assert len(packed.content) < len(plain.content)  # of an untrained network: noise
    assert "content-length" not in packed.headers
    assert "compress=true" in packed.headers["content-location"]
    assert packed.headers["etag"] != plain.headers["etag"]
    assert (await client.get(packed.headers["content-location"])).content == packed.content
    with (
        zipfile.ZipFile(BytesIO(plain.content)) as stored,
        zipfile.ZipFile(BytesIO(packed.content)) as deflated,
    ):
        assert deflated.testzip() is None
        assert {member.compress_type for member in deflated.infolist()} == {zipfile.ZIP_DEFLATED}
        assert deflated.namelist() == stored.namelist()
        for name in stored.namelist():
            assert deflated.read(name) == stored.read(name)


async def test_one_label_and_no_labels(client: httpx.AsyncClient) -> None:
    seven = await client.get("/dataset?n=20&seed=1&label=7")
    assert "label=7" in seven.headers["content-location"]
    with zipfile.ZipFile(BytesIO(seven.content)) as archive:
        assert {row["label"] for row in listed(archive)} == {"7"}
        seed = stream_seeds(1, "", 11, 12)[0]
        one = await client.get(f"/generate?label=7&seed={seed}&metadata=mark")
        assert archive.read("7/00000011.png") == one.content
    array = await client.get("/dataset?n=20&seed=1&label=7&format=npz")
    with np.load(BytesIO(array.content), allow_pickle=False) as arrays:
        assert set(arrays["labels"].tolist()) == {7}

    plain = await client.get("/dataset?n=20&seed=1&model=tiny-vae-v1")
    with zipfile.ZipFile(BytesIO(plain.content)) as archive:
        assert {(row["label"], row["name"]) for row in listed(archive)} == {("", "")}
        one = await client.get(f"/generate?model=tiny-vae-v1&seed={seed}&metadata=mark")
        assert archive.read("images/00000011.png") == one.content
    array = await client.get("/dataset?n=20&seed=1&model=tiny-vae-v1&format=npz")
    assert int(array.headers["content-length"]) == len(array.content)
    with np.load(BytesIO(array.content), allow_pickle=False) as arrays:
        assert set(arrays) == {"images", "seeds"}


async def test_an_npz_of_a_colour_model_is_of_its_length_and_shape() -> None:
    network = GanConfig(num_classes=3, image_channels=3, image_size=8)
    model: Any = SimpleNamespace(network=network)
    made = Dataset(model, None, 5, 11)
    images = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)

    async def tiles() -> Any:
        for start in range(0, 11, 4):
            yield list(images[start : start + 4])

    data = b"".join([part async for part in write_npz(made, tiles())])
    assert len(data) == npz_size(made)
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"], images)
        assert arrays["labels"].tolist() == [0, 1, 2] * 3 + [0, 1]


async def test_the_same_seed_gives_the_same_file_whatever_other_requests_run(
    client: httpx.AsyncClient,
) -> None:
    for query in ("n=200&seed=9", "n=200&seed=9&format=npz"):
        alone = hashlib.sha256((await client.post(f"/dataset?{query}")).content).hexdigest()
        found, *others = await asyncio.gather(
            client.post(f"/dataset?{query}"),
            client.post("/dataset?n=100"),
            *(client.post(f"/generate?n={n}&label={n % 10}") for n in range(1, 40)),
        )
        assert {answer.status_code for answer in others} == {200}
        assert hashlib.sha256(found.content).hexdigest() == alone
    fresh = await client.post("/dataset?n=2")
    assert fresh.headers["cache-control"] == "no-store"
    assert fresh.headers["x-seed"] != (await client.post("/dataset?n=2")).headers["x-seed"]


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("n=0", 422, "greater than or equal to 1"),
        ("n=51", 422, "less than or equal to 50"),
        ("n=1e3", 422, "plain digits"),
        ("format=png", 422, "'zip' or 'npz'"),
        ("label=10", 422, "0 to 9"),
        ("model=tiny-gan-v1&label=1", 422, "unconditional"),
        ("model=none", 404, "unknown model"),
        ("seed=9007199254740992", 422, "less than or equal to 9007199254740991"),
        ("compress=1", 422, "true or false"),
        ("split=all", 422, "'train', 'validation' or 'test'"),
        ("scale=2", 422, "unknown parameter"),
    ],
)
async def test_invalid_parameters_are_refused_before_anything_is_sent(
    make_client: Any, query: str, status: int, says: str
) -> None:
    client = await make_client(max_dataset_n=50)
    answer = await client.post(f"/dataset?{query}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "application/zip"),
        ("text/html,*/*;q=0.8", "application/zip"),
        ("application/x-npz", "application/x-npz"),
        ("application/zip;q=0.5, application/x-npz", "application/x-npz"),
    ],
)
async def test_accept_chooses(client: httpx.AsyncClient, accept: str, media: str) -> None:
    answer = await client.get("/dataset?n=1", headers={"accept": accept})
    assert answer.headers["content-type"] == media
    refused = await client.get("/dataset?n=1", headers={"accept": "image/png"})
    assert refused.status_code == 406


async def test_the_openapi_states_the_limit_and_both_formats(make_client: Any) -> None:
    client = await make_client(max_dataset_n=50)
    paths = (await client.get("/openapi.json")).json()["paths"]
    for operation in paths["/dataset"].values():
        (n,) = [p for p in operation["parameters"] if p["name"] == "n"]
        assert (n["schema"]["minimum"], n["schema"]["maximum"]) == (1, 50)
        content = operation["responses"]["200"]["content"]
        assert set(content) == {"application/zip", "application/x-npz"}
        assert {"404", "406", "422", "500", "503", "504"} <= set(operation["responses"])


async def test_pictures_have_the_mark_by_default_and_the_recipe_on_request(
    client: httpx.AsyncClient,
) -> None:
    size = []
    for metadata in ("none", "mark", "full"):
        answer = await client.get(f"/dataset?n=20&seed=5&metadata={metadata}")
        size.append(len(answer.content))
        assert (f"&metadata={metadata}" in answer.headers["content-location"]) == (
            metadata != "mark"
        )
        with zipfile.ZipFile(BytesIO(answer.content)) as archive:
            rows = listed(archive)
            for row in (rows[0], rows[19]):
                query = f"label={row['label']}&seed={row['seed']}&metadata={metadata}"
                assert (
                    archive.read(row["file_name"])
                    == (await client.get(f"/generate?{query}")).content
                )
    by_default = (await client.get("/dataset?n=20&seed=5")).content
    assert [len(by_default) - 20 * 402, len(by_default)] == size[:2]  # bytes of the mark


async def test_generate_gives_the_same_names_and_list(client: httpx.AsyncClient) -> None:
    answer = await client.get("/generate?n=12&seed=5&format=zip&scale=2")
    assert answer.headers["content-type"] == "application/zip"
    items = json.loads((await client.get("/generate?n=12&seed=5&format=json&scale=2")).content)
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        rows = listed(archive)
        for index, (row, item) in enumerate(zip(rows, items["items"], strict=True)):
            assert row["name"] == item["label"]
            assert row["seed"] == str(item["seed"])
            assert row["file_name"] == f"{row['label']}/{index:08d}.png"
            assert hashlib.sha256(archive.read(row["file_name"])).hexdigest() == item["digest"]
    again = await client.get(answer.headers["content-location"])
    assert again.content == answer.content
    accepted = await client.post(
        "/decode", json={"z": [[0, 0, 0]] * 2}, headers={"accept": "application/zip"}
    )
    with zipfile.ZipFile(BytesIO(accepted.content)) as archive:
        assert archive.namelist() == [
            *("images/00000000.png", "images/00000001.png", "metadata.csv"),
        ]
        assert {row["seed"] for row in listed(archive)} == {""}


async def test_a_split_has_images_of_its_own_and_an_address_that_says_it(
    client: httpx.AsyncClient,
) -> None:
    seen: set[str] = set()
    for query in ("seed=0", "seed=0&split=train", "seed=0&split=validation", "seed=0&split=test"):
        answer = await client.get(f"/dataset?n=30&{query}")
        split = query.partition("split=")[2]
        location = answer.headers["content-location"]
        assert (await client.get(location)).content == answer.content
        assert (f"&split={split}&" in location) == bool(split)
        assert f"seed0{'-' * bool(split)}{split}-n30.zip" in answer.headers["content-disposition"]
        with zipfile.ZipFile(BytesIO(answer.content)) as archive:
            seeds = {row["seed"] for row in listed(archive)}
        assert len(seeds) == 30
        assert not seeds & seen
        seen |= seeds
        longer = await client.get(f"/dataset?n=60&{query}&format=npz")
        with np.load(BytesIO(longer.content), allow_pickle=False) as arrays:
            assert seeds <= {str(seed) for seed in arrays["seeds"]}


async def test_an_image_says_its_own_seed_and_is_verified(client: httpx.AsyncClient) -> None:
    answer = await client.get("/dataset?n=12&seed=3&split=test&metadata=full")
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        row = listed(archive)[11]
        png = archive.read(row["file_name"])
    verdict = await client.post("/verify", content=png, headers={"content-type": "image/png"})
    assert verdict.json()["verdict"] == "same"
    assert verdict.json()["recipe"]["seeds"] == row["seed"]
