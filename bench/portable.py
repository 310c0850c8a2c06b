"""The proof of portable bytes: processors x engines x batch sizes -> one digest.

    python -m bench.portable                            all portable checkpoints of models_store
    python -m bench.portable NAME --processors Nehalem,Haswell --count 1000
    python -m bench.portable --engines FOLDER           a folder with another onnxruntime
    python -m bench.portable --arm64 ROOT SITE          an arm64 Python unpacked into ROOT, and a
                                                        folder of packages for it

Other processors are emulated by qemu-user: ``apt install qemu-user``. An x86 processor needs
nothing else; arm64 needs its own Python and wheels of numpy, onnxruntime and safetensors.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from training.networks.header import read

ROOT = Path(__file__).parent.parent
PROCESSORS = "Nehalem,SandyBridge,Haswell,Icelake-Server"
EMULATOR = "qemu-x86_64"


def digests(
    checkpoints: Iterable[Path],
    count: int,
    batches: str,
    emulator: list[str] | None = None,
    packages: Iterable[Path | str] = (),
    python: list[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """What ``bench.digests`` prints, of a process of its own.

    Args:
        emulator: Command in front of Python; None = this processor.
        packages: Folders in front of this environment's.
        python: Another interpreter; it gets ``packages`` alone.
    """
    own = [] if python else [sysconfig.get_path("purelib")]
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, [*packages, *own, ROOT])),
    }
    command = [*(emulator or []), *(python or [os.path.realpath(sys.executable)])]
    command += ["-m", "bench.digests", *map(str, checkpoints)]
    command += ["--count", str(count), "--batches", batches]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command[:3])} ended with {done.returncode}: {done.stderr[-2000:]}"
        )
    for line in done.stdout.splitlines():
        yield json.loads(line)


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
    parser.add_argument("--arm64", type=Path, nargs=2, metavar=("ROOT", "SITE"))
    arguments = parser.parse_args()
    known = sorted(arguments.store.glob("*.safetensors"))
    checkpoints = [
        path
        for path in known
        if (path.stem in arguments.names if arguments.names else read(path).description.portable)
    ]
    given = [path.resolve() for path in checkpoints]
    last = arguments.batches.split(",")[-1]
    runs: list[tuple[str, str, dict[str, Any]]] = [("this processor", arguments.batches, {})]
    runs += [("this processor", last, {"packages": [folder]}) for folder in arguments.engines]
    if shutil.which(EMULATOR):
        for processor in filter(None, arguments.processors.split(",")):
            runs.append((processor, last, {"emulator": [EMULATOR, "-cpu", processor]}))
    else:
        print(f"{EMULATOR} is not installed: no other x86 processors")
    if arguments.arm64:
        root, site = (folder.resolve() for folder in arguments.arm64)
        python = [str(root / "usr/bin/python3.11"), "-S"]
        emulated = {"emulator": ["qemu-aarch64", "-L", str(root)], "packages": [site]}
        runs.append(("arm64", last, {**emulated, "python": python}))
    seen: dict[tuple[str, str], set[str]] = {}
    print(f"{arguments.count:,} images an operation\n")
    print("| processor | engine | batch | model | operation | digest |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for processor, batches, how in runs:
        for row in digests(given, arguments.count, batches, **how):
            seen.setdefault((row["model"], row["operation"]), set()).add(row["digest"])
            shown = [processor, row["engine"], row["batch"], row["model"], row["operation"]]
            print(f"| {' | '.join(map(str, shown))} | `{row['digest'][:12]}` |", flush=True)
    differing = [" ".join(key) for key, found in seen.items() if len(found) > 1]
    print(f"\n{'differs: ' + ', '.join(differing) if differing else 'one digest an operation'}")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
