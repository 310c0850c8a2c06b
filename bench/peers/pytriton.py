"""PyTriton: https://triton-inference-server.github.io/pytriton, "Binding models", "Batching".

The advice: several callables for several instances, and dynamic batching with a short delay.
Its embedded interpreter must find the libpython that belongs to the standard library in use, so the
table points LD_LIBRARY_PATH there, as the installation guide does for pyenv.
"""

import os
import signal
import sys

import numpy as np
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.proxy.types import Request
from pytriton.triton import Triton, TritonConfig

from bench.peers.model import BATCH, WAIT_MS, Model


class Generate:
    def __init__(self) -> None:
        self.model: Model | None = None

    def __call__(self, requests: list[Request]) -> list[dict[str, np.ndarray]]:
        if self.model is None:  # in the process that runs it, not the one that binds it
            self.model = Model()
        wanted = [{"label": int(r["label"][0, 0]), "n": int(r["n"][0, 0])} for r in requests]
        return [{"png": np.frombuffer(png, np.uint8)[None]} for png in self.model.answer(wanted)]


if __name__ == "__main__":
    config = TritonConfig(
        http_address=os.environ["BENCH_HOST"],
        http_port=int(os.environ["BENCH_PORT"]),
        allow_grpc=False,
        allow_metrics=False,
        log_verbose=0,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that its shared memory is freed
    with Triton(config=config) as triton:
        triton.bind(
            model_name="generate",
            infer_func=[Generate() for _ in range(int(os.environ["BENCH_WORKERS"]))],
            inputs=[
                Tensor(name="label", dtype=np.int64, shape=(1,)),
                Tensor(name="n", dtype=np.int64, shape=(1,)),
            ],
            outputs=[Tensor(name="png", dtype=np.uint8, shape=(-1,))],
            config=ModelConfig(
                max_batch_size=BATCH,
                batcher=DynamicBatcher(max_queue_delay_microseconds=1000 * WAIT_MS),
            ),
            strict=False,
        )
        triton.serve()
