"""A store that changes under a service that goes on: nothing is lost, and nothing half loaded."""

import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.cluster import reload
from bench.cluster.failover import SEEDS
from tests.live_service import connect, post, read, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="one process serves alone"),
]


def test_nothing_is_lost_while_a_store_is_loaded_anew(tiny_store: Path, tmp_path: Path) -> None:
    tally = reload.under_load(tmp_path, tiny_store, requests=SEEDS, times=2, connections=3)
    assert tally.failed == []
    assert len(tally.digests) == SEEDS
    assert {len(digests) for digests in tally.digests.values()} == {1}


def test_keys_models_and_aliases_are_read_anew_and_pinned_addresses_keep_their_bytes(
    start_server: Any, tiny_store: Path, tmp_path: Path
) -> None:
    store, keys = tmp_path / "store", tmp_path / "keys"
    store.mkdir()
    first, second = sorted(path.stem for path in tiny_store.glob("*.safetensors"))[:2]
    for name in (first, second):
        for file in tiny_store.glob(f"{name}.*"):
            shutil.copy(file, store)
    aliases = store / "aliases.txt"
    aliases.write_text(f"best -> {first}\n")
    one, two = "key-one-key-one-1", "key-two-key-two-2"
    keys.write_text(one)
    options = ["--models-dir", str(store), "--api-keys-file", str(keys), "--workers", "1"]

    with start_server(*options, "--reload", "watch") as server:

        def ask(target: str, key: str) -> Any:
            with connect(server.url) as connection:
                connection.sendall(post(target, Authorization=f"Bearer {key}"))
                return read(connection)

        old = ask("/generate?model=best&seed=5", one)
        assert old.headers["x-model"] == first
        keys.write_text(two)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: ask("/generate?model=best", two).status == 200)
        assert ask("/generate?model=best", one).status == 401

        aliases.write_text(f"best -> {second}\n")  # watched: no signal
        until(lambda: ask("/generate?model=best", two).headers["x-model"] == second)
        pinned = ask(old.headers["content-location"], two)
        assert pinned.body == old.body

        assert server.stop() == 0
