"""The bench's logic: what it reads, counts and tells. No server but tiny ones, no timing."""

import asyncio
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from app.engines.store import load_store
from bench import aims, children, client, dataset, overload, plot, processes, report, results, wrk
from bench.__main__ import options
from bench.children import BenchError
from bench.peers import turns
from bench.peers.__main__ import copy_alone
from bench.peers.sweep import Setting, best, markdown, sweep
from bench.peers.table import PEERS
from bench.peers.ways import BULK, ways
from bench.report import BARE, FASTAPI, MODEL, OURS, SEEDED, Figure, Result
from bench.rounds import rounds
from tests.shipped import CGAN

ROOT = Path(__file__).parents[2]


def wrk_line(**errors: int) -> str:
    counted = {"requests": 1000, "duration_us": 2_000_000, "p50_us": 1500.0, "p99_us": 9000.0}
    return f"Running 2s test\n\nbench-json {json.dumps({**counted, 'errors': errors})}\n"


def test_where_requests_are_to_fail_none_may_succeed() -> None:
    output = wrk_line(**{"connect": 0, "status over 399": 0})
    with pytest.raises(BenchError, match="status below 400"):
        wrk.parse(output, fails=True)
    wrk.parse(output)


def test_counts_of_wrk_become_rates_and_milliseconds() -> None:
    told = wrk.parse(wrk_line(connect=0, timeout=0))
    assert told == {"per_s": 500, "requests": 1000, "failed": 0, "p50_ms": 1.5, "p99_ms": 9}


