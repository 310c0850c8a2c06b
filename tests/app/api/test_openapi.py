"""What the OpenAPI says of refusals is what a service over a socket does."""

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from app.errors import PROBLEMS
from app.main import create_app
from app.rendering.schemas import Problem
from app.settings import Settings
from tests.conftest import MakeClient

KEY = "k" * 16
MULTIPART = "multipart/form-data"
WITH_KEY = {"authorization": f"Bearer {KEY}"}
PUBLIC = {"host": "example.com"}
FOREIGN = {"origin": "https://example.com"} | WITH_KEY
HUGE = {"x-a": "a" * 70_000}

REFUSED: list[tuple[str, str, dict[str, str], int]] = [
    ("get", "/generate", {}, 401),
    ("get", "/models", {}, 401),
    ("get", "/v2", {}, 401),
    ("post", "/v2/models/{model}/infer", {}, 401),
    ("post", "/generate", FOREIGN, 403),
    ("post", "/v2/repository/index", FOREIGN, 403),
    ("get", "/models", PUBLIC, 421),
    ("get", "/problems", PUBLIC, 421),
    ("get", "/v2", PUBLIC, 421),
    ("get", "/status", {"host": "a b"}, 400),
    ("get", "/v2", {"host": "a b"}, 400),
    ("get", "/generate", HUGE, 431),
    ("get", "/livez", HUGE, 431),
    ("get", "/v2", HUGE, 431),
    ("post", "/v2/models/{model}/infer", HUGE, 431),
]


@pytest.fixture(scope="module")
def spec() -> Any:
    return create_app(Settings()).openapi()


@pytest.fixture(scope="module")
async def keyed(wires: MakeClient) -> httpx.AsyncClient:
    """A client without a key of a service that asks for one."""
    made: httpx.AsyncClient = await wires(api_keys=KEY)
    return made


def answer_of(spec: Any, method: str, path: str, status: int) -> Any:
    """What the document says of an answer."""
    found = spec["paths"][path][method]["responses"][str(status)]
    if "$ref" in found:
        found = spec["components"]["responses"][found["$ref"].rpartition("/")[2]]
    return found


def is_told(spec: Any, method: str, path: str, answer: httpx.Response) -> bool:
    """Whether an error has the form that the document gives it, and is among its examples."""
    (media,) = told = answer_of(spec, method, path, answer.status_code)["content"]
    schema = told[media]["schema"]["$ref"].rpartition("/")[2]
    assert set(spec["components"]["schemas"][schema]["required"]) <= set(answer.json())
    changing = {"request_id": None, "retry_after": None}
    examples = [example["value"] | changing for example in told[media]["examples"].values()]
    assert answer.json() | changing in examples
    return bool(answer.headers["content-type"] == media)


@pytest.mark.parametrize(("method", "path", "headers", "status"), REFUSED)
async def test_what_is_refused_before_the_operation_is_declared(
    keyed: httpx.AsyncClient,
    spec: Any,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
) -> None:
    address = path.replace("{model}", "tiny-gan-v1")
    answer = await keyed.request(method, address, headers=headers)
    assert answer.status_code == status
    assert is_told(spec, method, path, answer)


async def test_a_long_address_is_refused_in_each_interfaces_own_form(
    wire: httpx.AsyncClient, spec: Any
) -> None:
    def get(address: str) -> httpx.Response:  # httpx itself sends none of this length
        with contextlib.closing(HTTPConnection(wire.base_url.host, wire.base_url.port)) as line:
            line.request("GET", address)
            found = line.getresponse()
            return httpx.Response(found.status, headers=found.getheaders(), content=found.read())

    for path in ("/generate", "/v2"):
        answer = await asyncio.to_thread(get, f"{path}?a={'a' * 65_536}")
        assert answer.status_code == 414
        assert is_told(spec, "get", path, answer)


async def test_a_key_is_declared_where_one_is_needed(keyed: httpx.AsyncClient, spec: Any) -> None:
    (scheme,) = spec["components"]["securitySchemes"]
    for path, item in spec["paths"].items():
        address = path.replace("{", "").replace("}", "")
        for method, operation in item.items():
            answer = await keyed.request(method, address)
            needed = answer.status_code == 401
            assert operation.get("security", []) == ([{}, {scheme: []}] if needed else []), path
            assert ("401" in operation["responses"]) == needed


async def test_what_an_operation_reads_gives_and_knows_is_in_its_examples(
    wire: httpx.AsyncClient, spec: Any
) -> None:
    """A type that it does not give, one that it does not read, and a parameter that it has not."""
    tried = 0
    for path, item in spec["paths"].items():
        model = "tiny-vae-v1" if path.startswith("/v2") else "tiny-cgan-v1"
        address = path.replace("{model}", model).replace("{name}", model).replace("{version}", "1")
        address = address.replace("{slug}", "overloaded").replace("{file}", "samples.png")
        for method, operation in item.items():
            answers = [await wire.request(method, address, params={"colour": "red"})]
            if "406" in operation["responses"]:
                refusing = {"accept": "text/plain"}
                told = operation.get("requestBody", {}).get("content", {})
                if "image/png" in told:
                    continue  # the body is looked at first
                answers.append(await wire.request(method, address, headers=refusing))
            if "415" in operation["responses"]:
                answers.append(
                    await wire.request(
                        method, address, content=b"hello", headers={"content-type": "text/plain"}
                    )
                )
            for answer in answers:
                assert answer.status_code in (400, 406, 415, 422), (method, path, answer.text)
                problem = answer.json() | {"errors": None}
                known = answer_of(spec, method, path, answer.status_code)["content"]
                ((media, content),) = known.items()
                assert answer.headers["content-type"] == media
                details = {
                    example["value"].get("detail", example["value"].get("error"))
                    for example in content["examples"].values()
                }
                assert problem.get("detail", problem.get("error")) in details, (method, path)
                tried += 1
    assert tried > 40


