"""The bare generator, one thread, no server: ``python -m bench.generator <models_dir> <name>``.

On the engine, and in passes of the sizes, that the service would use here. Answers each line
"<batch> <seconds>" on standard input with one line of JSON; ends with the input.
"""

import json
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from app.engines.engine import Engine
from app.engines.store import load_store

BATCH = 64  # the service's default max_batch; measured at no larger one


def main() -> None:
    folder, name = Path(sys.argv[1]), sys.argv[2]
    model = load_store(folder)[0][name]
    engine = Engine({name: model}, BATCH)
    engine.start_thread()
    engine.warm_up()
    random, classes = np.random.default_rng(0), model.network.num_classes
    for line in sys.stdin:
        batch, seconds = (int(word) for word in line.split())
        z = random.standard_normal((batch, model.network.latent_dim), np.float32)
        labels = np.arange(batch) % classes if classes else None
        parts = [
            (z[start : start + size], None if labels is None else labels[start : start + size])
            for start, _, size in engine.plans[name, "generate"].passes(batch)
        ]
        times = [time.perf_counter()]
        while times[-1] < times[0] + seconds:
            for part, part_labels in parts:
                model.backend.run("generate", part, part_labels)
            times.append(time.perf_counter())
        passes = [after - before for before, after in pairwise(times)]
        centiles = statistics.quantiles(passes * 2, n=100, method="inclusive")
        told = {
            "per_s": batch * len(passes) / (times[-1] - times[0]),
            "p50_ms": centiles[49] * 1e3,
            "p99_ms": centiles[98] * 1e3,
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
