"""The end of a VAE's training: its learned prior, fitted to the latents of the finished encoder."""

import copy
import json
import math
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
from training.runs.errors import TrainingError, one_line
from training.runs.interrupts import GracefulStop, Stopped
from training.runs.progress import progress_of
from training.runs.run_state import RunState, read_tensors

BATCH = 512
CHECK_EVERY = 50  # steps between two looks at held-out latents
CHECKED = 4096  # latents looked at, at most
ENCODER = "encoder"  # key in the state: the checksum of the encoder that the fit is for
LOWEST = "lowest"  # key in the state: the lowest cross-entropy of held-out latents


def fit_prior(
    run: VaeRun,
    vae: VAE,
    data: Dataset,
    held_out: Dataset | None = None,
    path: Path | None = None,
    stop: GracefulStop | None = None,
) -> float:
    """Fit ``vae.prior`` to the encoder's latents of the training images.

    Maximum likelihood of z ~ q(z|x), a fresh draw at each step. A prior that was trained jointly
    continues from its weights. The weights kept are those to which held-out latents are likeliest:
    a flow learns the latents of few images by heart, and samples would come close to those images.

    Args:
        run: The run's settings.
        vae: In eval mode, without gradients; its prior is changed.
        data: The images it was trained on.
        held_out: Images it was not trained on; None or empty = the last weights are kept.
        path: State of the fit, written every ``run.save_every`` steps and restored if it exists: an
            interrupted fit ends with the same prior, bit for bit on a CPU. None = no state.
        stop: Its request ends the fit after a step; None = nothing does.

    Returns:
        Seconds of fitting, over all restarts.

    Raises:
        Stopped: a stop was requested; the state of that step is saved.
        TrainingError: the state cannot be written or restored.
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
    kept = copy.deepcopy(vae.prior).requires_grad_(False)
    state = RunState({"prior": vae.prior, "kept": kept}, {"optimizer": update}, noise)
    state.carried |= {ENCODER: _encoder_checksum(vae), LOWEST: math.inf}
    if path and _can_resume(path, state.carried[ENCODER]):
        state.load(path)
    started = time.monotonic() - state.seconds
    checked = _fixed_latents(run, vae, held_out) if held_out and len(held_out) else None

    def look() -> None:
        """Keep the weights, if no earlier ones fit held-out latents as well."""
        assert checked is not None
        with torch.no_grad():
            found = -float(vae.prior.log_prob(checked).mean())
        if found < state.carried[LOWEST]:
            state.carried[LOWEST] = found
            kept.load_state_dict(vae.prior.state_dict())

    if checked is not None and state.step == 0:
        look()  # a prior that was trained jointly may be the best as it is

    with progress_of(run.prior_steps, state.step, BATCH) as progress:
        while state.step < run.prior_steps and not (stop and stop.requested):
            chosen = torch.randint(len(mu), (BATCH,), generator=noise).to(mu.device)
            epsilon = torch.randn(BATCH, mu.shape[1], generator=noise).to(mu.device)
            z = mu[chosen] + epsilon * torch.exp(logvar[chosen] / 2)
            loss = -vae.prior.log_prob(z).mean()
            update.learning_rate(run.lr * (1 - state.step / run.prior_steps))
            update.minimise(loss)
            if state.step % run.log_every == 0:
                text = f"prior's cross-entropy {float(loss.detach()):.2f} nats"
                progress.set_postfix_str(text, False)
            state.step += 1
            state.seconds = time.monotonic() - started
            progress.update()
            if checked is not None and (
                state.step % CHECK_EVERY == 0 or state.step == run.prior_steps
            ):
                look()
            ends = state.step == run.prior_steps or (stop and stop.requested)
            if path and (state.step % run.save_every == 0 or ends):
                state.save(path)
    vae.prior.requires_grad_(False)
    if state.step < run.prior_steps:
        raise Stopped(f"step {state.step} of {run.prior_steps} of the prior's fit")
    if math.isfinite(state.carried[LOWEST]):
        vae.prior.load_state_dict(kept.state_dict())
    return state.seconds


def _encoder_checksum(vae: VAE) -> float:
    """CRC-32 of the encoder's weights: a fit is valid for one encoder only."""
    weights = (tensor.cpu().contiguous() for tensor in vae.encoder.state_dict().values())
    crc = 0
    for tensor in weights:
        crc = zlib.crc32(tensor.numpy().tobytes(), crc)
    return float(crc)


def _can_resume(path: Path, checksum: float) -> bool:
    """Whether ``path`` is an undamaged state of a fit for this encoder. If it is not, say so: the
    fit starts anew, and the training before it is not lost."""
    if not path.exists():
        return False
    try:
        metadata, _ = read_tensors(path)
        carried = json.loads(metadata["carried"])
        if LOWEST in carried and carried[ENCODER] == checksum:
            return True
        reason = "it is of another encoder, or of an earlier version"
    except (SafetensorError, OSError, ValueError, LookupError, TrainingError) as error:
        reason = one_line(error)
    print(f"cannot resume from {path} ({reason}): the prior's fit starts anew", file=sys.stderr)
    return False


def _fixed_latents(run: VaeRun, vae: VAE, data: Dataset) -> Tensor:
    """Draws (N, Z) of the images' latents, several of each where there are few."""
    mu, logvar = _posteriors(run, vae, data)
    mu, logvar = mu[:CHECKED], logvar[:CHECKED]
    draws = CHECKED // len(mu)
    noise = torch.Generator().manual_seed(run.seed)
    epsilon = torch.randn(draws, *mu.shape, generator=noise).to(mu.device)
    return (mu + epsilon * torch.exp(logvar / 2)).flatten(0, 1)


@torch.no_grad()
def _posteriors(run: VaeRun, vae: VAE, data: Dataset) -> tuple[Tensor, Tensor]:
    """mu and logvar of the images, (N, Z) each, of binarised ones if the run binarises."""
    parts = []
    for seed, levels in enumerate(data.images.split(1000), run.seed):
        images = to_pixels(levels)
        parts += [vae.encode(binarised(images, seed) if run.pixels == "binarised" else images)]
    mu, logvar = (torch.cat(column) for column in zip(*parts, strict=True))
    return mu, logvar
