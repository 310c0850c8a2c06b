"""Shared by the tests of the Open Inference Protocol: a good request, and checks of responses."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI

AppOf = Callable[[httpx.AsyncClient], FastAPI]

CGAN = "/v2/models/tiny-cgan-v1"

SIZE = "inference-header-content-length"


def seven(**members: Any) -> dict[str, Any]:
    """A good request: a seven of seed 42."""
    inputs = [
        {"name": "seed", "shape": [1], "datatype": "INT64", "data": [42]},
        {"name": "label", "shape": [1], "datatype": "INT64", "data": [7]},
    ]
    return {"inputs": inputs, "outputs": [{"name": "image"}]} | members


def outputs_of(answer: httpx.Response) -> dict[str, Any]:
    """The outputs of a JSON response, as arrays."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return {
        output["name"]: np.array(output["data"]).reshape(output["shape"])
        for output in answer.json()["outputs"]
    }


async def generated(client: httpx.AsyncClient, query: str) -> Any:
    """The images of /generate, (n, H, W)."""
    answer = await client.get(f"/generate?{query}&format=npy")
    return np.load(BytesIO(answer.content), allow_pickle=False)


def refused(answer: httpx.Response, status: int) -> str:
    """The text of an error response in the protocol's form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert list(answer.json()) == ["error"]
    assert len(answer.content) < 1000
    assert answer.text.isascii()
    text: str = answer.json()["error"]
    assert text
    return text


async def is_right(client: httpx.AsyncClient) -> None:
    """A good request returns the image of /generate."""
    answer = await client.post(f"{CGAN}/infer", json=seven())
    expected = await generated(client, "label=7&seed=42")
    np.testing.assert_array_equal(outputs_of(answer)["image"], expected)
