"""Addresses, keys, proxies, and other programs at the service's address."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genserve import (
    AsyncClient,
    Client,
    GenserveError,
    InvalidResponseError,
    ProblemError,
    UnreachableError,
    calls,
)

Call = Callable[..., Any]
OtherProgram = Callable[..., Any]

MODELS = b'{"models": []}'


def test_no_service_and_another_program_are_different_errors(
    call: Call, tmp_path: Path, other_program: OtherProgram
) -> None:
    with pytest.raises(
        UnreachableError, match=r"no complete response from http://127\.0\.0\.1:1: "
    ):
        call("http://127.0.0.1:1", "models")
    with other_program(200, b"<html>hello</html>", "text/html") as (url, _):
        for method in ("generate", "models"):
            with pytest.raises(InvalidResponseError, match=r"Genserve: 18 bytes \(text/html\)"):
                call(url, method)
        with pytest.raises(InvalidResponseError, match="not a dataset of Genserve"):
            call(url, "dataset", tmp_path / "x.zip")
    assert not list(tmp_path.iterdir())
    with (
        other_program(200, b'{"model": "m", "items": [{"image": "?"}]}') as (url, _),
        pytest.raises(InvalidResponseError, match="not a response of Genserve"),
    ):
        call(url, "generate")
    with other_program(502, b"<html>bad gateway</html>", "text/html") as (url, _):
        with pytest.raises(ProblemError, match="not a response of Genserve") as caught:
            call(url, "generate")
        assert caught.value.status == 502


def test_a_response_in_another_format_is_not_returned_as_a_file(
    other_program: OtherProgram,
) -> None:
    requests = (calls.generate().file("png"), calls.models().raw(), calls.model("..").raw())
    with other_program(200, b"<html>log in</html>", "text/html") as (url, _), Client(url) as client:
        for request in requests:
            with pytest.raises(InvalidResponseError, match=r"Genserve: 19 bytes \(text/html\)"):
                client.send(request)
    with (
        other_program(200, b"{") as (url, _),
        Client(url) as client,
        pytest.raises(InvalidResponseError, match="not a response of Genserve"),
    ):
        client.send(calls.models().raw())


def test_a_redirect_is_reported_and_not_followed(call: Call, other_program: OtherProgram) -> None:
    with (
        other_program(301, b"", "text/html", Location="https://example.com/") as (url, requests),
        pytest.raises(ProblemError, match=r"it redirects to 'https://example\.com/'") as caught,
    ):
        call(url, "models")
    assert (caught.value.status, len(requests)) == (301, 1)


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_unusable_proxies_of_the_environment_are_reported(
    client: type[Client] | type[AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    for proxy in ("http://a b:x", "socks4://127.0.0.1:9"):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(GenserveError, match="the environment's proxies"):
            client("http://service.invalid")


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    call: Call, monkeypatch: pytest.MonkeyPatch, other_program: OtherProgram
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with other_program(200, MODELS) as (url, requests):
        assert call(url, "models") == {"models": []}
        assert call(url.replace("127.0.0.1", "localhost"), "models") == {"models": []}
    assert len(requests) == 2


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://127.0.0.1", "http://", "http://[:::1"),
        *("http://127.0.0.1:99999", "http://127.0.0.1?x=1", "http://xn--/", "http://a#b"),
    ],
)
def test_an_unusable_address_is_refused_before_any_request(url: str) -> None:
    with pytest.raises(GenserveError, match="is not an address of a service"):
        Client(url)


def test_a_password_in_the_address_is_in_no_message() -> None:
    with (
        Client("http://me:s3cret@127.0.0.1:1/") as client,
        pytest.raises(UnreachableError) as caught,
    ):
        client.models()
    assert "s3cret" not in str(caught.value)
    assert "is the service running there? --url or GENSERVE_URL" in str(caught.value)


def test_the_key_is_a_bearer_token_and_the_environment_is_the_default(
    monkeypatch: pytest.MonkeyPatch, other_program: OtherProgram
) -> None:
    with other_program(200, MODELS) as (url, requests):
        with Client(url) as client:
            client.models()
        with Client(url, "s3cret") as client:
            client.models()
        monkeypatch.setenv("GENSERVE_URL", url)
        monkeypatch.setenv("GENSERVE_KEY", "other")
        with Client() as client:
            client.models()
    keys = [headers["authorization"] for headers in requests]
    assert keys == [None, "Bearer s3cret", "Bearer other"]
    assert requests[0]["user-agent"].startswith("genserve/")
    with pytest.raises(GenserveError, match="the key has characters"):
        Client(url, "s3\ncret")
