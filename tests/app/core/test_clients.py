"""How the queue tells clients apart."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.core.clients import by_address, by_key, current_client
from app.errors import OverShareError
from tests.app.full_route import FULL_ROUTE

KEYS = ("k" * 16, "another-key-0123")
PLAIN = "/generate?label=7&seed=42"


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2606:4700:1:2:3:4:5:6", "2606:4700:1:2::/64"),
        ("2606:4700:1:2::1", "2606:4700:1:2::/64"),
        ("fe80::1%eth0", "fe80::1"),
        ("fd00::1:2", "fd00::1:2"),
        ("", None),
        ("a name", None),
        (None, None),
    ],
)
def test_a_client_is_an_address_and_of_ipv6_its_network(
    address: str | None, client: str | None
) -> None:
    assert by_address(address) == client


def test_a_key_is_a_client_whose_name_does_not_tell_it() -> None:
    assert by_key(b"k" * 16) == by_key(b"k" * 16) != by_key(b"K" * 16)
    assert "kkk" not in by_key(b"k" * 16)


def test_a_refusal_for_the_share_tells_the_quota() -> None:
    error = OverShareError.of(300, 400, 2)
    assert error.problem("1")["retry_after"] == 2
    assert error.headers == {
        "RateLimit-Policy": '"share";q=300;qu="images"',
        "RateLimit": '"share";r=0;t=2',
        "Retry-After": "2",
    }


@pytest.fixture
def clients_of(app_of: Callable[[Any], Any]) -> Callable[[Any], list[str | None]]:
    """Whose requests come to a service's queue from now on."""

    def watch(client: Any) -> list[str | None]:
        batcher = app_of(client).state.service.batcher
        seen: list[str | None] = []
        honest = batcher.begin

        def begin(
            key: Any, rows: Any, then: Any, deadline: Any, left: Any, whose: Any, *more: Any
        ) -> Any:
            seen.append(whose)
            return honest(key, rows, then, deadline, left, whose, *more)

        batcher.begin = begin
        return seen

    return watch


@pytest.mark.parametrize("how", [{}, FULL_ROUTE])
async def test_without_keys_it_is_the_address_on_both_ways(
    make_wire: Any, clients_of: Any, how: dict[str, str]
) -> None:
    wire: httpx.AsyncClient = await make_wire()
    seen = clients_of(wire)
    assert (await wire.get(PLAIN, headers=how)).status_code == 200
    assert (await wire.get(PLAIN, headers={**how, "x-forwarded-for": "9.9.9.9"})).status_code == 200
    assert seen == ["127.0.0.1"] * 2
    assert current_client.get() is None  # nothing of it is left


async def test_with_keys_it_is_the_key(make_wire: Any, clients_of: Any) -> None:
    wire: httpx.AsyncClient = await make_wire(api_keys=SecretStr(",".join(KEYS)))
    seen = clients_of(wire)
    for key in (*KEYS, KEYS[0]):
        answer = await wire.get(PLAIN, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200
    assert seen == [by_key(key.encode()) for key in (*KEYS, KEYS[0])]
