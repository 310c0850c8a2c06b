"""A dataset while it is sent: slow clients, clients that leave, failures."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.core.datasets.seed_streams import stream_seeds
from app.http.middleware import ResponseCutError
from tests.app.api.helpers import AppOf, images_generated

Messages = list[dict[str, Any]]


class Client:
    """One ASGI request whose client takes the answer as the test says."""

    def __init__(
        self, app: FastAPI, query: str, range_: str = "", address: str = "127.0.0.2"
    ) -> None:
        self.messages: Messages = []
        self.takes = asyncio.Event()
        self.left = asyncio.Event()
        self.asked = False
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET" if range_ else "POST",
            "scheme": "http",
            "path": "/dataset",
            "raw_path": b"/dataset",
            "query_string": query.encode(),
            "root_path": "",
            "headers": [
                (b"host", b"test"),
                *([(b"range", range_.encode())] if range_ else []),
            ],
            "client": (address, 1),
            "server": ("test", 80),
        }
        self.task = asyncio.ensure_future(app(scope, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body":
            while not self.takes.is_set() and not self.left.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0)  # a server stops waiting when the client has left

    @property
    def ended_well(self) -> bool:
        return any(m.get("more_body") is False for m in self.messages)


async def test_a_client_that_takes_nothing_holds_up_the_work_and_a_leaving_one_ends_it(
    make_client: Any, app_of: AppOf
) -> None:
    client = await make_client(max_datasets=1)
    app = app_of(client)
    service = app.state.service
    asked = Client(app, "n=100000")
    while len(asked.messages) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    # A tile of 8 is being sent, and two are ready behind it.
    assert await images_generated(client, app) == 3 * 8
    assert service.in_flight == 1

    refused = await client.post("/dataset?n=10")
    assert refused.status_code == 503
    assert refused.json()["type"] == "/problems/overloaded"
    assert int(refused.headers["retry-after"]) == refused.json()["retry_after"] >= 1
    assert (await client.post("/generate?label=7")).status_code == 200

    asked.left.set()
    await asked.task
    assert not asked.ended_well
    assert service.in_flight == 0
    assert await images_generated(client, app) == 3 * 8 + 1
    metrics = (await client.get("/metrics")).text
    assert 'genserve_requests_total{method="POST",route="/dataset",status="499"} 1.0' in metrics
    assert (await client.post("/dataset?n=10")).status_code == 200  # its place is free again


async def test_one_client_leaves_a_dataset_for_others(make_client: Any, app_of: AppOf) -> None:
    app = app_of(await make_client(max_datasets=4, max_share=0.5))

    async def asked(address: str) -> Client:
        client = Client(app, "n=100000", address=address)
        while len(client.messages) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return client

    def status(client: Client) -> int:
        return int(client.messages[0]["status"])

    clients = [await asked("127.0.0.2") for _ in range(3)]
    assert [status(client) for client in clients] == [200, 200, 429]
    assert b"2 datasets that are being generated are yours" in clients[2].messages[1]["body"]
    clients += [await asked("127.0.0.3") for _ in range(2)]
    assert [status(client) for client in clients[3:]] == [200, 429]
    for client in clients:
        client.left.set()
        await client.task
    freed = await asked("127.0.0.3")
    assert status(freed) == 200
    freed.left.set()
    await freed.task


async def test_a_client_that_leaves_before_its_part_of_the_file_is_reached_ends_the_work(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    app = app_of(client)
    asked = Client(app, "n=100000&seed=1&format=npz", "bytes=50000000-")
    while not app.state.service.in_flight:  # noqa: ASYNC110
        await asyncio.sleep(0)
    asked.left.set()
    await asked.task
    assert not asked.messages
    assert await images_generated(client, app) < 1000


async def test_an_early_failure_is_an_error_and_a_later_one_cuts_the_response(
    client: httpx.AsyncClient, app_of: AppOf
) -> None:
    app = app_of(client)
    batcher = app.state.service.batcher
    honest = batcher.calls.run
    bad = {*stream_seeds(45, "", 5, 6).tolist(), *stream_seeds(20, "", 30, 31).tolist()}

    def run(key: Any, rows: Any) -> Any:
        return [
            FloatingPointError() if row.seed in bad else image
            for row, image in zip(rows, honest(key, rows), strict=True)
        ]

    batcher.calls.run = run
    answer = await client.post("/dataset?seed=45&n=20")
    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/not-finite"
    assert answer.headers["content-type"] == "application/problem+json"

    for query in ("seed=20&n=60", "seed=20&n=60&format=npz"):
        asked = Client(app, query)
        asked.takes.set()
        with pytest.raises(ResponseCutError):  # the server closes the connection
            await asked.task
        assert asked.messages[0]["status"] == 200
        assert not asked.ended_well
    assert app.state.service.in_flight == 0
    assert (await client.post("/dataset?seed=51&n=20")).status_code == 200
