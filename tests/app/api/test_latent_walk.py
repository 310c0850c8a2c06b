"""/interpolate, /traverse, and what /reconstruct shows, over tiny untrained networks."""

import base64
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage

from app.engines.rows import Point, Sample


def pixels(body: bytes) -> Any:
    with PillowImage.open(BytesIO(body)) as picture:
        return np.asarray(picture.convert("L"))


def frames(body: bytes) -> list[Any]:
    with PillowImage.open(BytesIO(body)) as picture:
        found = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            found.append(np.asarray(picture.convert("L")))
        return found


def tiles(sheet: Any, columns: int, side: int = 28) -> list[Any]:
    rows = sheet.shape[0] // side
    return [
        sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(rows)
        for column in range(columns)
    ]


async def images(client: httpx.AsyncClient, path: str, **given: Any) -> Any:
    """As an array (n, H, W)."""
    method = "POST" if given else "GET"
    separator = "&" if "?" in path else "?"
    answer = await client.request(method, f"{path}{separator}format=npy", **given)
    assert answer.status_code == 200, answer.text
    return np.load(BytesIO(answer.content))


async def one(client: httpx.AsyncClient, query: str) -> Any:
    return (await images(client, f"/generate?{query}"))[0]


def digit(seed: int) -> bytes:
    """A picture of blobs."""
    levels = np.random.default_rng(seed).integers(0, 256, (28, 28)).astype(np.uint8)
    out = BytesIO()
    PillowImage.fromarray(levels).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    "model", ["model=tiny-gan-v1", "model=tiny-cgan-v1&label=7", "model=tiny-vae-v1"]
)
async def test_a_path_between_seeds_begins_and_ends_with_the_images_of_generate(
    client: httpx.AsyncClient, model: str
) -> None:
    way = await images(client, f"/interpolate?{model}&seeds=3,17,5&steps=7&truncation=0.9")
    assert way.shape == (7, 28, 28)
    for place, seed in ((0, 3), (3, 17), (6, 5)):
        expected = await one(client, f"{model}&seed={seed}&truncation=0.9")
        assert np.array_equal(way[place], expected)
    assert len({image.tobytes() for image in way}) == 7


