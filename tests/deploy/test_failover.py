"""The balancers' configurations that are shipped, each before two real services."""

from pathlib import Path

import pytest

from bench.children import BenchError
from bench.cluster import failover
from bench.cluster.balancers import BALANCERS, program


@pytest.fixture(params=BALANCERS)
def start(request: pytest.FixtureRequest) -> failover.Start:
    """Starts a balancer."""
    try:
        program(request.param)
    except BenchError as error:
        pytest.skip(str(error))
    found: failover.Start = BALANCERS[request.param]
    return found


@pytest.mark.slow
def test_a_replica_killed_under_load_costs_no_request_and_changes_no_image(
    start: failover.Start, tiny_store: Path, tmp_path: Path
) -> None:
    options = ["--models-dir", str(tiny_store), "--max-batch", "8"]
    tally = failover.under_chaos(
        tmp_path, options, requests=2000, kills=1, between=300, rolling=False, start=start
    )
    assert tally.failed == []
    assert tally.answered + tally.refused >= 2000
    assert {len(digests) for digests in tally.digests.values()} == {1}
    assert len(tally.digests) == failover.SEEDS


@pytest.mark.slow
def test_a_refusal_reaches_the_client_and_is_not_tried_on_the_other_replica(
    start: failover.Start, tiny_store: Path, tmp_path: Path
) -> None:
    options = ["--models-dir", str(tiny_store), "--max-batch", "1"]
    full = failover.overload(tmp_path, options, requests=1500, start=start)
    assert full.failed == 0
    assert full.seen > 20
    assert full.counted <= 1.1 * full.seen
