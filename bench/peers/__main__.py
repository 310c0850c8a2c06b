"""``python -m bench.peers``: six other servers and ours, the same work, in rotation."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import loopback, machine, rig, wrk
from bench.__main__ import whole
from bench.children import ROOT, BenchError, Server, free_ports
from bench.peers.table import PEERS, Peer
from bench.peers.turns import OURS, Figures, Turn, markdown, measured, take_turns
from bench.results import save

HERE = Path(__file__).parent
VENVS = ROOT / "bench/.peers"


def install(name: str) -> Path:
    """The peer's Python, in an environment made on first use and after a change of its pins.

    Raises:
        BenchError: it cannot be installed; the message ends with what uv said.
    """
    pins, folder = HERE / f"{name}.txt", VENVS / name
    python, stamp = folder / "bin/python", folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return python
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        raise BenchError("uv is not installed; `make dev` brings it")
    wheels = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")  # as the Makefile
    cpu = [] if wheels else ["--torch-backend", "cpu"]
    env = {**os.environ, **({"UV_FIND_LINKS": wheels} if wheels else {})}
    packages = ["--python", str(python), *cpu, "-r", str(pins)]
    for command in (
        [uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "-q", "--compile-bytecode", *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        if done.returncode:
            raise BenchError(f"not installed: {done.stderr.strip()[-500:]}")
    shutil.copy(pins, stamp)
    return python


def turn_of_peer(args: argparse.Namespace, checkpoint: Path, peer: Peer, python: Path) -> Turn:
    """A start of the peer, with its figures."""
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
            **{name: value.replace("{folder}", str(folder)) for name, value in peer.env.items()},
        }
        server = Server(stack, peer.name, [str(python), *peer.command], folder, env)
        start_s = server.wait("POST", peer.path, peer.body(args.label, 1))
        ask = partial(peer.body, args.label)
        return measured(server, peer.path, ask, start_s, args)


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
        ours = rig.Service(stack, rig.folder(stack), args, "--engine", args.engine)
        return measured(ours, "/generate", None, ours.start_s, args)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.peers", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}; none = all")
    add("--connections", type=whole(1, 1024), nargs="+", default=[1, 64, 256], help="at a time")
    add("--rounds", type=whole(1, 100), default=3, help="starts of each server")
    add("--seconds", type=whole(1, 120), default=5, help="length of each measurement")
    add("--label", type=whole(0, 9999), default=7, help="class index asked for")
    add("--engine", choices=["onnx", "torch"], default="onnx", help="of all, ours too")
    add("--model", default="mnist-cgan-v6", help="checkpoint in the store")
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
    for name in args.peers or PEERS:
        print(f"installing {name}", file=sys.stderr, flush=True)
        try:
            pythons[name] = install(name)
        except BenchError as error:
            found.failures[name] = str(error)
    if args.install_only:
        sys.exit("\n".join(f"{name}: {why}" for name, why in found.failures.items()) or 0)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwind, and so stop the servers
    isolated = loopback.isolate()
    checkpoint = rig.store(args.models_dir) / f"{args.model}.safetensors"
    turns = {OURS: partial(turn_of_ours, args, checkpoint)}
    for name, python in pythons.items():
        if PEERS[name].opens_ports and not isolated:
            found.failures[name] = (
                "opens ports on all addresses, and this system grants no network of its own"
            )
        else:
            turns[name] = partial(turn_of_peer, args, checkpoint, PEERS[name], python)
    take_turns(turns, args.rounds, found)
    result = found.result({"workers": args.floor_workers, "engine": args.engine})
    save(result, args, about)
    print(
        f"medians of {args.rounds} rounds of {args.seconds} s; {about['cores']} cores of "
        f"{about['cpu']}, load before: {about['load_before']}; {args.floor_workers} workers, "
        f"{args.engine}\n\n"
        f"{markdown(result)}"
    )


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