def test_a_run_with_errors_has_no_figures() -> None:
    with pytest.raises(BenchError, match=r"3 x timeout beside 1000 requests in 2\.0 s"):
        wrk.parse(wrk_line(connect=0, timeout=3))
    with pytest.raises(BenchError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1")


def test_centiles_are_values_that_were_seen() -> None:
    assert client.centile([], 99) == 0
    assert client.centile([5], 50) == 5
    hundred = [float(value) for value in range(100, 0, -1)]
    assert [client.centile(hundred, q) for q in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]
    assert client.centile([1, 2, 3, 4], 51) == 3


def test_the_open_loop_is_evenly_due_whatever_the_answers() -> None:
    assert client.schedule(4, 1) == [0, 0.25, 0.5, 0.75]
    assert len(client.schedule(333.3, 3)) == 1000
    assert client.schedule(10, 0.15) == [0, 0.1]


async def answering(
    answer: Callable[[int], bytes], rate: float, seconds: float, connections: int
) -> client.Tally:
    """A load on a server whose i-th answer is ``answer(i)``; empty = it closes the connection."""
    count = 0
    handlers: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        handlers.append(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                reply, count = answer(count), count + 1
                if not reply:
                    break
                writer.write(reply)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        load = client.Load(f"http://127.0.0.1:{port}/x?y=1", "POST", rate, seconds)
        assert load.request.startswith(b"POST /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:")
        await load.run(connections)
        await asyncio.gather(*(handler for handler in handlers if handler))
    return load.tally


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REFUSED = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n"


async def test_the_open_loop_counts_every_request_once() -> None:
    replies = [OK, REFUSED + b"\r\n", REFUSED + b"Retry-After: 1\r\n\r\n", OK]
    tally = await answering(lambda i: replies[i % 4], rate=400, seconds=0.1, connections=3)
    told = tally.told(0)
    assert (told["ok"], told["refused"], told["refused_without_retry"]) == (20, 20, 10)
    assert (told["other"], told["broken"], tally.due) == (0, 0, 40)
    assert len(tally.latencies_ms) == 20


async def test_a_connection_that_ends_counts_as_broken_and_the_rest_goes_on() -> None:
    tally = await answering(lambda i: b"" if i == 0 else OK, rate=200, seconds=0.1, connections=2)
    assert tally.broken == 1
    assert tally.statuses[200] == 19


def test_a_wait_for_a_free_connection_is_a_part_of_the_latency() -> None:
    class Connection(client._Connection):
        def __init__(self) -> None:
            self.due = None

        def send(self, due: float) -> None:
            self.due = due

    async def scenario() -> list[float]:
        load = client.Load("http://127.0.0.1:1/", "GET", 1, 1)
        connection = Connection()
        now = client.clock()
        load._waiting.append(now - 2.0)
        load._under_way = 1
        load.answered(connection, now - 3.0, 200, retry=False, keep=True)
        assert connection.due == now - 2.0  # sent late, and still counted from when it was due
        load.answered(connection, connection.due, 200, retry=False, keep=True)
        return load.tally.latencies_ms

    first, second = asyncio.run(scenario())
    assert first >= 3000
    assert second >= 2000


def test_overload_has_connections_for_all_that_is_asked() -> None:
    assert overload.connections_for(2000) == 1.5 * 0.25 * 2000
    assert overload.connections_for(10**6) == overload.MOST_CONNECTIONS


def test_in_an_overload_the_service_has_cores_of_its_own() -> None:
    assert overload.halves({3, 0, 5}) == ({0}, {3, 5})
    assert overload.halves({2}) == ({2}, {2})
    before = os.sched_getaffinity(0)
    with overload.on({min(before)}):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_a_process_is_read_whatever_its_name() -> None:
    rest = " ".join(["S", "7", "9", "5", *("0" for _ in range(7)), "150", "50", *("0" * 30)])
    process = processes.parse_stat(f"12 (a) b (c) {rest}")
    ticks = os.sysconf("SC_CLK_TCK")
    assert process == processes.Process(12, "S", 7, 5, 200 / ticks)


def test_memory_is_the_proportional_set_size_alone() -> None:
    text = "5566-7788 ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss: 300 kB\nPss_Anon: 200 kB\n"
    assert processes.parse_pss(text) == 300 * 1024


def test_a_family_has_its_daemons_and_no_stranger() -> None:
    def process(pid: int, parent: int, session: int) -> processes.Process:
        return processes.Process(pid, "S", parent, session, 0.5)

    leader, orphan, marked, grandchild = (
        *(process(10, 2, 10), process(11, 1, 10)),
        *(process(12, 1, 12), process(13, 12, 13)),
    )
    everyone = [process(1, 0, 1), process(2, 1, 2), leader, orphan, grandchild, marked]
    found = processes.family(everyone, 10, [12])
    assert {p.pid for p in found} == {10, 11, 12, 13}
    assert processes.cpu_s(found) == 2


def test_a_child_is_stopped_with_what_it_left_behind(tmp_path: Path) -> None:
    # The grandchild leaves session and parent, as daemons do, and writes who it is.
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print('left', flush=True)\n"
        "time.sleep(600)\n"
    )
    with ExitStack() as stack:
        child = children.Child(stack, "x", [sys.executable, "-c", code], tmp_path, piped=True)
        assert child.process.stdout
        assert child.process.stdout.readline() == "left\n"
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            pass
        daemon = int((tmp_path / "pid").read_text())
        assert daemon in {process.pid for process in child.processes()}
        assert processes.pss(child.processes()) > 0
        child.process.stdout.close()
        assert child.process.stdin
        child.process.stdin.close()
    state = Path(f"/proc/{daemon}/stat")
    assert not state.exists() or processes.parse_stat(state.read_text()).state == "Z"


def test_a_child_keeps_compiled_modules_whatever_is_set_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    code = "import sys; print(sys.dont_write_bytecode)"
    with ExitStack() as stack:
        child = children.Child(stack, "x", [sys.executable, "-c", code], tmp_path)
        child.process.wait(60)
    assert (tmp_path / "x.log").read_text() == "False\n"


def test_beside_peers_ours_serves_the_one_model(tmp_path: Path) -> None:
    copy_alone(ROOT / f"models_store/{CGAN}.safetensors", tmp_path)
    assert sorted(load_store(tmp_path, "onnx", "cpu", 1)[0]) == [CGAN]


def test_a_round_measures_all_and_every_second_one_backwards() -> None:
    order = [(n, kind, s) for n, kind, s in rounds("ab", Namespace(rounds=2, seconds=9))]
    assert order == [(0, "b", 1), (0, "a", 1), (1, "a", 9), (1, "b", 9), (2, "b", 9), (2, "a", 9)]


def figures(connections: int, ours: float) -> list[Figure]:
    rates = {OURS: ours, SEEDED: 0.9 * ours, BARE: 4000.0, FASTAPI: 2000.0, MODEL: 4000.0}
    return [Figure(1, connections, target, rate, 2, 3) for target, rate in rates.items()]


def test_ratios_are_within_a_round() -> None:
    found = report.ratios_of([*figures(64, 1000), *figures(1, 500)])
    assert found["ours / bound at 64"] == [0.5]  # 1000 of 1 / (1/4000 + 1/4000)
    assert found["ours / F at 64"] == [0.5]
    assert found["seeded / unseeded at 1"] == [0.9]
    assert found["p50 / (A + M) at 1"] == [0.5]
    assert "p50 / (A + M) at 64" not in found


def peer_turn(rate: float, start_s: float) -> turns.Turn:
    names = ("per_s", "p50_ms", "p99_ms", "cpu_us", "failed")
    turn = {f"{name} at {way}": rate for name in names for way in ("64", "through haproxy")}
    return {**turn, "start s": start_s, "pss_mib": 100, "images/s of 64": 10 * rate}


def test_each_load_gets_the_setting_that_is_best_for_it() -> None:
    rates = {8: {"1": 9.0, "64": 1.0}, 64: {"1": 2.0, "64": 4.0}}

    def tried(setting: Setting) -> dict[str, float]:
        if setting.batch == 16:
            raise BenchError("it does not start with 16")
        return {load: rate - setting.wait_ms / 10 for load, rate in rates[setting.batch].items()}

    swept = sweep("p", (8, 16, 64), (1, 2), tried)
    assert best(swept) == {"1": Setting(8, 1), "64": Setting(64, 1)}
    assert "| p, batch 64, 1 ms | 2 | **4** |" in markdown(swept=swept, name="p")
    with pytest.raises(BenchError, match="not start with 16"):
        sweep("p", (16,), (1,), tried)


def test_every_way_asks_for_what_it_says() -> None:
    ours = {way.name: way for way in ways("/generate", None, 7, [1, 64], proxy=True)}
    assert ours["64"].path == "/generate?label=7"
    assert ours["GET"].arguments == ("get",)
    assert (ours["labels in turn"].path, ours["labels in turn"].arguments) == (
        "/generate?label=7777",
        ("labels",),
    )
    assert ours["through haproxy"].proxied
    assert ours[BULK].path == "/generate?label=7&n=64"
    peer = PEERS["mosec"]
    theirs = {way.name: way for way in ways(peer.path, peer.body, 7, [64], proxy=False)}
    assert set(theirs) == {"64", "labels in turn", BULK}
    assert theirs["labels in turn"].arguments == ("labels", '{"label": 7777, "n": 1}')


def test_replies_that_fail_are_counted_and_are_no_part_of_a_rate() -> None:
    told = wrk.parse(wrk_line(timeout=2, **{"status over 399": 30}), tolerant=True)
    assert told["failed"] == 32
    assert told["requests"] == wrk.parse(wrk_line())["requests"] - 30
    assert told["per_s"] < wrk.parse(wrk_line())["per_s"]


def test_a_peer_that_fails_is_told_and_the_others_go_on() -> None:
    starts: list[str] = []

    def turn(name: str, rate: float) -> turns.Turn:
        starts.append(name)
        if name == "ray":
            raise BenchError("ray: ended with status 1; the end of its log:\n  no such port")
        return peer_turn(rate, 2)

    found = turns.Figures(failures={"pytriton": "not installed: no wheel"})
    names = {"ours": 300.0, "ray": 0.0, "mosec": 100.0, "pytriton": 0.0}
    turns.take_turns(
        {name: partial(turn, name, rate) for name, rate in names.items()},
        3,
        found,
    )
    assert starts == [*("ours", "ray", "mosec"), *("mosec", "ours"), *("ours", "mosec")]
    text = turns.markdown(found.result({}))
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert rows[2:] == ["ours", "mosec"]  # the fastest first
    assert "**ray** has no figures: ray: ended with status 1" in text
    assert "no such port" not in text
    assert "**pytriton** has no figures: not installed: no wheel" in text


def saved(folder: Path, mode: str, samples: report.Samples, gpu: str | None = None) -> None:
    result = Result(mode, {"engine": "onnx"}, samples, figures(64, 1000))
    path = results.save(result, Namespace(rounds=1, models_dir="secret"), {"gpu": gpu}, folder)
    assert "secret" not in path.read_text()


def test_targets_show_every_row_and_call_a_miss_a_miss(tmp_path: Path) -> None:
    nothing = aims.markdown(aims.Results(results.latest(tmp_path)))
    rows = len(aims.targets(aims.Results({})))
    assert len(nothing.splitlines()) == rows + 2
    assert "reached" not in nothing
    assert "missed" not in nothing

    closed: report.Samples = {"ours / F at 64": [0.5], "p50 / (A + M) at 1": [1.5, 1.7, 1.4]}
    saved(tmp_path, "closed", closed)
    saved(tmp_path, "start", {"the store: start to first digit, s": [0.7]})
    saved(tmp_path, "many", {"npy / M": [0.2], "npy, images/s": [2e6]}, gpu="H")
    peers = turns.Figures({"ours": [peer_turn(300, 3)], "mosec": [peer_turn(100, 2)]})
    saved(tmp_path, "peers", peers.result({}).samples)
    verdicts = {
        target.what: [figure.verdict for figure in target.figures]
        for target in aims.targets(aims.Results(results.latest(tmp_path)))
    }
    first = verdicts["a digit for each request, 64 connections"]
    assert first == ["reached", "**missed**", "missed"]  # thrice the rate and thrice the CPU
    assert verdicts["64 images a request, images/s"][0] == "holds"
    assert verdicts["one connection, p50"] == ["holds"]
    last = verdicts["from the start to the first digit; memory"]
    assert last == ["**missed**", "not measured", "holds", "not measured"]
    assert verdicts["machine with a GPU, bulk npy through HTTP"] == ["**missed**", "reached"]
    assert len(verdicts) == rows


def test_the_best_peer_is_the_one_beside_which_ours_is_worst_in_the_same_rounds() -> None:
    samples = {
        "ours: images/s of 64": [10, 20, 40],
        "mosec: images/s of 64": [8, 25, 32],  # the best median; 1.25 in its rounds
        "ray: images/s of 64": [20, 24, 10],  # 0.5, 0.83, 4
    }
    found = aims.Results({("peers", False): {"samples": samples}})
    assert found.over_best("images/s of 64", min) == pytest.approx(20 / 24)
    assert found.over_best("images/s of 64", max) == 1.25
    assert found.over_best("pss_mib", max) is None


def test_the_newest_result_of_a_mode_counts(tmp_path: Path) -> None:
    for stamp, value in (("20260102T000000Z", 2.0), ("20250101T000000Z", 1.0)):
        content = {"mode": "closed", "machine": {"gpu": None}, "samples": {"x": [value]}}
        (tmp_path / f"closed-{stamp}.json").write_text(json.dumps(content))
    assert results.latest(tmp_path)["closed", False]["samples"] == {"x": [2.0]}


def test_generated_tables_replace_those_of_the_document() -> None:
    document = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n"
    once = aims.replaced(document, {"x": "new"})
    assert once == "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n"
    assert aims.replaced(once, {"x": "new"}) == once
    with pytest.raises(ValueError, match="no place for y"):
        aims.replaced(document, {"y": ""})


def test_the_page_has_a_place_for_every_table() -> None:
    page = (ROOT / "docs/explanation/benchmarks.md").read_text()
    aims.replaced(page, {"targets": "", "peers": ""})
    for target in aims.targets(aims.Results({})):
        assert target.what in page, target.what
    for name in PEERS:
        assert f"`{name}`" in page, name


def test_the_plot_draws_what_there_is(tmp_path: Path) -> None:
    saved(tmp_path, "closed", {})
    saved(tmp_path, "peers", turns.Figures({"mosec": [peer_turn(300, 3)]}).result({}).samples)
    found = results.latest(tmp_path)
    assert plot.of_closed(found)[OURS] == {64: (1000, 3)}
    assert plot.of_peers(found) == {"mosec": {64: (300, 300)}}
    plot.draw(found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_every_peer_has_its_pins_and_its_server() -> None:
    for name, peer in PEERS.items():
        pins = (ROOT / f"bench/peers/{name}.txt").read_text().splitlines()
        assert "torch==2.13.0" in pins, name  # exact: looser brings a CUDA build
        assert all("==" in line for line in pins), name
        assert (ROOT / f"bench/peers/{name}.py").exists()
        json.loads(peer.body(7, 64))


def test_a_route_that_is_not_there_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        def __init__(self, *_: object, **__: object) -> None:
            self.status = 404

        def request(self, *_: object) -> None: ...
        def close(self) -> None: ...

        def getresponse(self) -> "Connection":
            return self

    monkeypatch.setattr("http.client.HTTPConnection", Connection)
    with pytest.raises(dataset.AbsentError, match="no such route: POST /dataset"):
        dataset.fetch(1, "/dataset?n=1")


def test_an_unknown_mode_is_refused_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert options([]).connections == [1, 16, 64, 256]
    assert options(["open", "--workers", "3"]).floor_workers == 3
    with pytest.raises(SystemExit):
        options(["opne"])
    assert "unknown mode 'opne'; choose from closed, many, open" in capsys.readouterr().err
