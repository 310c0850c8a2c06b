"""Clients that others wrote or generated, against the shipped models."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.other_clients.conftest import Environment, run

pytestmark = pytest.mark.slow

KSERVE = """
import asyncio, sys
import numpy as np
from kserve import InferInput, InferRequest, InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(sys.argv[1])
    assert await client.is_model_ready(sys.argv[1], "mnist-cgan-v7")
    found = []
    for binary in (False, True):
        seed, label = InferInput("seed", [2], "INT64"), InferInput("label", [2], "INT64")
        seed.set_data_from_numpy(np.array([42, 7]), binary_data=binary)
        label.set_data_from_numpy(np.array([7, 3]), binary_data=binary)
        wanted = [RequestedOutput("image", parameters={"binary_data": binary})]
        request = InferRequest("mnist-cgan-v7", [seed, label], request_outputs=wanted)
        answer = await client.infer(sys.argv[1], request, model_name="mnist-cgan-v7")
        assert answer.model_name == "mnist-cgan-v7"
        (image,) = [output.as_numpy() for output in answer.outputs]
        assert (image.shape, image.dtype) == ((2, 28, 28), np.uint8), (image.shape, image.dtype)
        found.append(image)
    np.testing.assert_array_equal(*found)
    other = InferRequest("mnist-gan-v8", [seed])
    try:
        await client.infer(sys.argv[1], other, model_name="mnist-cgan-v7")
    except Exception as error:
        assert "400" in repr(error), repr(error)
    else:
        raise AssertionError("another model's name was taken")
    print("inferred", image[0].sum())

asyncio.run(main())
"""

TRITON = """
import sys
import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

client = InferenceServerClient(sys.argv[1].removeprefix("http://"))
assert client.is_server_ready() and client.is_model_ready("cgan")
found = []
for binary in (False, True):
    seed = InferInput("seed", [2], "INT64")
    seed.set_data_from_numpy(np.array([42, 7]), binary_data=binary)
    wanted = [InferRequestedOutput("image", binary_data=binary)]
    found.append(client.infer("mnist-cgan-v7", [seed], outputs=wanted).as_numpy("image"))
np.testing.assert_array_equal(*found)
print("inferred")
"""

GENERATED = """
import base64, sys
from genserve_api import Client
from genserve_api.api.images import dataset, generate_get, verify
from genserve_api.models import *
from genserve_api.types import File
from io import BytesIO

client = Client(base_url=sys.argv[1])
answer = generate_get.sync(client=client, label="7", seed=42, format_=GenerateGetFormat("json"))
png = base64.b64decode(answer.items[0].image)
assert png.startswith(b"\\x89PNG"), answer
drawn = generate_get.sync(client=client, seed=9007199254740991, format_=GenerateGetFormat("json"))
assert drawn.items[0].seed == 9007199254740991
archive = dataset.sync_detailed(client=client, n=3, seed=1)
assert archive.status_code == 200 and archive.content.startswith(b"PK"), archive.content
file = File(payload=BytesIO(png), mime_type="image/png", file_name="7.png")
checked = verify.sync_detailed(client=client, body=VerifyFilesBody(file=file))
assert checked.parsed.verdict == "same", checked.content
print("made and verified", len(png))
"""


def test_kserves_client_infers_in_json_and_binary(shipped: Any, environment: Environment) -> None:
    assert run(environment("kserve==0.21.0"), KSERVE, shipped.url).startswith("inferred")


def test_tritons_client_infers_by_name_and_alias(shipped: Any, environment: Environment) -> None:
    python = environment("tritonclient[http]==2.73.0")
    assert run(python, TRITON, shipped.url) == "inferred\n"


def test_a_generated_python_client_makes_and_verifies_a_picture(
    shipped: Any, environment: Environment, tmp_path: Path
) -> None:
    python = environment("openapi-python-client==0.29.1")
    command = [str(python.with_name("openapi-python-client")), "generate", "--meta", "none"]
    command += ["--path", str(ROOT / "docs/openapi.json"), "--output-path", "genserve_api"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(python, GENERATED, shipped.url, cwd=tmp_path).startswith("made and verified")


HUGGING_FACE = """
import sys
from datasets import load_dataset

loaded = load_dataset("imagefolder", data_files={"train": sys.argv[1], "test": sys.argv[2]})
train, test = loaded["train"], loaded["test"]
assert (len(train), len(test)) == (30, 20), loaded
assert train["label"] == [i % 10 for i in range(30)], train["label"]
assert not set(train["seed"]) & set(test["seed"])
assert train[0]["image"].size == (28, 28)
print("loaded", sorted(train.column_names))
"""


def test_hugging_face_loads_an_archive_as_it_is(
    shipped: Any, environment: Environment, tmp_path: Path
) -> None:
    from genserve import Client

    python = environment("datasets==5.2.0", "pillow")
    with Client(shipped.url) as client:
        client.dataset(tmp_path / "train.zip", n=30, seed=1, split="train")
        client.dataset(tmp_path / "test.zip", n=20, seed=1, split="test")
    files = [str(tmp_path / "train.zip"), str(tmp_path / "test.zip")]
    code = f"import os; os.environ['HF_HOME'] = {str(tmp_path / 'hf')!r}\n{HUGGING_FACE}"
    assert run(python, code, *files) == "loaded ['image', 'label', 'name', 'seed']\n"
