"""Closed loop: each connection asks again when it has its answer. Ours beside floors and model."""

from argparse import Namespace
from contextlib import ExitStack

from bench import report, rig
from bench.generator import BATCH
from bench.report import BARE, BARE_1, FASTAPI, FASTAPI_1, MODEL, OURS, SEEDED, Figure, Result
from bench.rounds import rounds


def run(args: Namespace) -> Result:
    """One figure a round, number of connections and target; ratios within the rounds."""
    figures: list[Figure] = []
    workers: int = args.floor_workers
    targets = [OURS, SEEDED, BARE, FASTAPI, MODEL]
    with ExitStack() as stack:
        folder = rig.folder(stack)
        ours = rig.Service(stack, folder, args)
        floors = {
            BARE: rig.floor(stack, folder, "bare", workers),
            FASTAPI: rig.floor(stack, folder, "fastapi", workers),
        }
        if workers > 1:
            targets += [BARE_1, FASTAPI_1]
            floors[BARE_1] = rig.floor(stack, folder, "bare", 1)
            floors[FASTAPI_1] = rig.floor(stack, folder, "fastapi", 1)
        model = rig.Generators(stack, folder, args.models_dir, ours.model, workers)

        def measure(target: str, connections: int, seconds: int) -> dict[str, float]:
            if target == MODEL:
                return model.run(min(connections, BATCH), seconds, min(connections, workers))
            if target in (OURS, SEEDED):
                argument = "seeded" if target == SEEDED else None
                return ours.load(connections, seconds, argument=argument)
            return rig.loaded(floors[target], "/generate", connections, seconds)

        kinds = [(c, t) for c in dict.fromkeys(args.connections) for t in targets]
        for number, (connections, target), seconds in rounds(kinds, args):
            told = measure(target, connections, seconds)
            if number:
                figures.append(Figure.of(number, connections, target, told))
        about = {"model": ours.model, "floor_workers": workers}
    return Result("closed", about, report.ratios_of(figures), figures)
