"""However large and whatever is in it, a body holds up the event loop for a bounded piece of work:
counted in bytes between two turns of the loop, and in jobs of the codec."""

import asyncio
import contextlib
import json

import httpx
import pytest
from starlette.requests import Request

from app.api.bodies.forms import form_file, form_files
from app.errors import MalformedBodyError, ServiceError
from app.formats.reading.chunks import jpeg_segments
from tests.hostile import form

TYPE = "multipart/form-data; boundary=x"
MIB = 2**20
JSON = {"content-type": "application/json"}


def request(content_type: str) -> Request:
    return Request({"type": "http", "headers": [(b"content-type", content_type.encode())]})


@pytest.mark.parametrize(
    "content",
    [
        bytes(2 * MIB),
        b"\r" * 2 * MIB,
        b"\r\n--" * (MIB // 2),
        b"\r\n--y" * (2 * MIB // 5),
        b"\r\n\r\n" * (MIB // 2),
    ],
    ids=["zeros", "CR", "CRLF--", "another boundary", "empty lines"],
)
async def test_a_form_is_searched_in_slices_between_which_others_have_their_turn(
    content: bytes,
) -> None:
    turns, done = 0, False

    async def others() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(others())
    body = form(('name="file"; filename="a"', content))
    assert await form_file(request(TYPE), body) == content
    done = True
    await counting
    assert turns >= len(body) // 2**18 - 1


@pytest.mark.parametrize(
    ("disposition", "content"),
    [
        ('name="file"; filename="a;name=b"', b"\r\n"),
        ("filename=a ; name=file", b""),
        ("name=file; filename*=utf-8''a", b"-x--\r\n"),
        ('name="file"; filename="\\""', b"\r\n--"),
        ('NAME="file"; FileName=""', b"-"),
        ('filename="a\'b";name=file;', b"\0" * 9),
    ],
)
async def test_a_file_is_found_however_its_part_is_described(
    disposition: str, content: bytes
) -> None:
    body = form((disposition, content))
    headed = body.replace(
        b"\r\n", b" \t\r\nContent-Type: image/png\r\nX: content-disposition: y\r\n", 1
    )
    for sent in (body, b"\r\n" + body, b"A preamble.\r\n" + body + b"An epilogue.", headed):
        assert await form_file(request(TYPE), sent) == content
        assert (
            await form_file(request('Multipart/Form-Data;a="; boundary=y";Boundary="x"'), sent)
            == content
        )
    both = form((disposition, content), (disposition, b"2"))
    assert await form_files(request(TYPE), both, 2, 3) == [content, b"2"]


@pytest.mark.parametrize(
    "given",
    [
        *("multipart/form-data", "multipart/form-data; boundary=", f"{TYPE}{'x' * 70}"),
        *(
            "multipart/form-data; " + '";' * 30_000,
            "multipart/form-data" + ";a=b" * 16 + ";boundary=x",
        ),
        'multipart/form-data; a="' + '\\"' * 30_000,
    ],
)
async def test_a_type_without_a_boundary_is_refused(given: str) -> None:
    with pytest.raises(MalformedBodyError, match="names no boundary"):
        await form_file(request(given), form(('name="file"; filename="a"', b"")))


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"--x", b"--x\r\n", b"--x--", b"--y--", b"--xx--", b"--x\r\n\r\n\r\n--x--"),
        *(b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n", b"--x y" + b"\r\n" * 9),
        b"--x\r\nContent-Disposition: attachment; name=file; filename=a\r\n\r\n\r\n--x--",
        b"--x\r\nA: " + b"a" * 8192 + form(('name="file"; filename="a"', b""))[3:],
    ],
)
async def test_what_is_no_whole_form_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        await form_file(request(TYPE), body)


LARGE = [
    ("/encode", b'{"images": [' + b"[]," * 30_000 + b"[]]}"),
    ("/encode", b'{"images": ["' + b"A" * 70_000 + b'"]}'),
    ("/encode", b'{"images": [' + b"{}," * 1000 + b"{}]}"),
    ("/decode", b'{"z": [' + b"{}," * 1000 + b"{}]}"),
    ("/interpolate", b'{"ends": [{"z": [' + b"0.5," * 20_000 + b'0]}, {"seed": 1}]}'),
    ("/traverse", b'{"z": [' + b"0.5," * 20_000 + b"0]}"),
    ("/v2/models/tiny-vae-v1.decode/infer", b'{"inputs": [' + b"{}," * 1000 + b"{}]}"),
]


@pytest.mark.parametrize(("path", "body"), LARGE, ids=lambda value: str(value)[:20])
async def test_a_large_json_body_is_parsed_in_a_process_that_can_be_ended(
    client: httpx.AsyncClient, path: str, body: bytes
) -> None:
    async def parsed() -> float:
        lines = (await client.get("/metrics")).text.splitlines()
        return sum(
            float(line.split()[-1])
            for line in lines
            if line.startswith("genserve_codec_jobs_total") and 'kind="parse"' in line
        )

    before = await parsed()
    response = await client.post(path, content=body, headers=JSON)
    assert 400 <= response.status_code < 500, response.text
    assert await parsed() == before + 1


async def test_a_latent_is_the_same_however_large_its_body_is(client: httpx.AsyncClient) -> None:
    row = [0.5, -1.25, 1000]
    small = json.dumps({"z": [row]}).encode()
    for body in (small, small + b" " * 70_000):
        response = await client.post("/decode?model=tiny-vae-v1", content=body, headers=JSON)
        assert response.status_code == (200 if body is small else 413)
    ends = json.dumps({"ends": [{"z": row}, {"z": [0, 0, 0]}]}).encode()
    pictures = [
        await client.post("/interpolate?model=tiny-vae-v1&steps=2", content=body, headers=JSON)
        for body in (ends, ends + b" " * 70_000)
    ]
    assert pictures[0].status_code == 200
    assert pictures[0].content == pictures[1].content


def test_the_segments_of_a_jpeg_are_found_without_a_step_for_each_byte() -> None:
    fill = b"\xff\xd8" + b"\xff" * 60_000 + b"\xe0\0\2" + b"\xff" * 3 + b"\xd9"
    assert [segment.marker for segment in jpeg_segments(fill, 9)] == [0xE0]
    with contextlib.suppress(ServiceError):
        for _ in jpeg_segments(b"\xff\xd8" + b"\xff" * 2 * MIB, 9):
            raise AssertionError("fill bytes alone are no segment")
