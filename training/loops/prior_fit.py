"""The end of a VAE's training: its prior, fitted to where the finished encoder puts images."""

import json
import sys
import time
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from training.config import VaeRun
from training.data.dataset import Dataset, to_pixels
from training.evaluation.likelihood import binarised
from training.networks.prior import FlowPrior
from training.networks.vae import VAE
from training.optim.hardware import Hardware, Update
from training.runs.reporting import Interrupts, Stopped, progress_of
from training.runs.run_folder import RunState, TrainingError, in_a_line, read_tensors

BATCH = 512
ENCODER = "encoder"  # in the state: which one the fit is for


def fit_prior(
    run: VaeRun,
    vae: VAE,
    data: Dataset,
    path: Path | None = None,
    asked: Interrupts | None = None,
) -> float:
    """Fit ``vae.prior`` to where the encoder puts the training images.

    Maximum likelihood of z ~ q(z|x), a fresh draw each time. A prior that was trained jointly goes
    on from where it is.

    Args:
        run: Its settings.
        vae: In eval mode, with no gradients; its prior changes.
        data: The images that it has learnt from.
        path: State of the fit, written every ``run.save_every`` steps and taken up if it is there:
            a fit that was cut off ends with the same prior, bit-exactly on a CPU. None = no state.
        asked: Tells of Ctrl-C and SIGTERM, which end the fit after a step; None = neither does.

    Returns:
        Seconds that the fit has taken, over all restarts.

    Raises:
        Stopped: Ctrl-C or SIGTERM; the state of the step it came in is saved.
        TrainingError: the state cannot be written, or not be taken up.
    """
    mu, logvar = _posteriors(run, vae, data)
    if run.prior_fit == "after":
        torch.manual_seed(run.seed)
        shape = run.network
        fresh = FlowPrior(
            shape.latent_dim, shape.prior_layers, shape.prior_hidden, shape.prior_mixing
        )
        vae.prior.load_state_dict(fresh.state_dict())
    vae.prior.requires_grad_(True)
    adam = torch.optim.Adam(vae.prior.parameters(), run.lr, fused=True)
    update = Update(adam, Hardware(mu.device), precision="32")
    noise = torch.Generator().manual_seed(run.seed)
    state = RunState({"prior": vae.prior}, {"optimizer": update}, noise)
    state.carried[ENCODER] = _mark(vae)
    if path and _goes_on(path, state.carried[ENCODER]):
        state.load(path)
    started = time.monotonic() - state.seconds

    with progress_of(run.prior_steps, state.step, BATCH) as progress:
        while state.step < run.prior_steps and not (asked and asked.stop):
            chosen = torch.randint(len(mu), (BATCH,), generator=noise).to(mu.device)
            epsilon = torch.randn(BATCH, mu.shape[1], generator=noise).to(mu.device)
            z = mu[chosen] + epsilon * torch.exp(logvar[chosen] / 2)
            loss = -vae.prior.log_prob(z).mean()
            update.learning_rate(run.lr * (1 - state.step / run.prior_steps))
            update.minimise(loss)
            if state.step % run.log_every == 0:
                said = f"prior's cross-entropy {float(loss.detach()):.2f} nats"
                progress.set_postfix_str(said, False)
            state.step += 1
            state.seconds = time.monotonic() - started
            progress.update()
            ends = state.step == run.prior_steps or (asked and asked.stop)
            if path and (state.step % run.save_every == 0 or ends):
                state.save(path)
    vae.prior.requires_grad_(False)
    if state.step < run.prior_steps:
        raise Stopped(f"step {state.step} of {run.prior_steps} of the prior's fit")
    return state.seconds


def _mark(vae: VAE) -> float:
    """Of the encoder's weights: those of another one give another fit."""
    weights = (tensor.cpu().contiguous() for tensor in vae.encoder.state_dict().values())
    crc = 0
    for tensor in weights:
        crc = zlib.crc32(tensor.numpy().tobytes(), crc)
    return float(crc)


def _goes_on(path: Path, mark: float) -> bool:
    """Whether there is a whole state of a fit for this encoder; what is none is told, and begun
    anew: the training before it is not lost."""
    if not path.exists():
        return False
    try:
        about, _ = read_tensors(path)
        if json.loads(about["carried"])[ENCODER] == mark:
            return True
        said = "it is of another encoder"
    except (SafetensorError, OSError, ValueError, LookupError, TrainingError) as error:
        said = in_a_line(error)
    print(f"{path} is not gone on with ({said}): the prior's fit begins anew", file=sys.stderr)
    return False


@torch.no_grad()
def _posteriors(run: VaeRun, vae: VAE, data: Dataset) -> tuple[Tensor, Tensor]:
    """mu and logvar of the images, (N, Z) each, binarised anew where the run's are."""
    parts = []
    for seed, levels in enumerate(data.images.split(1000), run.seed):
        images = to_pixels(levels)
        parts += [vae.encode(binarised(images, seed) if run.pixels == "binarised" else images)]
    mu, logvar = (torch.cat(column) for column in zip(*parts, strict=True))
    return mu, logvar
