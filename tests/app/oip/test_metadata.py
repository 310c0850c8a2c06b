"""What the Open Inference Protocol tells of the models and their health, over tiny networks."""

import asyncio
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from app.oip.models import ProtocolModel
from tests.app.oip.helpers import CGAN, AppOf, refused
from tests.conftest import batcher_task
from training.networks.configs import VaeConfig


async def test_metadata_names_every_tensor_of_each_operation(client: httpx.AsyncClient) -> None:
    async def tensors(name: str) -> tuple[Any, Any]:
        body = (await client.get(f"/v2/models/{name}")).json()
        assert body["name"] == name
        assert body["versions"] == ["1"]
        assert (await client.get(f"/v2/models/{name}/versions/1")).json() == body
        inputs, outputs = (
            {t["name"]: (t["datatype"], t["shape"]) for t in body[end]}
            for end in ("inputs", "outputs")
        )
        return inputs, outputs

    images = {"image": ("UINT8", [-1, 28, 28]), "png": ("BYTES", [-1])}
    seed, label = {"seed": ("INT64", [-1])}, {"label": ("INT64", [-1])}
    assert await tensors("tiny-cgan-v1") == (seed | label, images | seed | label)
    assert await tensors("tiny-gan-v1") == (seed, images | seed)
    assert await tensors("tiny-vae-v1") == (seed, images | seed)
    z, pixels = {"z": ("FP32", [-1, 3])}, {"image": ("UINT8", [-1, 28, 28])}
    assert await tensors("tiny-vae-v1.decode") == (z, images)
    posterior = {"mu": ("FP32", [-1, 3]), "logvar": ("FP32", [-1, 3])}
    assert await tensors("tiny-vae-v1.encode") == (pixels, posterior)

    card = (await client.get("/models/tiny-cgan-v1")).json()
    properties = (await client.get(CGAN)).json()["properties"]
    assert properties == {
        "operation": "generate",
        "digest": card["digest"],
        "reproducibility": card["reproducibility"],
        "optional_inputs": "seed, label",
        "latent": "z 4 normal",
    }


@pytest.mark.parametrize("operation", ["encode", "decode", "generate"])
def test_a_colour_models_images_have_their_channels_last(operation: Any) -> None:
    network = VaeConfig(latent_dim=5, image_channels=3, image_size=8)
    model: Any = SimpleNamespace(network=network)
    signature = ProtocolModel("colour-vae-v1", model, operation).signature
    ends = signature.inputs if operation == "encode" else signature.outputs
    assert ends[0].metadata() == {"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}


async def test_a_checkpoint_named_like_an_operation_goes_first(
    make_client: Any, tiny_store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(tiny_store, tmp_path / "store"))
    for ending in ("safetensors", "generate.onnx"):
        (store / f"tiny-gan-v1.{ending}").rename(store / f"tiny-vae-v1.decode.{ending}")
    client = await make_client(models_dir=store)
    body = (await client.get("/v2/models/tiny-vae-v1.decode")).json()
    assert body["properties"]["operation"] == "generate"
    assert [tensor["name"] for tensor in body["inputs"]] == ["seed"]


async def test_health_is_reported(
    make_client: Any, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    client = await make_client()
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}
    for name in ("tiny-gan-v1", "tiny-vae-v1.encode"):
        body = (await client.get(f"/v2/models/{name}/ready")).json()
        assert body == {"name": name, "ready": True}
    for path in ("/v2", "/v2/"):
        assert (await client.get(path)).json()["extensions"] == [
            "binary_tensor_data",
            "model_repository",
        ]

    service = app_of(client).state.service

    async def failing() -> dict[str, str]:
        return {"tiny-gan-v1": "no answer within 5 s"}

    with monkeypatch.context() as patch:
        patch.setattr(service.health, "failing_models", failing)
        assert "tiny-gan-v1: no answer" in refused(await client.get("/v2/health/ready"), 503)
        refused(await client.get("/v2/models/tiny-gan-v1/ready"), 503)
        assert (await client.get(f"{CGAN}/ready")).status_code == 200

    service.health.draining = True
    assert "stopping" in refused(await client.get(f"{CGAN}/ready"), 503)
    batcher_task(before).cancel()
    await asyncio.sleep(0)
    assert "restarted" in refused(await client.get("/v2/health/live"), 503)


async def test_the_index_has_every_model_and_what_is_not_served(
    make_client: Any, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client()
    service = app_of(client).state.service
    service.refused["broken-gan-v1.safetensors"] = "damaged or altered"

    async def failing() -> dict[str, str]:
        return {"tiny-vae-v1": "no answer"}

    monkeypatch.setattr(service.health, "failing_models", failing)
    entries = (await client.post("/v2/repository/index")).json()
    assert {entry["name"]: (entry["state"], entry["reason"]) for entry in entries} == {
        "tiny-cgan-v1": ("READY", ""),
        "tiny-gan-v1": ("READY", ""),
        "tiny-vae-v1": ("UNAVAILABLE", "no answer"),
        "tiny-vae-v1.decode": ("UNAVAILABLE", "no answer"),
        "tiny-vae-v1.encode": ("UNAVAILABLE", "no answer"),
        "broken-gan-v1": ("UNAVAILABLE", "damaged or altered"),
    }
    ready = (await client.post("/v2/repository/index", json={"ready": True})).json()
    assert [entry["name"] for entry in ready] == ["tiny-cgan-v1", "tiny-gan-v1"]
    for body in (b"[]", b'{"ready":1}', b'{"reddy":true}', b"null"):
        assert "empty" in refused(await client.post("/v2/repository/index", content=body), 400)
    refused(await client.post("/v2/repository/index", content=b" " * 1025), 413)


async def test_only_v2_has_the_protocols_errors(client: httpx.AsyncClient) -> None:
    for path in ("/v2x", "/v20/models", "/generate/v2", "/V2"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
    refused(await client.get("/v2/models"), 404)


async def test_the_openapi_has_the_protocol_with_its_own_errors(
    client: httpx.AsyncClient,
) -> None:
    spec = (await client.get("/openapi.json")).json()
    paths = {path: item for path, item in spec["paths"].items() if path.startswith("/v2")}
    assert set(paths) == {
        *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/repository/index"),
        *("/v2/models/{model}", "/v2/models/{model}/ready", "/v2/models/{model}/infer"),
        "/v2/models/{model}/versions/{version}",
        "/v2/models/{model}/versions/{version}/ready",
        "/v2/models/{model}/versions/{version}/infer",
    }
    for item in paths.values():
        for operation in item.values():
            assert operation["tags"] == ["open inference protocol"]
            assert "422" not in operation["responses"]
            for status, answer in operation["responses"].items():
                if "$ref" in answer:  # told once for all operations
                    name = answer["$ref"].rpartition("/")[2]
                    assert name.startswith("v2.")
                    answer = spec["components"]["responses"][name]
                if status != "200":
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/InferenceError"}
    infer = paths["/v2/models/{model}/infer"]["post"]
    assert {"400", "404", "413", "415", "429", "500", "503", "504"} < set(infer["responses"])
    assert set(infer["requestBody"]["content"]) == {
        *("application/json", "application/octet-stream"),
    }
    assert {p["name"] for p in infer["parameters"]} == {
        *("model", "Inference-Header-Content-Length", "X-Timeout-Ms"),
    }
    example = infer["requestBody"]["content"]["application/json"]["example"]
    assert (await client.post(f"{CGAN}/infer", json=example)).status_code == 200