async def test_without_a_label_a_conditional_model_takes_that_of_the_first_seed(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/interpolate?seeds=3,17&steps=5&format=json")
    first = await client.get("/generate?seed=3&format=json")
    label = first.json()["items"][0]["label"]
    body = answer.json()
    assert [item["label"] for item in body["items"]] == [label] * 5
    assert [item["at"] for item in body["items"]] == [0, 0.25, 0.5, 0.75, 1]
    assert f"label={label}&" in answer.headers["content-location"]
    again = await client.get(answer.headers["content-location"])
    assert again.content == answer.content


@pytest.mark.parametrize("path", ["/interpolate?seeds=3,17&steps=4", "/traverse?seed=3&axes=0,2"])
@pytest.mark.parametrize(
    "rendering",
    [
        "",
        "&format=webp&layout=strip",
        "&format=json&scale=2",
        "&layout=animation&frame_ms=50&metadata=mark",
        "&format=npy",
        "&format=zip&truncation=0.5",
    ],
)
async def test_what_seeds_make_has_an_address_and_is_cached(
    client: httpx.AsyncClient, path: str, rendering: str
) -> None:
    first = await client.get(path + rendering)
    assert first.status_code == 200, first.text
    assert first.headers["cache-control"] == "no-cache"
    address = first.headers["content-location"]
    again = await client.get(address)
    assert again.content == first.content
    assert again.headers["cache-control"].endswith("immutable")
    assert again.headers["content-location"] == address
    assert again.headers["etag"] == first.headers["etag"]
    same = {"if-none-match": first.headers["etag"]}
    counted = 'genserve_images_total{model="tiny-cgan-v1",operation="generate"}'
    before = [x for x in (await client.get("/metrics")).text.splitlines() if counted in x]
    told = await client.get(path + rendering, headers=same)
    assert told.status_code == 304
    assert (await client.head(address)).headers["etag"] == first.headers["etag"]
    after = [x for x in (await client.get("/metrics")).text.splitlines() if counted in x]
    assert before == after
    posted = await client.post(path + rendering)
    assert posted.content == first.content


async def test_other_parameters_have_other_tags(client: httpx.AsyncClient) -> None:
    queries = [
        "/interpolate?seeds=3,17",
        "/interpolate?seeds=17,3",
        "/interpolate?seeds=3,17&steps=5",
        "/interpolate?seeds=3,17&method=lerp",
        "/interpolate?seeds=3,17&truncation=0.5",
        "/interpolate?seeds=3,17&label=4",
        "/interpolate?seeds=3,17&layout=strip",
        "/interpolate?seeds=3,17&layout=animation",
        "/traverse?seed=3",
        "/traverse?seed=4",
        "/traverse?seed=3&axes=0",
        "/traverse?seed=3&low=-2",
        "/traverse?seed=3&high=2",
        "/traverse?seed=3&steps=3",
    ]
    answers = [await client.get(query) for query in queries]
    assert len({answer.headers["etag"] for answer in answers}) == len(queries)
    assert len({answer.content for answer in answers}) == len(queries)


async def test_ends_may_be_seeds_latents_and_pictures(client: httpx.AsyncClient) -> None:
    """On a VAE: all in z, where a seed is what its picture is encoded to."""
    pictures = [digit(1), digit(2)]
    encoded = []
    for body in (*pictures, (await client.get("/generate?model=tiny-vae-v1&seed=9")).content):
        answer = await client.post("/encode", content=body, headers={"content-type": "image/png"})
        encoded.append(answer.json()["items"][0]["mu"])
    files = [{"image": base64.b64encode(body).decode()} for body in pictures]
    ends = [files[0], {"seed": 9}, {"z": [0.5, -1, 2]}, files[1]]
    given = {"ends": ends}
    way = await images(client, "/interpolate?model=tiny-vae-v1&steps=4", json=given)
    rows = [encoded[0], encoded[2], [0.5, -1, 2], encoded[1]]
    expected = await images(client, "/decode", json={"z": rows})
    assert np.array_equal(way, expected)
    answer = await client.post("/interpolate?model=tiny-vae-v1&steps=4", json=given)
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers
    assert "content-location" not in answer.headers
    assert b"compositeWithTrainedAlgorithmicMedia" in answer.content
    form = [("file", ("a.png", pictures[0])), ("file", ("b.png", pictures[1]))]
    by_form = await images(client, "/interpolate?steps=2", files=form)
    assert np.array_equal(by_form, expected[[0, 3]])


async def test_ends_on_a_gan_may_be_noise(client: httpx.AsyncClient, app_of: Any) -> None:
    noise = [[1, 0, -1, 0.5], [0, 0, 0, 0]]
    path = "/interpolate?model=tiny-cgan-v1&label=7&steps=3"
    body = {"ends": [{"z": noise[0]}, {"seed": 5}]}
    way = await images(client, path, json=body)
    assert np.array_equal(way[2], await one(client, "model=tiny-cgan-v1&label=7&seed=5"))
    mean = await images(client, path, json={"ends": [{"z": noise[1]}, {"z": noise[1]}]})
    usual = await one(client, "model=tiny-cgan-v1&label=7&seed=5&truncation=0")
    assert np.array_equal(mean[0], usual)
    engine = app_of(client).state.service.engine
    rows = [Sample(5, 7), Point(np.array(noise[0], dtype=np.float32), 7), Sample(6, 7)]
    made = engine.run(("tiny-cgan-v1", "generate"), rows)
    assert np.array_equal(made[0], way[2])
    assert np.array_equal(made[1], way[0])
    refused = await client.post(
        "/interpolate?model=tiny-cgan-v1", json={"ends": [{"z": noise[0]}] * 2}
    )
    assert refused.status_code == 422
    assert "give label" in refused.json()["detail"]


async def test_one_step_is_the_first_end(client: httpx.AsyncClient) -> None:
    way = await images(client, "/interpolate?seeds=3,17&steps=1&label=7")
    assert np.array_equal(way[0], await one(client, "label=7&seed=3"))


@pytest.mark.parametrize(("form", "media"), [("png", "image/apng"), ("webp", "image/webp")])
async def test_an_animation_shows_one_image_after_the_other(
    client: httpx.AsyncClient, form: str, media: str
) -> None:
    path = "/interpolate?seeds=3,17&steps=5&label=7"
    answer = await client.get(f"{path}&format={form}&layout=animation&scale=2&frame_ms=40")
    assert answer.headers["content-type"] == media
    shown = frames(answer.content)
    expected = (await images(client, path)).repeat(2, axis=1).repeat(2, axis=2)
    assert np.array_equal(shown, expected)
    with PillowImage.open(BytesIO(answer.content)) as picture:
        assert picture.info["loop"] == 0
        picture.seek(1)
        picture.load()
        assert picture.info["duration"] == 40
    assert b"trainedAlgorithmicMedia" in answer.content
    bare = await client.get(f"{path}&format={form}&layout=animation&metadata=none")
    assert b"trainedAlgorithmicMedia" not in bare.content
    # Of several seeds, too; one image is no animation.
    several = await client.get(f"/generate?seeds=3,9&label=7&layout=animation&format={form}")
    assert len(frames(several.content)) == 2
    alone = await client.get("/generate?seed=3&label=7&layout=animation")
    assert alone.content == (await client.get("/generate?seed=3&label=7")).content


async def test_a_traversal_has_a_row_an_axis(client: httpx.AsyncClient) -> None:
    path = "/traverse?model=tiny-gan-v1&seed=3&axes=2,0&low=-2&high=2&steps=5"
    answer = await client.get(path)
    assert answer.headers["x-axes"] == "2,0"
    shown = tiles(pixels(answer.content), 5)
    assert np.array_equal(shown, await images(client, path))
    items = (await client.get(f"{path}&format=json")).json()["items"]
    assert [(i["axis"], i["value"]) for i in items] == [
        (a, v) for a in (2, 0) for v in range(-2, 3)
    ]
    assert len({tile.tobytes() for tile in shown}) > 6


async def test_a_traversal_of_a_vae_is_one_of_z(client: httpx.AsyncClient) -> None:
    picture = digit(4)
    head = {"content-type": "image/png"}
    mu = (await client.post("/encode", content=picture, headers=head)).json()["items"][0]["mu"]
    way = await images(
        client, "/traverse?axes=1&low=-1&high=1&steps=3", content=picture, headers=head
    )
    rows = [[mu[0], value, mu[2]] for value in (-1, 0, 1)]
    assert np.array_equal(way, await images(client, "/decode", json={"z": rows}))
    by_z = await images(client, "/traverse?axes=1&low=-1&high=1&steps=3", json={"z": mu})
    assert np.array_equal(by_z, way)
    encoded = base64.b64encode(picture).decode()
    by_json = await images(
        client, "/traverse?axes=1&low=-1&high=1&steps=3", json={"image": encoded}
    )
    assert np.array_equal(by_json, way)
    seeded = (await client.get("/generate?model=tiny-vae-v1&seed=9")).content
    of_seed = await images(client, "/traverse?model=tiny-vae-v1&seed=9&axes=0&steps=2")
    of_picture = await images(client, "/traverse?axes=0&steps=2", content=seeded, headers=head)
    assert np.array_equal(of_seed, of_picture)


async def test_without_a_seed_one_is_drawn_and_returned(client: httpx.AsyncClient) -> None:
    answer = await client.get("/traverse")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-axes"] == "0,1,2,3"  # all that there are; no card tells their KL
    again = await client.get(answer.headers["content-location"])
    assert again.content == answer.content


async def test_the_default_axes_are_those_of_most_kl_on_the_card(
    client: httpx.AsyncClient, app_of: Any
) -> None:
    model = app_of(client).state.service.models["tiny-vae-v1"]
    model.description.metrics["kl_per_dimension_nats"] = [0.1, 2, 1]
    answer = await client.get("/traverse?model=tiny-vae-v1&seed=1&steps=2")
    assert answer.headers["x-axes"] == "1,2,0"


async def test_a_reconstruction_is_shown_beside_its_picture(client: httpx.AsyncClient) -> None:
    bodies = [digit(1), digit(2)]
    given = {"images": [base64.b64encode(body).decode() for body in bodies]}
    alone = await images(client, "/reconstruct", json=given)
    originals = [pixels(body) for body in bodies]
    beside = await client.post("/reconstruct?show=beside", json=given)
    expected = [originals[0], alone[0], originals[1], alone[1]]
    assert np.array_equal(tiles(pixels(beside.content), 2), expected)
    error = await client.post("/reconstruct?show=error", json=given)
    shown = tiles(pixels(error.content), 3)
    assert len(shown) == 6
    difference = np.abs(originals[1].astype(int) - alone[1].astype(int))
    assert np.array_equal(shown[5], difference)
    items = (await client.post("/reconstruct?format=json", json=given)).json()["items"]
    assert items[1]["error"] == pytest.approx(float(np.mean((difference / 255) ** 2)))


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/interpolate", None, 422, "two or more ends"),
    ("POST", "/interpolate", None, 422, "two or more ends"),
    ("GET", "/interpolate?seeds=3", None, 422, "at least two seeds"),
    ("GET", "/interpolate?seeds=0-16", None, 422, "16 seeds at most"),
    ("GET", "/interpolate?seeds=3,9007199254740992", None, 422, "at most 9007199254740991"),
    ("GET", "/interpolate?seeds=3,x", None, 422, "plain digits"),
    ("GET", "/interpolate?seeds=3,17&steps=0", None, 422, "greater than or equal to 1"),
    ("GET", "/interpolate?seeds=3,17&steps=1000000", None, 422, "less than or equal to 64"),
    ("GET", "/interpolate?seeds=3,17&steps=2.0", None, 422, "plain digits"),
    ("GET", "/interpolate?seeds=3,17&method=cubic", None, 422, "slerp"),
    ("GET", "/interpolate?seeds=3,17&frame_ms=5", None, 422, "20"),
    ("GET", "/interpolate?seeds=3,17&seed=1", None, 422, "did you mean seeds"),
    ("GET", "/interpolate?seeds=3,17&label=10", None, 422, "0 to 9"),
    ("GET", "/interpolate?seeds=3,17&model=tiny-gan-v1&label=1", None, 422, "takes no label"),
    ("GET", "/interpolate?seeds=3,17&model=x", None, 404, "unknown model"),
    ("POST", "/interpolate?seeds=3,17", {"ends": [{"seed": 1}] * 2}, 422, "give either"),
    ("POST", "/interpolate", {}, 422, "'ends'"),
    ("POST", "/interpolate", {"ends": []}, 422, "allowed: 2 to 16"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}]}, 422, "allowed: 2 to 16"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}] * 17}, 422, "allowed: 2 to 16"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}, 2]}, 422, "/ends/1"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}, {}]}, 422, "/ends/1"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}, {"seed": 2, "z": []}]}, 422, "/ends/1"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}, {"seed": True}]}, 422, "/ends/1/seed"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}, {"seed": -1}]}, 422, "/ends/1/seed"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}, {"z": []}]}, 422, "/ends/1/z"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}, {"z": [1, 2]}]}, 422, "latents of 3 numbers"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}, {"z": [1, 2, 1e4]}]}, 422, "/ends/1/z/2"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}, {"image": "?"}]}, 422, "base64"),
    ("POST", "/interpolate", {"ends": [{"seed": 1}, {"image": "AAAA"}]}, 422, "whole PNG"),
    (
        *("POST", "/interpolate?model=tiny-gan-v1", {"ends": [{"seed": 1}, {"image": "AAAA"}]}),
        *(422, "cannot encode"),
    ),
    ("POST", "/interpolate?label=1", {"ends": [{"seed": 1}, {"image": "AAAA"}]}, 422, "no label"),
    ("GET", "/traverse?seed=1&axes=9", None, 422, "0 to 3"),
    ("GET", "/traverse?seed=1&axes=0,0", None, 422, "once"),
    ("GET", "/traverse?seed=1&axes=a", None, 422, "plain digits"),
    ("GET", "/traverse?seed=1&low=3&high=-3", None, 422, "smaller"),
    ("GET", "/traverse?seed=1&low=-30", None, 422, "-10"),
    ("GET", "/traverse?seed=1&low=nan", None, 422, "two decimals"),
    ("GET", "/traverse?seed=1&low=-0", None, 422, "two decimals"),
    ("GET", "/traverse?seed=1&axes=0-3&steps=17", None, 422, "68 images"),
    ("POST", "/traverse?seed=1", {"z": [1, 2, 3]}, 422, "give either"),
    ("POST", "/traverse", [], 422, "one of"),
    ("POST", "/traverse", {"z": [1]}, 422, "latents of 3 numbers"),
    ("POST", "/reconstruct?show=all", {"images": ["AAAA"]}, 422, "reconstruction"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "says"), REFUSED)
async def test_what_is_wrong_is_refused(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, says: str
) -> None:
    answer = await client.request(method, path, **({} if body is None else {"json": body}))
    assert answer.status_code == status, answer.text
    assert says in answer.text
    assert "AAAA" not in answer.text
