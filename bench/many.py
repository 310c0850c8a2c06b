"""Sixty-four images a request, as one PNG grid and as npy: images a second beside M."""

from argparse import Namespace
from contextlib import ExitStack

from bench import rig
from bench.generator import BATCH
from bench.report import MODEL, Result, Samples
from bench.rounds import rounds

N, CONNECTIONS = 64, 16
FORMS = {"PNG grid": f"&n={N}", "npy": f"&n={N}&format=npy"}


def run(args: Namespace) -> Result:
    """Images a second of each form, of M, and their ratios within the rounds."""
    samples: Samples = {}
    with ExitStack() as stack:
        folder = rig.folder(stack)
        ours = rig.Service(stack, folder, args)
        model = rig.Generators(stack, folder, args.models_dir, ours.model, args.floor_workers)
        for number, kind, seconds in rounds([*FORMS, MODEL], args):
            if kind == MODEL:
                rate = model.run(BATCH, seconds)["per_s"]
            else:
                rate = N * ours.load(CONNECTIONS, seconds, FORMS[kind])["per_s"]
            if number:
                samples.setdefault(f"{kind}, images/s", []).append(rate)
        for kind in FORMS:
            pairs = zip(samples[f"{kind}, images/s"], samples[f"{MODEL}, images/s"], strict=True)
            samples[f"{kind} / M"] = [rate / most for rate, most in pairs]
        about: dict[str, object] = {"model": ours.model, "n": N, "connections": CONNECTIONS}
    return Result("many", about, samples)
