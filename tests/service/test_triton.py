"""The Open Inference Protocol of the shipped service, as NVIDIA's own client speaks it."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http.aio
from tritonclient.http import (
    InferenceServerClient,
    InferenceServerException,
    InferInput,
    InferRequestedOutput,
)

from tests.shipped import CGAN, GAN, SIGNS, SIGNS_VAE, STORE, VAE
from training.networks.header import read

LATENT_DIM = read(STORE / f"{VAE}.safetensors").description.network.latent_dim
MODELS = {CGAN, GAN, SIGNS}.union(
    f"{vae}{part}" for vae in (VAE, SIGNS_VAE) for part in ("", ".decode", ".encode")
)


def address(server: Any) -> str:
    return str(server.url).removeprefix("http://")


@pytest.fixture(scope="module")
def triton(shipped: Any) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(address(shipped), concurrency=8) as client:
        yield client


def tensor(name: str, array: Any, datatype: str = "INT64", binary: bool = True) -> InferInput:
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def drawn(server: Any, query: str) -> Any:
    """What /generate gives as npy."""
    answer = httpx.get(f"{server.url}/generate?{query}&format=npy")
    return np.load(BytesIO(answer.content), allow_pickle=False)


def test_the_server_and_every_model_are_ready(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    for name in MODELS:
        assert triton.is_model_ready(name)
        assert triton.is_model_ready(name, "1")
        assert not triton.is_model_ready(name, "2")
    assert not triton.is_model_ready("nobody")
    told = triton.get_server_metadata()
    assert told["name"] == "genserve"
    assert told["extensions"] == ["binary_tensor_data", "model_repository"]
    index = triton.get_model_repository_index()
    assert {entry["name"] for entry in index} == MODELS
    assert {(entry["state"], entry["version"]) for entry in index} == {("READY", "1")}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_takes_and_returns_what_its_metadata_says(
    triton: InferenceServerClient, name: str
) -> None:
    told = triton.get_model_metadata(name)
    assert told == triton.get_model_metadata(name, "1")
    assert told["platform"] == "onnx_onnxv1"
    dtypes = {"INT64": np.int64, "UINT8": np.uint8, "FP32": np.float32, "BYTES": np.object_}
    inputs = []
    for end in told["inputs"]:
        shape = [3 if side == -1 else side for side in end["shape"]]
        zeros = np.zeros(shape, dtypes[end["datatype"]])
        inputs.append(tensor(end["name"], zeros, end["datatype"]))
    outputs = [InferRequestedOutput(end["name"]) for end in told["outputs"]]
    result = triton.infer(name, inputs, outputs=outputs)
    assert result.get_response()["model_name"] == name
    for end in told["outputs"]:
        array = result.as_numpy(end["name"])
        assert result.get_output(end["name"])["datatype"] == end["datatype"]
        assert array.dtype == dtypes[end["datatype"]]
        assert list(array.shape) == [3 if side == -1 else side for side in end["shape"]]


@pytest.mark.parametrize("sent_binary", [True, False])
@pytest.mark.parametrize("got_binary", [True, False, None])
def test_images_are_those_of_generate_in_every_mix_of_json_and_binary(
    triton: InferenceServerClient, shipped: Any, sent_binary: bool, got_binary: bool | None
) -> None:
    numbers, labels = np.array([42, 7, 2**53 - 1]), np.array([[7], [0], [9]])
    inputs = [
        tensor("seed", numbers.astype(np.uint64), "UINT64", binary=sent_binary),
        tensor("label", labels, binary=not sent_binary),
    ]
    outputs = None
    if got_binary is not None:
        outputs = [
            InferRequestedOutput("label", binary_data=not got_binary),
            InferRequestedOutput("image", binary_data=got_binary),
            InferRequestedOutput("seed", binary_data=got_binary),
        ]
    result = triton.infer(CGAN, inputs, "1", outputs=outputs, request_id="mine-\u00e9")
    assert result.get_response()["id"] == "mine-\u00e9"
    names = [output["name"] for output in result.get_response()["outputs"]]
    # Nobody asked for PNGs; the others come in the order asked for.
    assert names == (["image", "seed", "label"] if outputs is None else ["label", "image", "seed"])
    np.testing.assert_array_equal(result.as_numpy("seed"), numbers)
    np.testing.assert_array_equal(result.as_numpy("label"), labels[:, 0])
    images = result.as_numpy("image")
    assert images.dtype == np.uint8
    for image, number, label in zip(images, numbers, labels[:, 0], strict=True):
        np.testing.assert_array_equal(image, drawn(shipped, f"label={label}&seed={number}")[0])


def test_pngs_are_the_bytes_of_generate(triton: InferenceServerClient, shipped: Any) -> None:
    numbers, labels = np.array([42, 7]), np.array([7, 3])
    inputs = [tensor("seed", numbers), tensor("label", labels)]
    result = triton.infer(CGAN, inputs, outputs=[InferRequestedOutput("png")])
    for png, number, label in zip(result.as_numpy("png"), numbers, labels, strict=True):
        query = f"model={CGAN}&label={label}&seed={number}"
        assert png == httpx.get(f"{shipped.url}/generate?{query}").content


def test_without_inputs_seeds_are_drawn_and_returned(
    triton: InferenceServerClient, shipped: Any
) -> None:
    results = [triton.infer(GAN, [], parameters={"n": 5}) for _ in range(2)]
    seeds = [result.as_numpy("seed") for result in results]
    assert seeds[0].tolist() != seeds[1].tolist()
    query = f"model={GAN}&n=5&seed={seeds[0][0]}"
    np.testing.assert_array_equal(results[0].as_numpy("image"), drawn(shipped, query))


def test_many_at_once_get_their_own_images(triton: InferenceServerClient, shipped: Any) -> None:
    expected = drawn(shipped, "n=24&seed=1000&label=5")
    waiting = [
        triton.async_infer(
            CGAN, [tensor("seed", np.array([1000 + index])), tensor("label", np.array([5]))]
        )
        for index in range(24)
    ]
    images = [request.get_result().as_numpy("image")[0] for request in waiting]
    np.testing.assert_array_equal(np.stack(images), expected)


def test_pictures_are_encoded_and_decoded_as_by_the_other_routes(
    triton: InferenceServerClient, shipped: Any
) -> None:
    pixels = drawn(shipped, "n=2&seed=3&label=8")
    encoded = triton.infer(f"{VAE}.encode", [tensor("image", pixels, "UINT8")])
    mu = encoded.as_numpy("mu")
    png = httpx.get(f"{shipped.url}/generate?seed=3&label=8").content
    headers = {"content-type": "image/png"}
    (item,) = httpx.post(f"{shipped.url}/encode", content=png, headers=headers).json()["items"]
    assert mu[0].tolist() == item["mu"]
    assert encoded.as_numpy("logvar")[0].tolist() == item["logvar"]
    decoded = triton.infer(f"{VAE}.decode", [tensor("z", mu, "FP32")])
    answer = httpx.post(f"{shipped.url}/decode?format=npy", json={"z": mu.tolist()})
    expected = np.load(BytesIO(answer.content), allow_pickle=False)
    np.testing.assert_array_equal(decoded.as_numpy("image"), expected)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_requests_are_read(triton: InferenceServerClient, coding: str) -> None:
    result = triton.infer(
        CGAN,
        [tensor("seed", np.array([42]))],
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    assert result.as_numpy("seed").tolist() == [42]


@pytest.mark.parametrize(
    ("model", "version", "inputs", "options", "status", "says"),
    [
        ("nobody", "", [], {}, "404", f"available: {CGAN}"),
        (CGAN, "3", [], {}, "404", "only version is 1"),
        (CGAN, "", [tensor("seed", np.zeros((2, 2), int))], {}, "400", "must be [n]"),
        (CGAN, "", [tensor("seed", np.zeros(65, int))], {}, "400", "n from 1 to 64"),
        (CGAN, "", [tensor("seed", np.array([-1]))], {}, "400", "0 to 9007199254740991"),
        (CGAN, "", [tensor("label", np.array([10]))], {}, "400", "0 to 9"),
        (CGAN, "", [tensor("z", np.zeros((1, 64), "f4"), "FP32")], {}, "400", "seed, label"),
        (CGAN, "", [tensor("seed", np.zeros(1, "i4"), "INT32")], {}, "400", "INT64 or UINT64"),
        (
            f"{VAE}.decode",
            "",
            [tensor("z", np.full((1, LATENT_DIM), np.nan, "f4"), "FP32")],
            {},
            "400",
            "-1000 to 1000",
        ),
        (f"{VAE}.encode", "", [], {}, "400", "no input image"),
        (CGAN, "", [], {"outputs": [InferRequestedOutput("x")]}, "400", "known: image, png"),
        (
            CGAN,
            "",
            [],
            {"outputs": [InferRequestedOutput("png", binary_data=False)]},
            "400",
            "binary_data to true",
        ),
        (CGAN, "", [], {"priority": 1}, "400", "'priority', which is unknown"),
        (CGAN, "", [], {"headers": {"X-Timeout-Ms": "soon"}}, "400", "plain digits"),
        (CGAN, "", [], {"headers": {"Content-Type": "text/html"}}, "415", "application/json"),
        (CGAN, "", [], {"query_params": {"label": "7"}}, "400", "unknown parameter 'label'"),
    ],
)
def test_errors_reach_the_caller_in_words(
    triton: InferenceServerClient,
    model: str,
    version: str,
    inputs: list[InferInput],
    options: dict[str, Any],
    status: str,
    says: str,
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        triton.infer(model, inputs, version, **options)
    assert caught.value.status() == status
    assert says in caught.value.message()
    # The next one is answered, on a connection of the same client.
    result = triton.infer(CGAN, [tensor("seed", np.array([42]))])
    assert result.as_numpy("image").shape == (1, 28, 28)


def test_metadata_of_an_unknown_model_is_an_error(triton: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="unknown model 'nobody'"):
        triton.get_model_metadata("nobody")
    with pytest.raises(InferenceServerException, match="nothing at"):
        triton.get_inference_statistics(CGAN)


def test_overload_is_refused_with_retry_after(start_server: Any) -> None:
    # The queue holds one request, of many calls: whatever comes between two of them finds it full.
    with start_server("--workers", "1", "--queue-limit", "2048", "--max-n", "2048") as server:
        with InferenceServerClient(address(server), concurrency=4) as triton:
            refusals: list[InferenceServerException] = []
            waiting = [triton.async_infer(CGAN, [], parameters={"n": 2048}) for _ in range(4)]
            for request in waiting:
                try:
                    assert request.get_result().as_numpy("image").shape == (2048, 28, 28)
                except InferenceServerException as error:
                    refusals.append(error)
        assert {error.status() for error in refusals} == {"503"}  # and there were some
        assert all("there is no room for these; try again in" in str(e) for e in refusals)


async def test_the_asynchronous_client_works_too(shipped: Any) -> None:
    async with tritonclient.http.aio.InferenceServerClient(address(shipped)) as triton:
        assert await triton.is_server_ready()
        assert (await triton.get_model_metadata(CGAN))["name"] == CGAN
        result = await triton.infer(
            CGAN, [tensor("seed", np.array([42])), tensor("label", np.array([7]))]
        )
        expected = drawn(shipped, "label=7&seed=42")
        np.testing.assert_array_equal(result.as_numpy("image"), expected)
        with pytest.raises(InferenceServerException, match="unknown model"):
            await triton.infer("nobody", [])
