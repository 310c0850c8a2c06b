"""``python -m bench.peers``: six other servers and ours, the same work, in rotation."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench import loopback, machine, rig, wrk
from bench.__main__ import whole
from bench.children import HOST, ROOT, BenchError, Server, free_ports
from bench.cluster.balancers import program
from bench.peers.sweep import Setting, best, sweep
from bench.peers.sweep import markdown as markdown_of_sweep
from bench.peers.table import PEERS, Peer
from bench.peers.turns import OURS, Figures, Turn, markdown, measured, take_turns
from bench.peers.ways import BULK, BUSIEST, Way, ways
from bench.results import save

HERE = Path(__file__).parent
VENVS = ROOT / "bench/.peers"


def install(name: str, engine: str) -> Path:
    """The peer's Python, in an environment made on first use and after a change of its pins.

    Torch is left out where nothing needs it.

    Raises:
        BenchError: it cannot be installed; the message ends with what uv said.
    """
    folder = VENVS / name
    python, stamp, wanted = folder / "bin/python", folder / "installed.txt", VENVS / f"{name}.txt"
    lines = (HERE / f"{name}.txt").read_text().splitlines(keepends=True)
    with_torch = engine == "torch" or PEERS[name].needs_torch
    pins = "".join(line for line in lines if with_torch or not line.startswith("torch=="))
    if stamp.exists() and stamp.read_text() == pins:
        return python
    VENVS.mkdir(exist_ok=True)
    wanted.write_text(pins)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        raise BenchError("uv is not installed; `make dev` brings it")
    wheels = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")  # as the Makefile
    cpu = [] if wheels else ["--torch-backend", "cpu"]
    env = {**os.environ, **({"UV_FIND_LINKS": wheels} if wheels else {})}
    packages = ["--python", str(python), *cpu, "-r", str(wanted)]
    for command in (
        [uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "-q", "--compile-bytecode", *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        if done.returncode:
            raise BenchError(f"not installed: {done.stderr.strip()[-500:]}")
    shutil.move(wanted, stamp)
    return python


@contextmanager
def started(
    args: argparse.Namespace, checkpoint: Path, peer: Peer, python: Path, setting: Setting
) -> Iterator[tuple[Server, float]]:
    """A peer that answers, and the seconds until it did."""
    with ExitStack() as stack:
        folder = rig.folder(stack)
        env = {
            # What they write, they write here; who they are told to call, they do not call.
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONPATH": str(ROOT),
            "DO_NOT_TRACK": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "BENCH_HOST": "{host}",
            "BENCH_PORT": "{port}",
            "BENCH_OTHER_PORTS": " ".join(map(str, free_ports(4))),
            "BENCH_WORKERS": str(args.floor_workers),
            "BENCH_CHECKPOINT": str(checkpoint),
            "BENCH_ENGINE": args.engine,
            "BENCH_BATCH": str(setting.batch),
            "BENCH_WAIT_MS": str(setting.wait_ms),
            **{name: value.replace("{folder}", str(folder)) for name, value in peer.env.items()},
        }
        server = Server(stack, peer.name, [str(python), *peer.command], folder, env)
        start_s = server.wait("POST", peer.path, peer.body(args.label, 1))
        server.fresh(peer.path, peer.body(args.label, 1))
        yield server, start_s


def settings_of(
    args: argparse.Namespace, checkpoint: Path, peer: Peer, python: Path
) -> tuple[dict[str, Setting], str]:
    """The best setting of a peer for each load, and the table of all.

    Raises:
        BenchError: it does not answer.
    """
    asked = ways(peer.path, peer.body, args.label, args.loads, proxy=False)
    loads = [way for way in asked if way.name.isdecimal() or way.name == BULK]

    def rates(setting: Setting) -> dict[str, float]:
        with started(args, checkpoint, peer, python, setting) as (server, _):
            rig.loaded(server, loads[0].path, BUSIEST, 1, *loads[0].arguments, tolerant=True)
            return {
                way.name: rig.loaded(
                    server,
                    *(way.path, way.connections, args.sweep_seconds, *way.arguments),
                    tolerant=True,
                )["per_s"]
                for way in loads
            }

    batches, waits_ms = (args.batches, args.waits) if peer.batches else ([64], [1])
    swept = sweep(peer.name, batches, waits_ms, rates)
    return best(swept), markdown_of_sweep(peer.name, swept)


def turn_of_peer(
    args: argparse.Namespace,
    checkpoint: Path,
    peer: Peer,
    python: Path,
    chosen: Mapping[str, Setting],
) -> Turn:
    """The peer's figures, of a start with each setting that is best for some load."""
    usual = chosen.get(str(BUSIEST)) or next(iter(chosen.values()))
    by_setting: dict[Setting, list[Way]] = {}
    for way in ways(peer.path, peer.body, args.label, args.loads, args.haproxy):
        by_setting.setdefault(chosen.get(way.name, usual), []).append(way)
    turn: Turn = {}
    # The usual one last: start and memory are those of it.
    for setting, some in sorted(by_setting.items(), key=lambda item: item[0] == usual):
        with started(args, checkpoint, peer, python, setting) as (server, start_s):
            turn |= measured(server, some, start_s, args)
    return turn


