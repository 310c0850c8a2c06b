"""The proof of portable bytes: processors x engines x batch sizes -> one digest.

    python -m bench.portable                            all portable checkpoints of models_store
    python -m bench.portable NAME --processors Nehalem,Haswell --count 1000
    python -m bench.portable --engines FOLDER           a folder with another onnxruntime
    python -m bench.portable --arm64 FOLDER             what python -m bench.arm64 FOLDER fetched

Other processors are emulated by qemu-user: ``apt install qemu-user``. An x86 processor needs
nothing else; arm64 needs a Python and wheels of its own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.arm64 import python_of, site_of
from training.networks.header import read

ROOT = Path(__file__).parent.parent
PROCESSORS = "Nehalem,SandyBridge,Haswell,Icelake-Server"
EMULATOR = "qemu-x86_64"


def digests(
    checkpoints: Mapping[Path, int],
    batches: str,
    emulator: list[str] | None = None,
    packages: Iterable[Path | str] = (),
    python: list[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """What ``bench.digests`` prints, of a process of its own.

    Args:
        checkpoints: Files, and how many images of each.
        emulator: Command in front of Python; None = this processor.
        packages: Folders in front of this environment's.
        python: Another interpreter; it gets ``packages`` alone.
    """
    own = [] if python else [sysconfig.get_path("purelib")]
    command = [*(emulator or []), *(python or [os.path.realpath(sys.executable)])]
    command += ["-m", "bench.digests", *map(str, checkpoints)]
    command += ["--count", ",".join(map(str, checkpoints.values())), "--batches", batches]
    for line in _output(command, [*packages, *own]).decode().splitlines():
        yield json.loads(line)


def arm64(folder: Path) -> dict[str, Any]:
    """The arguments of ``digests`` for what ``bench.arm64`` fetched."""
    return {"python": python_of(folder), "packages": [site_of(folder)]}


def drawn_on_arm64(folder: Path, store: Path, address: str) -> bytes:
    """The body of a response of a service that runs on emulated arm64.

    Args:
        folder: What ``bench.arm64`` fetched.
        store: Its checkpoints.
        address: Such as ``/generate?seed=42``.
    """
    command = [*python_of(folder), "-m", "bench.answer", str(store), address]
    return _output(command, [site_of(folder)])


def _output(command: list[str], packages: Iterable[Path | str]) -> bytes:
    """What a command prints, with these packages and ours.

    Raises:
        RuntimeError: it failed.
    """
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, [*packages, ROOT])),
    }
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command[:3])} ended with {done.returncode}: {said}")
    return done.stdout


def main() -> None:
    """Print the table; exit with 1 where two digests of a model's operation differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="checkpoints; none = all that are portable")
    parser.add_argument("--store", type=Path, default=ROOT / "models_store")
    parser.add_argument("--count", type=int, default=10_000, help="images an operation")
    parser.add_argument("--batches", default="1,64", help="natively; under emulation the last one")
    parser.add_argument("--processors", default=PROCESSORS, help="as qemu-x86_64 names them")
    parser.add_argument("--engines", type=Path, nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--arm64", type=Path, metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processors at a time")
    arguments = parser.parse_args()
    known = sorted(arguments.store.glob("*.safetensors"))
    checkpoints = [
        path
        for path in known
        if (path.stem in arguments.names if arguments.names else read(path).description.portable)
    ]
    given = {path.resolve(): arguments.count for path in checkpoints}
    last = arguments.batches.split(",")[-1]
    runs: list[tuple[str, str, dict[str, Any]]] = [("this processor", arguments.batches, {})]
    runs += [("this processor", last, {"packages": [folder]}) for folder in arguments.engines]
    if shutil.which(EMULATOR):
        for processor in filter(None, arguments.processors.split(",")):
            runs.append((processor, last, {"emulator": [EMULATOR, "-cpu", processor]}))
    else:
        print(f"{EMULATOR} is not installed: no other x86 processors")
    if arguments.arm64:
        runs.append(("arm64", last, arm64(arguments.arm64.resolve())))
    seen: dict[tuple[str, str], set[str]] = {}
    print(f"{arguments.count:,} images an operation\n")
    print("| processor | engine | batch | model | operation | digest |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = pool.map(lambda run: list(digests(given, run[1], **run[2])), runs)
        for (processor, *_), rows in zip(runs, found, strict=True):
            for row in rows:
                seen.setdefault((row["model"], row["operation"]), set()).add(row["digest"])
                shown = [processor, row["engine"], row["batch"], row["model"], row["operation"]]
                print(f"| {' | '.join(map(str, shown))} | `{row['digest'][:12]}` |", flush=True)
    differing = [" ".join(key) for key, several in seen.items() if len(several) > 1]
    print(f"\n{'differs: ' + ', '.join(differing) if differing else 'one digest an operation'}")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
