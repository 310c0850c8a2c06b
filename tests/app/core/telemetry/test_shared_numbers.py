"""What processes count is seen by each of them, outlives them, and needs no file."""

import os
from collections.abc import Callable

import pytest

from app.core.telemetry.metrics import Metrics
from app.core.telemetry.shared_numbers import SharedNumbers
from app.engines.rows import OperationKey

KEY: OperationKey = ("a-model", "generate")


def in_child(run: Callable[[], object]) -> None:
    """Run in a forked process, to its end."""
    if not (child := os.fork()):
        try:
            run()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def test_numbers_of_a_process_are_seen_by_the_others_and_outlive_it() -> None:
    numbers = SharedNumbers(3)

    def count(part: int) -> None:
        numbers.use(part)
        numbers.numbers("ä name", 2)[1] += part
        numbers.numbers("other", 1)[0] = 7

    in_child(lambda: count(1))
    in_child(lambda: count(2))
    in_child(lambda: count(2))  # goes on where the last one was
    found = [(part, name, list(values)) for part, name, values in numbers.all()]
    assert found == [
        (1, "ä name", [0, 1]),
        (1, "other", [7]),
        (2, "ä name", [0, 4]),
        (2, "other", [7]),
    ]


def test_a_full_part_drops_what_is_new_and_keeps_counting_what_is_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    numbers = SharedNumbers(2, part_bytes=4096)
    for i in range(1000):
        numbers.numbers(f"name {i}", 1)[0] += 1
        numbers.numbers("name 0", 1)[0] += 1
    found = {name: values[0] for _, name, values in numbers.all()}
    assert 50 < len(found) < 200
    assert found["name 0"] == 1001
    assert len(caplog.records) == 1


def test_metrics_are_summed_over_processes_and_forget_the_load_of_those_that_ended() -> None:
    metrics = Metrics(3)

    def serve(part: int) -> None:
        metrics.use(part)
        metrics.batch(KEY, 4, 0.003)
        metrics.batch(KEY, 300, 3.0)
        metrics.request("GET", "/generate", 200, 0.003)
        metrics.process({"resident_memory_bytes": 1000 + part}, 0.5)
        metrics.process({"resident_memory_bytes": 2000 + part}, 0.75)
        metrics.load(part, part, {KEY: 100.0}, 1)

    for part in (0, 1, 2):
        in_child(lambda: serve(part))  # noqa: B023
    sums = metrics.sums()
    assert sums["genserve_requests_total"] == sums["genserve_processes"] == 3
    assert sums["genserve_queued_images"] == 3
    assert sums["genserve_predicted_wait_seconds"] == 2  # the longest
    assert metrics.rates() == {KEY: 300.0}
    metrics.ended(2)
    sums = metrics.sums()
    assert sums["genserve_requests_total"] == 3
    assert (sums["genserve_processes"], sums["genserve_queued_images"]) == (2, 1)
    assert metrics.rates() == {KEY: 200.0}
    text = metrics.text()[0].decode()
    label = 'model="a-model",operation="generate"'
    assert f'genserve_batch_images_bucket{{le="2.0",{label}}} 0.0' in text.replace(
        f'{{{label},le="2.0"}}', f'{{le="2.0",{label}}}'
    )
    for line in (
        f"genserve_batch_images_count{{{label}}} 6.0",
        f"genserve_batch_images_sum{{{label}}} 912.0",
        'genserve_requests_total{method="GET",route="/generate",status="200"} 3.0',
        "genserve_dropped_log_lines_total 0.0",
        'process_resident_memory_bytes{worker="1"} 2001.0',
        'process_cpu_seconds_total{worker="1"} 0.75',
        'process_cpu_seconds_total{worker="2"} 0.75',
    ):
        assert f"\n{line}\n" in text
    assert 'process_resident_memory_bytes{worker="2"}' not in text
