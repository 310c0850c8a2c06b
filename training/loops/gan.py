"""The loop for the GAN (Goodfellow et al. 2014) and the conditional GAN (Mirza & Osindero 2014)."""

import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import GanRun
from training.data.dataset import Dataset, balanced_order, epoch_order, to_pixels
from training.data.diffaugment import (
    AdaptiveProbability,
    augmented,
    draw_amounts,
    parse_augmentations,
)
from training.loops.heldout import FrechetToTraining
from training.networks.gan import Discriminator, Generator
from training.optim.ema import Ema
from training.optim.hardware import Hardware, Update
from training.optim.losses import discriminator_loss, generator_loss, gradient_penalty_r1
from training.runs.errors import STATE
from training.runs.interrupts import Stopped
from training.runs.reporting import RunReporter
from training.runs.run_state import BestWeights, RunState

PICTURED = 10  # columns of a run's pictures


def shown_classes(num_classes: int, places: int) -> list[int]:
    """Class indices for so many columns of a picture: all in turn, or evenly spread ones."""
    if num_classes <= places:
        return [place % num_classes for place in range(places)]
    return [place * num_classes // places for place in range(places)]


def sample_grid(generator: Generator, columns: int, rows: int, seed: int) -> Tensor:
    """Images (rows * columns, C, H, W) from fixed noise.

    A conditional generator: a z for each row and a label of ``shown_classes`` for each column. An
    unconditional one: a z for each image.
    """
    noise = torch.Generator().manual_seed(seed)
    device = next(generator.parameters()).device
    labels = None
    if generator.num_classes:
        z = torch.randn(rows, generator.latent_dim, generator=noise).repeat_interleave(columns, 0)
        shown = shown_classes(generator.num_classes, columns)
        labels = torch.tensor(shown, device=device).repeat(rows)
    else:
        z = torch.randn(rows * columns, generator.latent_dim, generator=noise)
    with torch.no_grad():
        return generator.generate(z.to(device), labels)


def train_gan(
    run: GanRun,
    data: Dataset,
    folder: Path | None,
    hardware: Hardware,
    max_steps: int | None = None,
    tensorboard: bool = False,
) -> Generator:
    """Train (or continue) in ``folder`` and return the averaged generator.

    Args:
        run: Settings; with ``run.network.num_classes`` both networks are conditioned on labels.
        data: Training images.
        folder: Run folder; a state in it is resumed. None = write nothing.
        hardware: Device, and this process's share of each batch.
        max_steps: Stop, with the state saved, after this many steps in all; None = the whole run.
        tensorboard: Write event files into the folder as well.

    Raises:
        TrainingError: a loss is not finite, or something cannot be written.
        Stopped: Ctrl-C or SIGTERM; the state of the current step is saved.
    """
    # Networks, optimisers, and one generator for all noise.
    torch.manual_seed(run.seed)
    device, conditional = hardware.device, run.network.num_classes > 0
    modes = run.network.modes  # one for each class, selected by z
    labelled = conditional or modes > 0
    generator = hardware.place(Generator(run.network))
    discriminator = hardware.place(Discriminator(run.network, run.discriminator))
    call_g = hardware.compiled(generator)
    call_d = hardware.compiled(discriminator.with_classes)
    ema = Ema(generator, run.ema_halflife_images)
    betas = (run.adam_beta1, run.adam_beta2)
    adam_g = torch.optim.Adam(generator.parameters(), run.generator_lr, betas, fused=True)
    adam_d = torch.optim.Adam(discriminator.parameters(), run.discriminator_lr, betas, fused=True)
    update_g = Update(adam_g, hardware, run.precision)
    update_d = Update(adam_d, hardware, run.precision)
    noise = torch.Generator().manual_seed(run.seed)
    state = RunState(
        {"generator": generator, "discriminator": discriminator, "ema": ema.network},
        {"optimizer_g": update_g, "optimizer_d": update_d},
        noise,
    )
    if folder:
        state.load(folder / STATE)
    names = parse_augmentations(run.augment)
    augment = AdaptiveProbability(run.augment_probability, run.augment_target, run.augment_images)
    augment.restore(state.carried)

    data = data.to(device)
    batch = min(run.batch_size, len(data))
    mine = hardware.rows(batch)  # this process's rows of a batch: all, if it is the only one
    steps_per_epoch, total_steps = run.steps_per_epoch(len(data)), run.total_steps(len(data))
    last_step = total_steps if max_steps is None else min(max_steps, total_steps)
    started = time.monotonic() - state.seconds
    order, order_epoch = None, -1
    r1 = torch.tensor(state.carried.get("r1", 0.0), device=device)

    def seen(images: Tensor) -> Tensor:
        """Images as the discriminator sees them."""
        if not names:
            return images
        amounts = draw_amounts(names, batch, noise)[mine].to(device)
        return augmented(images, names, amounts, augment.value)

    folder = folder if hardware.rank == 0 else None  # one process writes files
    measure = FrechetToTraining(data, device) if folder and state.step < last_step else None

    position = (state.step, total_steps, batch, steps_per_epoch)
    with RunReporter(folder, *position, tensorboard) as reporter:
        stop = False
        while state.step < last_step and not stop:
            # Real images of this step: seed and epoch determine the order of each epoch.
            epoch, index = divmod(state.step, steps_per_epoch)
            if epoch != order_epoch:
                if run.balanced_labels:
                    order = balanced_order(data.labels, run.seed, epoch)
                else:
                    order = epoch_order(len(data), run.seed, epoch)
                order, order_epoch = order.to(device), epoch
            assert order is not None
            chosen = order[index * batch : (index + 1) * batch][mine]
            real = seen(to_pixels(data.images[chosen]))  # (B, C, H, W)
            real_labels = data.labels[chosen] if labelled else None  # (B,)

            factor = run.learning_rate_factor(state.step, total_steps)
            update_g.learning_rate(run.generator_lr * factor)
            update_d.learning_rate(run.discriminator_lr * factor)
            hardware.seed_dropout(run.seed, state.step)

            # Update discriminator: real up, fake down. Fakes get the labels of the real images, so
            # that labels alone do not distinguish them; with modes, those that z selects.
            z = torch.randn(batch, run.network.latent_dim, generator=noise)[mine].to(device)
            fake_labels = generator.chosen_modes(z) if modes else real_labels
            penalise = run.r1_gamma > 0 and state.step % run.r1_every == 0
            real.requires_grad_(penalise)
            with hardware.autocast(run.precision):
                with torch.no_grad():
                    fake = call_g(z, real_labels if conditional else None)
                fake_logits, _ = call_d(seen(fake), fake_labels)
            # R1 differentiates twice: in full precision and uncompiled, as torch.compile cannot.
            with hardware.autocast(run.precision, enabled=not penalise):
                judge_real = discriminator.with_classes if penalise else call_d
                real_logits, real_classes = judge_real(real, real_labels)
            loss_d = discriminator_loss(run.loss, real_logits.float(), fake_logits.float())
            total_d = loss_d
            if real_classes is not None and real_labels is not None:
                named = F.cross_entropy(real_classes.float(), real_labels)
                total_d = total_d + run.classifier_weight * named
            if penalise:
                penalty = gradient_penalty_r1(real_logits, real)
                total_d = total_d + run.r1_gamma * run.r1_every * penalty
                r1 = hardware.average(penalty.detach())
            update_d.minimise(total_d)
            if run.augment_target:
                signs = real_logits.detach().sign().float().mean()
                augment.update(float(hardware.average(signs)), batch)

            # Update generator: its images must be classified as real. The gradient passes through
            # the discriminator to its input; its weights need none.
            z = torch.randn(batch, run.network.latent_dim, generator=noise)[mine].to(device)
            labels = None
            if conditional:
                labels = torch.randint(run.network.num_classes, (batch,), generator=noise)
                labels = labels[mine].to(device)
            wanted = generator.chosen_modes(z) if modes else labels
            discriminator.requires_grad_(False)
            with hardware.autocast(run.precision):
                fake_logits, fake_classes = call_d(seen(call_g(z, labels)), wanted)
            loss_g = generator_loss(run.loss, fake_logits.float())
            total_g = loss_g
            if fake_classes is not None and wanted is not None:
                named = F.cross_entropy(fake_classes.float(), wanted)
                total_g = total_g + run.classifier_weight * named
            discriminator.requires_grad_(True)
            update_g.minimise(total_g)

            state.step += 1
            ema.update(generator, batch, state.step * batch)
            state.seconds = time.monotonic() - started
            reporter.advance()

            # Report, draw, measure, save.
            stop = hardware.any(reporter.stop_requested)
            if state.step % run.log_every == 0 or state.step == total_steps:
                losses = hardware.mean({"loss_d": loss_d, "loss_g": loss_g, "r1": r1})
                if run.augment_target:
                    losses["augment_probability"] = augment.value
                reporter.losses(losses)
            ended = state.step % steps_per_epoch == 0 and run.reports_after(epoch, steps_per_epoch)
            if folder and measure and (early := reporter.early_picture):
                samples = sample_grid(ema.network, columns=PICTURED, rows=8, seed=run.seed)
                reporter.picture(early, samples, columns=PICTURED)
            if folder and measure and ended:
                samples = sample_grid(ema.network, columns=PICTURED, rows=8, seed=run.seed)
                reporter.picture(f"epoch-{epoch + 1:03d}", samples, columns=PICTURED)
                figure = measure(ema.network)
                reporter.measurement(measure.name, figure)
                BestWeights(state, measure.name).offer(folder, ema.network, figure)
                reporter.draw_curves()
            if folder and (state.step % run.save_every == 0 or state.step == last_step or stop):
                state.carried |= {"r1": float(r1)} | (augment.carried() if names else {})
                state.save(folder / STATE)
        if folder and state.step == last_step:
            reporter.draw_curves()
    if stop and state.step < last_step:
        raise Stopped(f"step {state.step}")
    return ema.network
