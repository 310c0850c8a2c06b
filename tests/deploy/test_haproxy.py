"""The haproxy configuration that is shipped, before two real services."""

import shutil
from pathlib import Path

import pytest

from bench.cluster import failover

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("haproxy") and not Path("/usr/sbin/haproxy").exists(),
        reason="no haproxy (Debian: haproxy)",
    ),
]


def test_a_replica_killed_under_load_costs_no_request_and_changes_no_image(
    tiny_store: Path, tmp_path: Path
) -> None:
    options = ["--models-dir", str(tiny_store), "--max-batch", "8"]
    tally = failover.under_chaos(
        tmp_path, options, requests=2000, kills=1, between=300, rolling=False
    )
    assert tally.failed == []
    assert tally.answered + tally.refused >= 2000
    assert {len(digests) for digests in tally.digests.values()} == {1}
    assert len(tally.digests) == failover.SEEDS


def test_a_refusal_reaches_the_client_and_is_not_tried_on_the_other_replica(
    tiny_store: Path, tmp_path: Path
) -> None:
    options = ["--models-dir", str(tiny_store), "--max-batch", "1"]
    full = failover.overload(tmp_path, options, requests=1500)
    assert full.failed == 0
    assert full.seen > 20
    assert full.counted <= 1.1 * full.seen
