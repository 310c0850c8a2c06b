"""Cards of models over HTTP, beside what /models tells."""

import shutil
from pathlib import Path
from typing import Any

import httpx

from app.engines.store import load_store
from tests.app.api.helpers import problem
from tests.shipped import CGAN, STORE, VAE

FILM = b"RIFF\x00\x00\n\x00WEBPVP8 , as far as anybody looks"
PNG = b"\x89PNG\r\n\x1a\n, as far as anybody looks"


async def test_a_card_lists_its_pictures_and_they_are_served(
    make_client: Any, tiny_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(tiny_store, tmp_path / "store"))
    (store / "tiny-gan-v1.png").write_bytes(PNG)
    (store / "tiny-gan-v1-morph.png").write_bytes(PNG + b", morphing")
    (store / "tiny-gan-v1-secret.png").write_bytes(PNG)
    (store / "tiny-gan-v1-film.webp").write_bytes(FILM)
    client = await make_client(models_dir=store)
    card = (await client.get("/models/tiny-gan-v1")).json()
    pinned = f"/models/tiny-gan-v1@{card['digest'][:12]}/pictures"
    assert card["pictures"] == {
        "samples": f"{pinned}/samples.png",
        "morph": f"{pinned}/morph.png",
        "film": f"{pinned}/film.webp",
    }
    film = await client.get(card["pictures"]["film"])
    assert (film.content, film.headers["content-type"]) == (FILM, "image/webp")
    answer = await client.get(card["pictures"]["morph"])
    assert answer.content == PNG + b", morphing"
    assert answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    plain = await client.get("/models/tiny-gan-v1/pictures/samples.png")
    assert plain.content == PNG
    assert plain.headers["cache-control"] == "no-cache"
    for tag in (plain.headers["etag"], "*"):
        known = await client.get(str(plain.url), headers={"if-none-match": tag})
        assert (known.status_code, known.content) == (304, b"")
        assert known.headers["etag"] == plain.headers["etag"] != answer.headers["etag"]
    for ranged in ("bytes=0-9", "bytes=99999999-", "bytes=abc"):  # not offered, so not looked at
        whole = await client.get(str(plain.url), headers={"range": ranged})
        assert (whole.status_code, whole.content) == (200, PNG)
    head = await client.head(str(plain.url))
    assert (head.content, head.headers["content-length"]) == (b"", str(len(PNG)))
    # Nothing but what the table names: no other file of the store, no way out of it.
    for file in (
        "secret.png",
        "nearest.png",
        "samples",
        "film.png",
        "..%2Ftiny-gan-v1.png",
        "tiny-gan-v1.png",
    ):
        answer = await client.get(f"/models/tiny-gan-v1/pictures/{file}")
        assert answer.status_code == 404, file
    detail = problem(await client.get(f"{pinned}/map.png"), 404, "not-found")["detail"]
    assert "samples.png, morph.png, film.webp" in detail
    assert (await client.get("/models/tiny-vae-v1")).json()["pictures"] == {}


async def test_pictures_of_training_data_need_a_licence(
    make_client: Any, tiny_store: Path, tmp_path: Path
) -> None:
    """The tiny networks learnt from nothing and tell no licence; the shipped ones do."""
    store = Path(shutil.copytree(tiny_store, tmp_path / "store"))
    for name in ("tiny-gan-v1", "tiny-vae-v1"):
        for end in (".png", "-nearest.png", "-morph.png"):
            (store / f"{name}{end}").write_bytes(PNG)
    client = await make_client(models_dir=store)
    assert [*(await client.get("/models/tiny-gan-v1")).json()["pictures"]] == ["samples", "morph"]
    # A VAE's samples stand below test images and their reconstructions.
    assert [*(await client.get("/models/tiny-vae-v1")).json()["pictures"]] == ["morph"]
    models, _ = load_store(STORE)
    assert {"samples", "morph", "nearest"} <= {*models[CGAN].pictures}
    assert {"samples", "morph", "nearest", "map"} <= {*models[VAE].pictures}


async def test_models_state_the_limit_of_one_request(make_client: Any) -> None:
    client = await make_client(max_n=4)
    most = (await client.get("/models")).json()["max_n"]
    assert most == 4
    assert (await client.get(f"/generate?n={most}")).status_code == 200
    assert (await client.get(f"/generate?n={most + 1}")).status_code == 422


async def test_models_describe_themselves(client: httpx.AsyncClient) -> None:
    body = (await client.get("/models")).json()
    assert body["default"] == "tiny-cgan-v1"
    assert [card["kind"] for card in body["models"]] == ["cgan", "gan", "vae"]
    card = (await client.get("/models/tiny-vae-v1")).json()
    assert card["operations"] == ["generate", "decode", "encode"]
    assert card["latent_dim"] == 3
    assert card["image_shape"] == [1, 28, 28]
    assert card["reproducibility"] == "exact"
    assert len(card["digest"]) == 64
    problem(await client.get("/models/nobody"), 404, "unknown-model")


async def test_a_refused_file_is_listed_and_the_others_serve(
    make_client: Any, tiny_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(tiny_store, tmp_path / "store"))
    path = store / "tiny-gan-v1.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    client = await make_client(models_dir=store)
    assert list((await client.get("/models")).json()["refused"]) == [path.name]
    assert (await client.post("/generate?label=7")).status_code == 200
    assert "genserve_refused_checkpoints 1.0" in (await client.get("/metrics")).text


async def test_an_alias_is_taken_wherever_a_model_is_named(
    make_client: Any, tiny_store: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    (store / "aliases.txt").write_text(
        "default -> tiny-gan-v1\ncgan -> tiny-cgan-v1\nvae -> tiny-vae-v1\n"
    )
    client = await make_client(models_dir=store)
    listed = (await client.get("/models")).json()
    assert listed["default"] == "tiny-gan-v1"
    assert listed["aliases"]["cgan"] == "tiny-cgan-v1"
    unnamed = await client.get("/generate?seed=1")
    assert unnamed.headers["x-model"] == "tiny-gan-v1"
    real = await client.get("/generate?model=tiny-cgan-v1&label=7&seed=42")
    aliased = await client.get("/generate?model=cgan&label=7&seed=42")
    assert aliased.content == real.content
    assert aliased.headers["x-model"] == "tiny-cgan-v1"
    assert aliased.headers["content-location"] == real.headers["content-location"]
    assert "model=tiny-cgan-v1@" in real.headers["content-location"]
    assert aliased.headers["cache-control"] == "no-cache"
    assert (await client.get("/models/vae")).json()["name"] == "tiny-vae-v1"
    for path in ("/v2/models/cgan", "/v2/models/vae.encode", "/v2/models/cgan/versions/1"):
        assert (await client.get(path)).json()["name"].startswith("tiny-")
    for path in ("/v2/models/none", "/v2/models/none.encode", "/v2/models/vae.none", "/models/x"):
        assert (await client.get(path)).status_code == 404
    decoded = await client.post("/decode?model=vae", json={"z": [[0, 0, 0]]})
    assert decoded.headers["x-model"] == "tiny-vae-v1"