def test_every_error_has_an_example_of_its_own_form(spec: Any) -> None:
    shown = {
        slug: example["value"]
        for answer in spec["components"]["responses"].values()
        for media, content in answer["content"].items()
        for slug, example in content["examples"].items()
        if media == "application/problem+json"
    }
    # 405 is of methods that are no operation.
    assert set(shown) == set(PROBLEMS) - {"method-not-allowed"}
    assert len({error.example for error in PROBLEMS.values()}) == len(PROBLEMS)
    for slug, value in shown.items():
        assert Problem.model_validate(value).type == f"/problems/{slug}"


def test_no_operation_declares_errors_of_others(spec: Any) -> None:
    told = {
        operation["operationId"]: {
            slug
            for status in operation["responses"]
            for content in answer_of(spec, method, path, status).get("content", {}).values()
            for slug in content.get("examples", {})
        }
        for path, item in spec["paths"].items()
        for method, operation in item.items()
    }
    assert {name for name, slugs in told.items() if "no-recipe" in slugs} == {"verify"}
    assert {name for name, slugs in told.items() if "range-not-satisfiable" in slugs} == {
        "dataset_get"
    }
    pictured = {"encode", "reconstruct", "interpolate", "traverse", "verify"}
    assert {name for name, slugs in told.items() if "unreadable-image" in slugs} == pictured
    # FastAPI's own account of 422, whose form no answer has, is gone.
    assert "HTTPValidationError" not in str(spec)


def test_errors_declare_their_headers(spec: Any) -> None:
    said = {
        (status, header)
        for path, item in spec["paths"].items()
        for method, operation in item.items()
        for status in operation["responses"]
        for header in answer_of(spec, method, path, status).get("headers", {})
    }
    assert {
        *(("401", "WWW-Authenticate"), ("416", "Content-Range"), ("503", "Retry-After")),
        *(("429", "Retry-After"), ("429", "RateLimit"), ("429", "RateLimit-Policy")),
    } <= said


async def test_the_openapi_states_what_the_service_does(make_client: Any) -> None:
    client = await make_client(max_n=17)
    spec = (await client.get("/openapi.json")).json()
    assert spec["openapi"].startswith("3.1")
    generate = spec["paths"]["/generate"]["post"]
    assert "image/png" in generate["responses"]["200"]["content"]
    n = next(p for p in generate["parameters"] if p["name"] == "n")
    assert n["schema"]["maximum"] == 17
    operations = [op for path in spec["paths"].values() for op in path.values()]
    assert all(op["operationId"] and op["tags"] for op in operations)
    text = json.dumps(spec)
    assert "HTTPValidationError" not in text
    known = spec["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in known


def parts_of(spec: Any, name: str) -> Iterator[Any]:
    """Every part of the document that has this name in it, examples aside."""
    if isinstance(spec, list):
        for item in spec:
            yield from parts_of(item, name)
    elif isinstance(spec, dict):
        if name in spec:
            yield spec
        for key, item in spec.items():
            if key not in ("example", "examples"):
                yield from parts_of(item, name)


def test_every_integer_that_can_pass_32_bits_says_so(spec: Any) -> None:
    integers = [part for part in parts_of(spec, "type") if part["type"] == "integer"]
    large = [part for part in integers if part.get("maximum", 2**53) >= 2**31]
    assert len(integers) > len(large) > 20
    assert [part for part in large if part.get("format") != "int64"] == []
    item = spec["components"]["schemas"]["ImageItem"]["properties"]["seed"]
    assert {"type": "integer", "format": "int64"}.items() <= item["anyOf"][0].items()


def test_every_binary_media_type_is_declared_binary(spec: Any) -> None:
    contents = [part["content"] for part in parts_of(spec, "content")]
    binary = [
        (media, described.get("schema"))
        for content in contents
        for media, described in content.items()
        if not re.fullmatch(r"text/.*|.*json|multipart/form-data|.*/openmetrics-text", media)
    ]
    assert {media for media, _ in binary} >= {"image/png", "application/zip", "application/x-npy"}
    for media, schema in binary:
        assert schema == {"type": "string", "format": "binary"}, media
    forms = [content[MULTIPART] for content in contents if MULTIPART in content]
    assert forms
    for form in forms:
        files = form["schema"]["properties"]["file"]
        assert files.get("items", files) == {"type": "string", "format": "binary"}
