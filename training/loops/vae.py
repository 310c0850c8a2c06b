"""The loop for the VAE (Kingma & Welling 2014)."""

import time
from pathlib import Path

import torch
from torch import Tensor, nn

from training.config import VaeRun
from training.data.augment import ConditionEmbedding, distorted, distortions
from training.data.dataset import Dataset, epoch_order, first_images, to_pixels
from training.loops.heldout import HeldOutBound, split
from training.loops.prior_fit import fit_prior
from training.networks.vae import VAE
from training.optim.ema import Ema
from training.optim.hardware import Hardware, Update
from training.optim.losses import (
    kl_to_standard_normal,
    log_posterior,
    negative_bound,
    negative_elbo,
)
from training.runs.errors import STATE
from training.runs.interrupts import GracefulStop, Stopped
from training.runs.reporting import RunReporter, save_grid
from training.runs.run_state import BestWeights, RunState, load_best

MOST_DRAWS = 16  # of the held-out bound: more would take a minute for each report
PRIOR_FITTED = "prior_fitted"  # key in the state, once the prior is fitted


@torch.no_grad()
def reconstruction_grid(vae: VAE, images: Tensor, seed: int, columns: int = 10) -> Tensor:
    """Two rows of originals, each above its reconstruction from mu, then six rows of samples.

    Args:
        images: (2 * columns, C, H, W) in [0, 1].

    Returns:
        (10 * columns, C, H, W).
    """
    noise = torch.Generator().manual_seed(seed)
    z = torch.randn(6 * columns, vae.latent_dim, generator=noise).to(images.device)
    recon = vae.decode(vae.encode(images)[0])
    first, second = slice(0, columns), slice(columns, 2 * columns)
    return torch.cat([images[first], recon[first], images[second], recon[second], vae.generate(z)])


