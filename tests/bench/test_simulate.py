"""The simulation: it loses nothing, repeats itself, and shows what the real queues do."""

import pytest

from bench.cluster.simulate import (
    ABOUT,
    AIM_S,
    Cluster,
    Scenario,
    capacity,
    centile,
    jain,
    main,
    simulate,
)


@pytest.mark.parametrize("scenario", ABOUT)
def test_every_request_is_answered_or_refused(scenario: Scenario) -> None:
    tally = simulate(scenario, 4, 0.4, 64, seed=1).tally
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


@pytest.mark.parametrize(
    ("scenario", "images", "p99_s"),
    [("edge", 1, 0.15), ("overload", 1, 0.17), ("overload", 64, 0.4)],
)
def test_in_an_overload_the_replicas_are_kept_busy_and_no_queue_stands(
    scenario: Scenario, images: int, p99_s: float
) -> None:
    """What is accepted takes longer than the target where other clients' turns are earlier: they
    come later, and go first."""
    seconds = 8  # of so few that it has, a client's share varies by chance
    tally = simulate(scenario, 2, seconds, images, seed=4).tally
    assert tally.answered > 0.95 * seconds * 2 * images * capacity(images)
    assert centile(tally.durations, 50) < 0.15
    assert centile(tally.durations, 99) < p99_s
    assert jain([given / asked for asked, given in tally.by_client.values()]) > 0.97


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
