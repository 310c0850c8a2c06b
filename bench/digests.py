"""Digests of what a checkpoint's graphs give on this processor: the proof of portable bytes.

Runs alone, under an emulator too: needs numpy, onnxruntime and safetensors, no torch.

    python -m bench.digests models_store/NAME.safetensors --count 10000 --batches 1,64
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from training.networks.configs import GRAPH
from training.networks.golden import golden_inputs
from training.networks.graph.config import GraphConfig
from training.networks.graph.onnx_file import read_graph
from training.networks.graph.rows import decoder_feed
from training.networks.header import read

CHUNK = 64  # rows whose inputs are drawn at once


def digest(
    session: onnxruntime.InferenceSession, parts: list[dict[str, np.ndarray]], rows: int
) -> str:
    """SHA-256 of all outputs, computed ``rows`` at a time, whatever that number."""
    hashes = [hashlib.sha256() for _ in session.get_outputs()]
    for feed in parts:
        count = len(next(iter(feed.values())))
        for start in range(0, count, rows):
            batch = {name: value[start : start + rows] for name, value in feed.items()}
            for sha, output in zip(hashes, session.run(None, batch), strict=True):
                sha.update(output.tobytes())
    return hashlib.sha256("".join(sha.hexdigest() for sha in hashes).encode()).hexdigest()


def main() -> None:
    """Print a JSON object: engine version, and by operation and batch size the digest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--count", default="10000", help="images; with commas, one a checkpoint")
    parser.add_argument("--batches", default="1,64")
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    counts = [int(count) for count in arguments.count.split(",")]
    if len(counts) == 1:
        counts *= len(arguments.checkpoints)
    for checkpoint, count in zip(arguments.checkpoints, counts, strict=True):
        description = read(checkpoint).description
        for operation, graph in description.graphs.items():
            session = onnxruntime.InferenceSession(
                read_graph(checkpoint, operation, graph, description.kind == GRAPH),
                options,
                ["CPUExecutionProvider"],
            )
            names = [value.name for value in session.get_inputs()]
            parts = []
            for first in range(0, count, CHUNK):
                size = min(CHUNK, count - first)
                inputs = golden_inputs(description.network, operation, size, first)
                feed: dict[str, Any] = dict(zip(names, inputs, strict=False))
                if isinstance(description.network, GraphConfig):
                    feed = decoder_feed(description.network, *inputs)
                parts.append(feed)
            for rows in map(int, arguments.batches.split(",")):
                found = {
                    "model": checkpoint.stem,
                    "operation": operation,
                    "batch": rows,
                    "engine": f"ONNX Runtime {onnxruntime.__version__}",
                    "digest": digest(session, parts, rows),
                }
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