def has_haproxy() -> bool:
    """Whether the requests through it can be measured."""
    try:
        program("haproxy")
    except BenchError as error:
        print(f"not through haproxy: {error}", file=sys.stderr, flush=True)
        return False
    return True


def copy_alone(checkpoint: Path, store: Path) -> None:
    """Copy a checkpoint and its graphs into an empty store."""
    for path in checkpoint.parent.glob(f"{checkpoint.stem}.*"):
        shutil.copy(path, store)


def turn_of_ours(args: argparse.Namespace, checkpoint: Path) -> Turn:
    """The same of ours, with the one model that the peers have."""
    with ExitStack() as stack:
        store = rig.folder(stack)
        copy_alone(checkpoint, store)
        args = argparse.Namespace(**{**vars(args), "models_dir": store})
        options = ["--engine", args.engine, "--trusted-proxies", HOST]
        ours = rig.Service(stack, rig.folder(stack), args, *options)
        asked = ways("/generate", None, args.label, args.loads, args.haproxy)
        return measured(ours, asked, ours.start_s, args)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.peers", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--peers", nargs="+", metavar="PEER", default=[*PEERS], help="in rotation with ours")
    loads = [1, 64, 256]
    add("--loads", type=whole(1, 1024), nargs="+", default=loads, help="connections at a time")
    add("--batches", type=whole(1, 1024), nargs="+", default=[8, 16, 32, 64], help="to be tried")
    add("--waits", type=whole(1, 1000), nargs="+", default=[1], help="for a batch, ms, to be tried")
    add("--sweep-seconds", type=whole(1, 120), default=2, help="of each load and setting tried")
    add("--rounds", type=whole(1, 100), default=3, help="starts of each server")
    add("--seconds", type=whole(1, 120), default=5, help="length of each measurement")
    add("--label", type=whole(0, 9999), default=7, help="class index asked for")
    add("--engine", choices=["onnx", "torch"], default="onnx", help="of all, ours too")
    add("--model", default="mnist-cgan-v7", help="checkpoint in the store")
    add("--models-dir", type=Path, help="as of python -m app")
    add("--workers", type=whole(1, 1024), help="processes with the model; ours: passed on if given")
    add("--install-only", action="store_true", help="make the environments and end")
    args = parser.parse_args()
    if unknown := [name for name in args.peers if name not in PEERS]:
        parser.error(f"unknown peer {unknown[0]!r}; choose from {', '.join(PEERS)}")
    args.floor_workers = args.workers or rig.cores()
    about = {"wrk": wrk.version(), **machine.describe()}

    found = Figures()
    pythons: dict[str, Path] = {}
    for name in args.peers:
        print(f"installing {name}", file=sys.stderr, flush=True)
        try:
            pythons[name] = install(name, args.engine)
        except BenchError as error:
            found.failures[name] = str(error)
    if args.install_only:
        sys.exit("\n".join(f"{name}: {why}" for name, why in found.failures.items()) or 0)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwind, and so stop the servers
    isolated = loopback.isolate()
    checkpoint = rig.store(args.models_dir) / f"{args.model}.safetensors"
    args.haproxy = has_haproxy()
    sweeps: dict[str, str] = {}  # peer -> table
    turns = {OURS: partial(turn_of_ours, args, checkpoint)}
    for name, python in pythons.items():
        if PEERS[name].opens_ports and not isolated:
            found.failures[name] = (
                "opens ports on all addresses, and this system grants no network of its own"
            )
            continue
        try:
            chosen, tried = settings_of(args, checkpoint, PEERS[name], python)
        except BenchError as error:
            found.failures[name] = str(error).partition("; the end of its log")[0]
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        sweeps[name] = tried
        turns[name] = partial(turn_of_peer, args, checkpoint, PEERS[name], python, chosen)
    take_turns(turns, args.rounds, found)
    result = found.result({"workers": args.floor_workers, "engine": args.engine, "sweeps": sweeps})
    save(result, args, about)
    print(
        f"medians of {args.rounds} rounds of {args.seconds} s; {about['cores']} cores of "
        f"{about['cpu']}, load before: {about['load_before']}; {args.floor_workers} workers, "
        f"{args.engine}\n\n"
        f"{markdown(result)}\n\nTried for each load, the best in bold:\n\n"
        + "\n\n".join(sweeps.values())
    )


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
