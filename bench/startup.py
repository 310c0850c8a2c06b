"""From the start of the process to the first digit, and the memory after some work."""

import shutil
from argparse import Namespace
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path

from bench import processes, rig
from bench.report import Result, Samples
from bench.rounds import rounds

CONNECTIONS = 64
MANY = 20  # models of a large store
KINDS = ("the store", "the store, again", f"{MANY} models", f"{MANY} models, again")


def enlarge(store: Path, folder: Path, count: int) -> None:
    """Fill a folder with so many checkpoints: those of a store, again and again."""
    for number, path in enumerate(islice(cycle(sorted(store.glob("*.safetensors"))), count)):
        for part in store.glob(f"{path.stem}.*"):
            shutil.copy(part, folder / f"m{number}-{part.name}")


def run(args: Namespace) -> Result:
    """A start a round and kind. "Again": with the times that the start before has kept in
    ``GENSERVE_CACHE_DIR``. Memory is PSS: pages that processes share are counted once."""
    samples: Samples = {}
    model = ""
    with ExitStack() as outer:
        large = rig.folder(outer)
        enlarge(rig.store(args.models_dir), large, MANY)
        caches = {kind: rig.folder(outer) for kind in KINDS if kind.endswith("again")}
        for number, kind, seconds in rounds(KINDS, args):
            with ExitStack() as stack:
                options: list[str] = []
                if kind in caches:
                    options = ["--cache-dir", str(caches[kind])]
                asked = Namespace(**vars(args))
                if kind.startswith(str(MANY)):
                    asked.models_dir = large
                    first = min(path.stem for path in large.glob("m*cgan*.safetensors"))
                    options += ["--default-model", first]
                ours = rig.Service(stack, rig.folder(stack), asked, *options)
                found = {
                    f"{kind}: start to first digit, s": ours.start_s,
                    f"{kind}: CPU of the start, s": processes.cpu_s(ours.processes()),
                }
                if kind == KINDS[0]:
                    model = ours.model
                    ours.load(CONNECTIONS, seconds)
                    found |= {
                        "processes": len(ours.processes()),
                        "PSS of all, MiB": ours.pss_mib(),
                        "PSS a process, MiB": ours.pss_mib() / len(ours.processes()),
                    }
            for name, value in found.items() if number else ():
                samples.setdefault(name, []).append(value)
    return Result("start", {"model": model}, samples)
