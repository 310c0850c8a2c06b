"""The work that is the same for all peers: labels in, fresh noise, one pass, PNGs out.

Networks, engines and the PNG writer are ours, so that only the servers differ.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from app.engines.backend import Backend, to_levels
from app.formats.png import to_png
from app.formats.sheets import sheet
from training.networks.graph.onnx_file import portable_graphs
from training.networks.header import read

MAX_BATCH = 64  # rows of one pass; our service's default
# Requests that a peer joins at most, and milliseconds for which it waits for them: of the sweep.
BATCH = int(os.environ.get("BENCH_BATCH", "64"))
WAIT_MS = int(os.environ.get("BENCH_WAIT_MS", "1"))


class Model:
    """The checkpoint BENCH_CHECKPOINT on the engine BENCH_ENGINE, onnx or torch; one thread."""

    def __init__(self) -> None:
        path = Path(os.environ["BENCH_CHECKPOINT"])
        contents = read(path)
        self._latent_dim = contents.description.network.latent_dim
        self._random = np.random.default_rng()
        self._backend: Backend
        if os.environ["BENCH_ENGINE"] == "torch":
            from app.engines.torch_backend import TorchBackend

            self._backend = TorchBackend(
                contents, "cpu", 1, portable_graphs(path, contents.description)
            )
        else:
            from app.engines.onnx_backend import OnnxBackend

            self._backend = OnnxBackend(path, contents.description, 1)
        self._backend.start_thread()
        self.answer([{"label": 0}])

    def answer(self, wanted: Sequence[Mapping[str, int]]) -> list[bytes]:
        """A PNG for each ``{"label": 7, "n": 64}``: n images in a grid, 1 without n."""
        counts = [each.get("n", 1) for each in wanted]
        labels = np.repeat([each["label"] for each in wanted], counts).astype(np.int64)
        z = self._random.standard_normal((len(labels), self._latent_dim), np.float32)
        levels = np.concatenate(
            [
                to_levels(
                    *self._backend.run("generate", z[i : i + MAX_BATCH], labels[i : i + MAX_BATCH])
                )[0]
                for i in range(0, len(labels), MAX_BATCH)
            ]
        )
        return [to_png(sheet(list(part))) for part in np.split(levels, np.cumsum(counts)[:-1])]
