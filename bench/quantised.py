"""What quantising costs and brings: each portable checkpoint beside the same weights in floating
point.

    python -m bench.quantised                      all portable checkpoints of models_store
    python -m bench.quantised NAME --rounds 9

By turns: the process time of an image in ONNX Runtime, by one thread in batches of 64; and one
worker that serves both, under ``wrk``, which asks for single pictures on 64 connections. Quality is
``python -m training evaluate NAME`` and the same with ``--float``.
"""

import argparse
import dataclasses
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import torch

from bench import processes, rig
from bench.children import Server, module
from training.networks.checkpoint import network_of
from training.networks.configs import Operation
from training.networks.graph.onnx_file import graph_path
from training.networks.header import read
from training.release.export import named_inputs, save_with_graphs
from training.release.session import session_of

ROOT = Path(__file__).parent.parent
BATCH = 64
CONNECTIONS = 64
PASSES = 10  # in a turn
FORMS = ("floating point", "quantised")


def beside(path: Path, folder: Path) -> dict[str, Path]:
    """The two forms of a checkpoint in ``folder``: the shipped one, and one exported anew."""
    contents = read(path)
    for file in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(file, folder)
    floating = folder / f"{path.stem}-float.safetensors"
    description = dataclasses.replace(contents.description, graphs={}, fit=None)
    save_with_graphs(floating, network_of(contents), description)
    return dict(zip(FORMS, (floating, folder / path.name), strict=True))


def graph_costs(
    forms: dict[str, Path], operation: Operation, rounds: int
) -> dict[str, tuple[int, float]]:
    """Of each form the bytes of its graph, and the process time of an image in microseconds."""
    torch.set_num_threads(1)
    network = network_of(read(forms["quantised"]))
    feed = {name: one.numpy() for name, one in named_inputs(network, operation, BATCH).items()}
    graphs = {form: graph_path(path, operation).read_bytes() for form, path in forms.items()}
    sessions = {form: session_of(data) for form, data in graphs.items()}
    used: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(rounds + 1):
        for form, session in sessions.items():
            begun = time.process_time()
            for _ in range(PASSES):
                session.run(None, feed)
            used[form].append((time.process_time() - begun) / PASSES / BATCH * 1e6)
    return {form: (len(graphs[form]), median(used[form][1:])) for form in forms}


def served(
    service: Server, forms: dict[str, Path], rounds: int, seconds: int
) -> dict[str, tuple[float, float]]:
    """Of each form the pictures a second, and the CPU time of each in microseconds."""
    seen: dict[str, list[tuple[float, float]]] = {form: [] for form in forms}
    for number in range(rounds + 1):
        for form, path in forms.items():
            before = processes.cpu_s(service.processes())
            url = f"/generate?model={path.stem}"
            told = rig.loaded(service, url, CONNECTIONS, seconds if number else 1)
            used = processes.cpu_s(service.processes()) - before
            seen[form].append((told["per_s"], used / told["requests"] * 1e6))
    medians = {form: zip(*found[1:], strict=True) for form, found in seen.items()}
    return {form: (median(rates), median(costs)) for form, (rates, costs) in medians.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="checkpoints; none = all that are portable")
    parser.add_argument("--store", type=Path, default=ROOT / "models_store")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    parser.add_argument("--seconds", type=int, default=3, help="of load in a turn")
    given = parser.parse_args()
    chosen = [
        path
        for path in sorted(given.store.glob("*.safetensors"))
        if (path.stem in given.names if given.names else read(path).description.portable)
    ]
    with ExitStack() as stack:
        folder = rig.folder(stack)
        all_forms = {path.stem: beside(path, folder) for path in chosen}
        print("floating point, then quantised\n\n| model | operation | bytes | us an image |")
        print("| --- | --- | --- | --- |", flush=True)
        for name, forms in all_forms.items():
            for operation in read(forms["quantised"]).description.operations:
                costs = graph_costs(forms, operation, given.rounds)
                sizes, times = zip(*(costs[form] for form in FORMS), strict=True)
                shown = f"{sizes[0]:,}, {sizes[1]:,} | {times[0]:.0f}, {times[1]:.0f}"
                print(f"| {name} | {operation} | {shown} |", flush=True)
        print("\n| model | pictures a second | us of CPU a picture |\n| --- | --- | --- |")
        command = module("app", "--host", "{host}", "--port", "{port}", "--workers", "1")
        command += ["--models-dir", str(folder)]
        service = Server(stack, "ours", command, rig.folder(stack))
        service.wait("GET", "/readyz")
        for name, forms in all_forms.items():
            rates = served(service, forms, given.rounds, given.seconds)
            per_s, costs_us = zip(*(rates[form] for form in FORMS), strict=True)
            shown = f"{per_s[0]:,.0f}, {per_s[1]:,.0f} | {costs_us[0]:.0f}, {costs_us[1]:.0f}"
            print(f"| {name} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