def train_vae(
    run: VaeRun,
    data: Dataset,
    folder: Path | None,
    hardware: Hardware,
    max_steps: int | None = None,
    tensorboard: bool = False,
) -> VAE:
    """Train (or continue) in ``folder`` and return the averaged VAE.

    Arguments and errors as for ``train_gan``.
    """
    # Network, optimiser, and one generator for all noise.
    torch.manual_seed(run.seed)
    device = hardware.device
    vae = hardware.place(VAE(run.network))
    call, log_prior = hardware.compiled(vae), hardware.compiled(vae.prior.log_prob)
    ema = Ema(vae, run.ema_halflife_images)
    modules: dict[str, nn.Module] = {"vae": vae, "ema": ema.network}
    parameters = list(vae.parameters())
    embed = hardware.place(ConditionEmbedding(vae)) if run.distorted_fraction else None
    if embed:
        modules["teller"] = embed  # its name in the state files of v0.1
        parameters += embed.parameters()
    adam = torch.optim.Adam(parameters, run.lr, fused=True)
    update = Update(adam, hardware, run.precision, run.gradient_limit)
    noise = torch.Generator().manual_seed(run.seed)
    state = RunState(modules, {"optimizer": update}, noise)
    if folder:
        state.load(folder / STATE)

    data, held_out = split(data.to(device), run.holdout_fraction)
    batch = min(run.batch_size, len(data))
    mine = hardware.rows(batch)  # this process's rows of a batch: all, if it is the only one
    steps_per_epoch, total_steps = run.steps_per_epoch(len(data)), run.total_steps(len(data))
    last_step = total_steps if max_steps is None else min(max_steps, total_steps)
    warmup_steps = run.kl_warmup_epochs * steps_per_epoch
    started = time.monotonic() - state.seconds
    order, order_epoch = None, -1
    folder = folder if hardware.rank == 0 else None  # one process writes files
    measures = [
        HeldOutBound(held_out, device, run.beta, run.pixels == "binarised", draws)
        for draws in sorted({1, min(run.draws, MOST_DRAWS)})
    ]
    best = BestWeights(state, measures[-1].name)

    position = (state.step, total_steps, batch, steps_per_epoch)
    with RunReporter(folder, *position, tensorboard) as reporter:
        stop = False
        while state.step < last_step and not stop:
            # Images of this step: seed and epoch determine the order of each epoch.
            epoch, index = divmod(state.step, steps_per_epoch)
            if epoch != order_epoch:
                order, order_epoch = epoch_order(len(data), run.seed, epoch).to(device), epoch
            assert order is not None
            images = to_pixels(data.images[order[index * batch : (index + 1) * batch][mine]])
            factor = run.learning_rate_factor(state.step, total_steps)
            if embed:
                first, last = run.distorted_fraction, run.distorted_last
                fraction = last + (first - last) * factor
                amounts = distortions(batch, embed.kinds, fraction, noise)
                amounts = amounts[mine].to(device)
                images = distorted(images, amounts)
            if run.pixels == "binarised":
                chance = torch.rand(batch, *run.network.image_shape, generator=noise)
                images = (chance[mine].to(device) < images).float()

            update.learning_rate(run.lr * factor)
            beta = (
                run.beta * min(1.0, (state.step + 1) / warmup_steps) if warmup_steps else run.beta
            )

            # Update: the bound, summed over pixels and latents, averaged over the batch.
            draws = run.draws_at(state.step, total_steps)
            epsilon = torch.randn(batch, draws, run.network.latent_dim, generator=noise)[mine]
            epsilon = epsilon.flatten(0, 1).to(device)
            with hardware.autocast(run.precision):
                conditions = embed(amounts) if embed else (None, None)
                logits, mu, logvar = call(images, epsilon, conditions)
            mu, logvar = mu.float(), logvar.float()
            if run.prior_fit == "joint" or draws > 1:
                z = mu + epsilon * torch.exp(logvar / 2)
                kl = log_posterior(epsilon, logvar) - log_prior(z)
            else:
                kl = kl_to_standard_normal(mu, logvar)
            drawn = images.repeat_interleave(draws, dim=0) if draws > 1 else images
            loss, recon = negative_elbo(logits.float(), drawn, kl, beta)
            update.minimise(negative_bound(-loss.view(-1, draws)).mean())

            state.step += 1
            ema.update(vae, batch, state.step * batch)
            state.seconds = time.monotonic() - started
            reporter.advance()

            # Report, draw, measure, save.
            stop = hardware.any(reporter.stop_requested)
            if state.step % run.log_every == 0 or state.step == total_steps:
                losses = {
                    "negative_elbo": (recon + kl).mean(),
                    "reconstruction": recon.mean(),
                    "kl": kl.mean(),
                }
                if draws > 1:
                    losses["negative_bound"] = negative_bound(-(recon + kl).view(-1, draws)).mean()
                reporter.losses(hardware.mean(losses))
            ended = state.step % steps_per_epoch == 0 and run.reports_after(epoch, steps_per_epoch)
            if folder and (early := reporter.early_picture):
                grid = reconstruction_grid(ema.network, to_pixels(first_images(data, 20)), run.seed)
                reporter.picture(early, grid, columns=10)
            if folder and ended:
                grid = reconstruction_grid(ema.network, to_pixels(first_images(data, 20)), run.seed)
                reporter.picture(f"epoch-{epoch + 1:03d}", grid, columns=10)
                if len(held_out):
                    for measure in measures:
                        figure = measure(ema.network)
                        reporter.measurement(measure.name, figure)
                    best.offer(folder, ema.network, figure)  # of the tightest bound
                reporter.draw_curves()
            if folder and (state.step % run.save_every == 0 or state.step == last_step or stop):
                state.save(folder / STATE)
        if folder and state.step == last_step:
            reporter.draw_curves()
    unfitted = bool(run.network.prior_layers) and PRIOR_FITTED not in state.carried
    fits = folder and state.step == total_steps and unfitted
    if (stop and state.step < last_step) or (fits and reporter.stop_requested):
        raise Stopped(f"step {state.step}")

    # Fit the prior to the latents of the finished encoder, and of the best epoch's.
    priors = Path("prior.safetensors"), Path("best-prior.safetensors")
    if folder and fits:
        with GracefulStop() as stop_signal:
            state.seconds += fit_prior(
                run, ema.network, data, held_out, folder / priors[0], stop_signal
            )
            grid = reconstruction_grid(ema.network, to_pixels(first_images(data, 20)), run.seed)
            save_grid(folder / "samples" / "prior.png", grid, columns=10)
            if len(held_out):
                best_vae = VAE(run.network).to(device).eval().requires_grad_(False)
                about = load_best(folder, best_vae)
                seconds = float(about["seconds"])
                if int(about["step"]) == state.step:
                    best_vae, seconds = ema.network, state.seconds
                else:
                    if stop_signal.requested:
                        raise Stopped("the first of two fits of the prior")
                    spent = fit_prior(
                        run, best_vae, data, held_out, folder / priors[1], stop_signal
                    )
                    state.seconds += spent
                    seconds += spent
                best.save(folder, best_vae, int(about["step"]), float(about["value"]), seconds)
            state.carried[PRIOR_FITTED] = 1.0
            state.save(folder / STATE)
    if folder and state.step == total_steps:
        for name in priors:  # also those that a kill after the last save left
            (folder / name).unlink(missing_ok=True)
    return ema.network
