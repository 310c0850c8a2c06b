"""Resuming the download of a dataset, and its entity tag."""

import zipfile
from io import BytesIO
from typing import Any

import httpx
import pytest

from tests.app.api.helpers import AppOf, images_generated

Messages = list[dict[str, Any]]


REST = {"npz": "bytes={}-"}  # of the others nobody knows yet where they end
REST |= dict.fromkeys(("zip", "npz&compress=true"), "bytes={}-9007199254740991")


@pytest.mark.parametrize("form", ["zip", "npz", "npz&compress=true"])
async def test_a_range_with_the_etag_resumes_a_file(client: httpx.AsyncClient, form: str) -> None:
    query = f"/dataset?n=43&seed=100&format={form}"
    whole = await client.get(query)
    etag, size = whole.headers["etag"], len(whole.content)
    assert whole.headers["accept-ranges"] == "bytes"
    for skip in (0, 1, size // 3, size // 2, size - 1):
        asked = {"range": REST[form].format(skip), "if-range": etag}
        answer = await client.get(whole.headers["content-location"], headers=asked)
        assert answer.status_code == 206
        assert answer.content == whole.content[skip:]
        assert answer.headers["etag"] == etag
        last = f"{size - 1}/{size}" if form == "npz" else "9007199254740991/*"
        assert answer.headers["content-range"] == f"bytes {skip}-{last}"
        if form == "npz":
            assert int(answer.headers["content-length"]) == size - skip
    for skip in (size, size + 1000):
        refused = await client.get(query, headers={"range": REST[form].format(skip)})
        assert refused.status_code == 416
        assert refused.headers["content-range"] == f"bytes */{size}"
        assert refused.json()["type"] == "/problems/range-not-satisfiable"


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("seed=100", {"range": "bytes=9-9007199254740991", "if-range": '"another"'}),
        ("seed=100", {"range": "bytes=9-9007199254740991", "if-range": "Wed, 1 Jan 2025 00:00:00"}),
        ("seed=100", {"range": "bytes=9-"}),  # nobody knows yet where a ZIP ends
        ("seed=100", {"range": "bytes=9-5"}),
        ("seed=100", {"range": "bytes=-5"}),
        ("seed=100", {"range": "bytes=0-5,9-9007199254740991"}),
        ("seed=100", {"range": "lines=9-9007199254740991"}),
        ("seed=100&format=npz", {"range": "bytes=9-99"}),
        ("label=7", {"range": "bytes=9-9007199254740991"}),  # its seed is drawn: another file
    ],
)
async def test_other_ranges_are_answered_with_the_whole(
    client: httpx.AsyncClient, query: str, asked: dict[str, str]
) -> None:
    answer = await client.get(f"/dataset?n=20&{query}", headers=asked)
    assert answer.status_code == 200
    assert "content-range" not in answer.headers
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
    if "seed" in query:
        posted = await client.post(f"/dataset?n=20&{query}", headers=asked)
        assert (posted.status_code, posted.content) == (200, answer.content)


async def test_the_tag_is_of_the_file_and_saves_making_it(
    client: httpx.AsyncClient, app_of: AppOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await client.get("/dataset?n=20&seed=1")
    etag = first.headers["etag"]
    pinned = await client.get(first.headers["content-location"])
    assert pinned.headers["etag"] == etag
    for other in ("n=21&seed=1", "n=20&seed=2", "n=20&seed=1&label=7", "n=20&seed=1&format=npz"):
        assert (await client.get(f"/dataset?{other}")).headers["etag"] != etag
    before = await images_generated(client, app_of(client))
    same = await client.get("/dataset?n=20&seed=1", headers={"if-none-match": etag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    head = await client.head("/dataset?n=20&seed=1", headers={"range": "bytes=9-9007199254740991"})
    assert (head.status_code, head.headers["etag"]) == (200, etag)
    assert await images_generated(client, app_of(client)) == before
    assert "etag" not in (await client.get("/dataset?n=20")).headers
    grades = app_of(client).state.service.engine.reproducibility
    monkeypatch.setitem(grades, "tiny-cgan-v1", "visual")
    rough = await client.get("/dataset?n=20&seed=1", headers={"range": "bytes=9-9007199254740991"})
    assert rough.status_code == 200
    assert not {"etag", "accept-ranges"} & set(rough.headers)
