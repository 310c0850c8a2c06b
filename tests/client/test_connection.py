"""Addresses, keys, proxies, and programs that are not the service."""

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

from tests.client.conftest import Asks
from tests.client.other import other_program
from tests.conftest import Server


def test_nobody_there_and_another_program_are_told_apart(asks: Asks) -> None:
    with pytest.raises(UnreachableError, match=r"no complete response from http://127\.0"):
        asks("http://127.0.0.1:1", "models")
    for address in ("127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://[:::1"):
        with pytest.raises(GenserveError, match="is not an address"):
            Client(address)
    with other_program(200, b"<html>hello</html>", "text/html") as (url, _):
        for method in ("generate", "models"):
            with pytest.raises(InvalidResponseError, match=r"Genserve: 18 bytes \(text/html\)"):
                asks(url, method)
        with pytest.raises(InvalidResponseError, match="not a dataset of Genserve"):
            asks(url, "dataset", "x.zip")
    with (
        other_program(200, b'{"model": "m", "items": [{"image": "?"}]}') as (url, _),
        pytest.raises(InvalidResponseError, match="not a response of Genserve"),
    ):
        asks(url, "generate")
    with other_program(502, b"<html>bad gateway</html>", "text/html") as (url, _):
        with pytest.raises(ProblemError, match="not a response of Genserve") as caught:
            asks(url, "generate")
        assert caught.value.status == 502


def test_an_answer_of_another_kind_is_never_written_as_a_file() -> None:
    with other_program(200, b"<html>log in</html>", "text/html") as (url, _), Client(url) as client:
        for call in (calls.generate().file("png"), calls.models().raw(), calls.model("..").raw()):
            with pytest.raises(InvalidResponseError, match="not a response of Genserve"):
                client.send(call)
    with (
        other_program(200, b"{") as (url, _),
        Client(url) as client,
        pytest.raises(InvalidResponseError, match="not a response of Genserve"),
    ):
        client.send(calls.models().raw())


def test_a_redirection_is_told_and_not_followed(asks: Asks) -> None:
    with (
        other_program(301, b"", "text/html", Location="https://example.com/") as (url, asked),
        pytest.raises(ProblemError, match=r"it redirects to 'https://example\.com/'") as caught,
    ):
        asks(url, "models")
    assert (caught.value.status, len(asked)) == (301, 1)


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_what_the_environment_has_wrong_is_told(
    client: type[Client] | type[AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    for proxy in ("http://a b:x", "socks4://127.0.0.1:9"):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(GenserveError, match="the environment's proxies"):
            client("http://service.invalid")


def test_this_machine_is_not_asked_by_a_proxy(
    served: Server, asks: Asks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert asks(served.url, "models")["models"]
    local = served.url.replace("127.0.0.1", "localhost")
    assert asks(local, "models")["models"]


def test_an_address_is_checked_and_its_password_is_not_shown() -> None:
    for address in ("http://127.0.0.1:99999", "http://127.0.0.1?x=1", "http://xn--/", "http://a#b"):
        with pytest.raises(GenserveError, match="is not an address"):
            Client(address)
    with (
        Client("http://me:s3cret@127.0.0.1:1/") as client,
        pytest.raises(UnreachableError) as caught,
    ):
        client.models()
    assert "s3cret" not in str(caught.value)
    assert "is the service running there? --url or GENSERVE_URL" in str(caught.value)


def test_a_key_is_sent_as_a_bearer_token_and_the_environment_fills_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with other_program(200, b'{"models": []}') as (url, asked):
        with Client(url) as client:
            client.models()
        with Client(url, "s3cret") as client:
            client.models()
        monkeypatch.setenv("GENSERVE_URL", url)
        monkeypatch.setenv("GENSERVE_KEY", "other")
        with Client() as client:
            client.models()
    assert [headers["authorization"] for headers in asked] == [
        None,
        "Bearer s3cret",
        "Bearer other",
    ]
    assert asked[0]["user-agent"].startswith("genserve/")
    with pytest.raises(GenserveError, match="the key has characters"):
        Client(url, "s3\ncret")
