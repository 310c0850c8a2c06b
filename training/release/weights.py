"""The weights of a run that are published: the last averaged ones, or those of the best epoch."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from training.config import AnyRun
from training.loops.vae import PRIOR_FITTED
from training.networks import build
from training.networks.gan import Generator
from training.networks.vae import VAE
from training.runs.errors import STATE, TrainingError, one_line
from training.runs.run_state import load_best, read_tensors


@dataclass(frozen=True)
class AveragedWeights:
    """A network with averaged weights of a run."""

    network: Generator | VAE  # in eval mode, on the CPU
    step: int  # at which they were taken
    seconds: float  # of training until then
    origin: str  # which weights, in words, for header and card


def load_averaged(folder: Path, kind: str, run: AnyRun, best: bool, images: int) -> AveragedWeights:
    """The run's last averaged weights, or those of the epoch with the best measurement.

    Says so on stderr if the run is not finished.

    Args:
        best: The best epoch's instead of the last ones.
        images: Of the training set, without those held out.

    Raises:
        TrainingError: there are none, a file is damaged, or a VAE's prior is not fitted yet.
    """
    path = folder / STATE
    resume = f"python -m training {kind} --resume {shlex.quote(str(folder))}"
    if not path.exists():
        raise TrainingError(
            f"{folder} has no {STATE} yet: nothing to publish. A run saves one every "
            f"{run.save_every} steps and when it is stopped: {resume}"
        )
    network = build(kind, run.network)
    try:
        metadata, tensors = read_tensors(path)
        step, seconds = int(metadata["step"]), float(metadata["seconds"])
        fitted = json.loads(metadata["carried"]).get(PRIOR_FITTED)
        network.load_state_dict(
            {k.removeprefix("ema."): v for k, v in tensors.items() if k.startswith("ema.")}
        )
    except (SafetensorError, OSError, LookupError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{path} is damaged: {one_line(error)}. Continue the run from an older copy, or start "
            "a new one"
        ) from error
    total = run.total_steps(images)
    if isinstance(network, VAE) and network.config.prior_layers and not fitted:
        raise TrainingError(
            f"{folder} has not fitted its prior yet, at step {step:,} of {total:,}; finish it "
            f"with: {resume}"
        )
    origin = "the last averaged weights of the run"
    if step < total:
        origin += f", at step {step:,} of {total:,}"
        print(
            f"{folder} is not finished: step {step:,} of {total:,}. It is published as it is; to "
            f"continue it: {resume}",
            file=sys.stderr,
            flush=True,
        )
    if best:
        metadata = load_best(folder, network)
        origin = (
            f"the averaged weights of step {metadata['step']}, whose {metadata['measure']} was the "
            f"lowest of all epochs ({float(metadata['value']):.4g})"
        )
        step, seconds = int(metadata["step"]), float(metadata["seconds"])
    return AveragedWeights(network.eval().requires_grad_(False), step, seconds, origin)
