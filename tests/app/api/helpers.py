"""Shared by the tests of the interface: pictures, pixels, and the check of an error response."""

import asyncio
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from PIL import Image as PillowImage

from app.formats.png import to_png

AppOf = Callable[[httpx.AsyncClient], FastAPI]
PNG = {"content-type": "image/png"}


def pixels(png: bytes) -> Any:
    """The pixels of a picture, (H, W) or (H, W, C)."""
    with PillowImage.open(BytesIO(png)) as picture:
        return np.asarray(picture)


def picture(value: int = 200) -> bytes:
    """A PNG of 28 x 28 pixels of one grey level."""
    return to_png(np.full((28, 28), value, dtype=np.uint8))


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The body of an error response, which has this status and slug."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"/problems/{slug}"
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    return body


async def images_generated(client: httpx.AsyncClient, app: FastAPI) -> float:
    """Images that the tiny conditional GAN has generated, once it generates no more."""
    batcher = app.state.service.batcher
    counter = 'genserve_images_total{model="tiny-cgan-v1",operation="generate"}'
    before = -1.0
    while True:
        while batcher.waiting_in_background or batcher.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        lines = (await client.get("/metrics")).text.splitlines()
        (now,) = (float(line.split()[-1]) for line in lines if counter in line)
        if now == before:
            return now
        before = now
        await asyncio.sleep(0.05)
