"""TorchServe: https://pytorch.org/serve, "Performance Guide", "Batch Inference".

The advice: a worker a core with one thread each, batches with a short delay, a job queue long
enough for all who wait. (The project is no longer developed.)
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.peers.model import BATCH, WAIT_MS

if __name__ == "__main__":
    host, port = os.environ["BENCH_HOST"], int(os.environ["BENCH_PORT"])
    scripts, folder = Path(sys.executable).parent, Path(os.environ["TMPDIR"])
    handler = str(Path(__file__).with_name("torchserve_handler.py"))
    archiver = [str(scripts / "torch-model-archiver"), "--model-name", "generate", "--version", "1"]
    subprocess.run([*archiver, "--handler", handler, "--export-path", str(folder)], check=True)
    workers = int(os.environ["BENCH_WORKERS"])
    model = {
        "defaultVersion": True,
        "marName": "generate.mar",
        "minWorkers": workers,
        "maxWorkers": workers,
        "batchSize": BATCH,
        "maxBatchDelay": WAIT_MS,
        "responseTimeout": 60,
    }
    others = [int(other) for other in os.environ["BENCH_OTHER_PORTS"].split()]
    config = {
        "inference_address": f"http://{host}:{port}",
        "management_address": f"http://{host}:{others[0]}",
        "metrics_address": f"http://{host}:{others[1]}",
        "grpc_inference_address": host,
        "grpc_inference_port": others[2],
        "grpc_management_address": host,
        "grpc_management_port": others[3],
        "model_store": folder,
        "load_models": "generate.mar",
        "models": json.dumps({"generate": {"1": model}}),
        "job_queue_size": 4096,
        "disable_token_authorization": "true",
        "disable_system_metrics": "true",
    }
    path = folder / "config.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in config.items()))
    os.chdir(folder)  # it writes logs/ here
    program = str(scripts / "torchserve")
    os.execv(program, [program, "--start", "--foreground", "--ncs", "--ts-config", str(path)])
