"""The simulation: it loses nothing, repeats itself, and shows what the real queues do."""

import pytest

from bench.cluster.simulate import ABOUT, AIM_S, Cluster, centile, jain, main, simulate


@pytest.mark.parametrize("scenario", ABOUT)
def test_every_request_is_answered_or_refused(scenario: str) -> None:
    tally = simulate(scenario, 4, 0.4, 64, seed=1).tally  # type: ignore[arg-type]
    assert tally.requests > 100
    assert tally.lost == 0
    assert tally.answered <= tally.asked


def test_the_same_seed_gives_the_same_figures() -> None:
    one, same, other = (simulate("overload", 4, 0.3, 8, seed).tally for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_flood_of_one_client_costs_the_others_nothing() -> None:
    tally = simulate("flood", 8, 1, 64, seed=3).tally
    flood = tally.by_client.pop(1000)
    assert flood[1] < 0.8 * flood[0]
    assert all(given == asked for asked, given in tally.by_client.values())


def test_in_an_overload_equal_clients_get_equal_shares_and_full_use() -> None:
    cluster = simulate("overload", 8, 1, 64, seed=4)
    shares = [given / asked for asked, given in cluster.tally.by_client.values()]
    assert jain(shares) > 0.98
    assert 0.4 < cluster.tally.answered / cluster.tally.asked < 0.7


@pytest.mark.slow
def test_replicas_are_added_until_nothing_is_refused_any_more() -> None:
    few = simulate("overload", 2, 60, 64, seed=5).tally
    cluster = Cluster(2, seed=5)
    cluster.arrivals([(0, 60, len(few.durations) / 60 * 1.5, -1)], 64)
    cluster.autoscale(60, 8, AIM_S, 5.0)
    cluster.clock.run()
    assert len(cluster.replicas) > 2
    assert cluster.tally.refused < few.refused / 2


def test_jains_index_is_1_for_equal_shares_and_1_in_n_for_one_alone() -> None:
    assert jain([2, 2, 2]) == jain([0, 0]) == 1
    assert jain([1, 0, 0, 0]) == 0.25
    assert centile([], 99) == 0
    assert centile([3.0, 1.0, 2.0], 50) == 2


def test_the_command_prints_a_line_a_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    main(["steady", "--replicas", "2", "--seconds", "0.1"])
    heads, _, line = capsys.readouterr().out.splitlines()
    assert heads.count("|") == line.count("|")
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "choose from steady" in capsys.readouterr().err
