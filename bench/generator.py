"""The bare generator, one thread, no server: ``python -m bench.generator <checkpoint>``.

Answers each line "<batch> <seconds>" on standard input with one line of JSON; ends with the input.
"""

import json
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch

from training.networks.checkpoint import load


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as the service does
    network, _ = load(Path(sys.argv[1]))
    with torch.inference_mode():
        for line in sys.stdin:
            batch, seconds = (int(word) for word in line.split())
            z = torch.randn(batch, network.latent_dim)  # (B, Z)
            labels = torch.arange(batch) % network.num_classes if network.num_classes else None
            for _ in range(3):  # the first passes choose algorithms and allocate
                network.generate(z, labels)
            times = [time.perf_counter()]
            while times[-1] < times[0] + seconds:
                network.generate(z, labels)
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
