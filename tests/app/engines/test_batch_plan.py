"""How batches are cut into passes, and how large they are where nobody chose."""

import itertools

import pytest

from app.engines.batch_plan import BATCH_S, INLINE_S, MAX_BATCH, BatchPlan

SIZES = (1, 2, 4, 8, 16, 32, 64)


def linear(row_s: float, fixed_s: float = 0.0) -> list[tuple[int, float]]:
    """A pass that costs ``fixed_s``, and ``row_s`` for each row."""
    return [(size, fixed_s + row_s * size) for size in SIZES]


@pytest.mark.parametrize(
    "costs",
    [
        {1: 1.0},
        {64: 3.0},
        {1: 1.0, 2: 1.9, 4: 3.9, 8: 7.7, 16: 16.0},  # a row costs the same in every batch
        {4: 1.0, 6: 1.1, 8: 1.2, 64: 2.0},  # a pass costs the same for every row
    ],
)
def test_a_plan_takes_the_least_time_that_any_way_to_cut_takes(costs: dict[int, float]) -> None:
    plan = BatchPlan(sorted(costs.items()), 12, bounded=False)
    for rows in range(1, 13):
        ways = (
            sum(costs[size] for size in way)
            for passes in range(1, rows + 1)
            for way in itertools.combinations_with_replacement(costs, passes)
            if sum(way) >= rows
        )
        assert plan.seconds(rows) == pytest.approx(min(ways))


@pytest.mark.parametrize("rows", [1, 7, 16, 17, 100])
def test_the_passes_of_a_batch_hold_each_row_once(rows: int) -> None:
    passes = list(BatchPlan([(1, 1.0), (4, 1.5), (6, 2.0)], 16, bounded=False).passes(rows))
    covered = [row for each in passes for row in range(each.start, each.start + each.rows)]
    assert covered == list(range(rows))
    assert all(each.rows <= each.size for each in passes)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("row_s", [1e-6, 3e-5, 1e-4, 7e-4])
def test_where_nobody_chose_a_batch_takes_some_milliseconds(row_s: float, bounded: bool) -> None:
    plan = BatchPlan(linear(row_s), None, bounded)
    assert plan.max_batch in (2**power for power in range(3, 13))
    if 8 < plan.max_batch < MAX_BATCH:
        batch_s = INLINE_S if bounded else BATCH_S
        assert plan.max_batch * row_s <= batch_s < 2 * plan.max_batch * row_s


@pytest.mark.parametrize(
    ("fixed_s", "row_s", "most"), [(0.020, 0.0003, 0), (0.002, 0.0005, 4), (0.0, 0.00005, 64)]
)
def test_a_pass_with_a_fixed_cost_is_made_on_the_event_loop_for_fewer_rows(
    fixed_s: float, row_s: float, most: int
) -> None:
    assert BatchPlan(linear(row_s, fixed_s), 64, bounded=True).inline_rows == most
    assert BatchPlan(linear(row_s, fixed_s), 64, bounded=False).inline_rows == 0
