"""The loop for the GAN (Goodfellow et al. 2014) and the conditional GAN (Mirza & Osindero 2014)."""

import time
from pathlib import Path

import torch
from torch import Tensor

from training.config import GanRun
from training.data import Dataset, epoch_order, to_pixels
from training.ema import Ema
from training.losses import discriminator_loss, generator_loss, gradient_penalty_r1
from training.networks.gan import Discriminator, Generator
from training.run import LossLog, RunState, progress_bar, save_grid


def sample_grid(generator: Generator, columns: int, rows: int, seed: int) -> Tensor:
    """Images (rows * columns, C, H, W) from fixed noise, one style a row.

    A conditional generator draws one label a column; an unconditional one, fresh noise each.
    """
    noise = torch.Generator().manual_seed(seed)
    device = next(generator.parameters()).device
    labels = None
    if generator.num_classes:
        z = torch.randn(rows, generator.latent_dim, generator=noise).repeat_interleave(columns, 0)
        labels = (torch.arange(columns, device=device) % generator.num_classes).repeat(rows)
    else:
        z = torch.randn(rows * columns, generator.latent_dim, generator=noise)
    with torch.no_grad():
        return generator.generate(z.to(device), labels)


def train_gan(
    run: GanRun, data: Dataset, folder: Path, device: torch.device, max_steps: int | None = None
) -> Generator:
    """Train (or continue) in ``folder`` and return the averaged generator.

    Args:
        run: Settings; ``run.network.num_classes`` decides whether labels condition both networks.
        data: Training images.
        folder: Run folder; a state in it is taken up.
        device: Where networks and data are held.
        max_steps: Stop, with the state saved, after this many steps in all; None = the whole run.

    Raises:
        TrainingError: a loss is not finite, or the state cannot be written.
    """
    # Networks, optimisers, and the one generator that all noise comes from.
    torch.manual_seed(run.seed)
    conditional = run.network.num_classes > 0
    generator = Generator(run.network).to(device)
    discriminator = Discriminator(run.network, run.discriminator).to(device)
    ema = Ema(generator, run.ema_halflife_images)
    betas = (run.adam_beta1, run.adam_beta2)
    optimizer_g = torch.optim.Adam(generator.parameters(), run.generator_lr, betas, fused=True)
    optimizer_d = torch.optim.Adam(
        discriminator.parameters(), run.discriminator_lr, betas, fused=True
    )
    noise = torch.Generator().manual_seed(run.seed)
    state = RunState(
        {"generator": generator, "discriminator": discriminator, "ema": ema.network},
        {"optimizer_g": optimizer_g, "optimizer_d": optimizer_d},
        noise,
    )
    state.load(folder)
    log = LossLog(folder, state.step)

    data = data.to(device)
    batch = min(run.batch_size, len(data))
    steps_per_epoch = len(data) // batch
    total_steps = run.epochs * steps_per_epoch
    last_step = total_steps if max_steps is None else min(max_steps, total_steps)
    started = time.monotonic() - state.seconds
    order, order_epoch = None, -1
    r1 = torch.tensor(state.carried.get("r1", 0.0), device=device)

    with progress_bar(total_steps, state.step, batch) as progress:
        while state.step < last_step:
            # Real images of this step: seed and epoch alone give the order of each epoch.
            epoch, index = divmod(state.step, steps_per_epoch)
            if epoch != order_epoch:
                order, order_epoch = epoch_order(len(data), run.seed, epoch).to(device), epoch
            assert order is not None
            chosen = order[index * batch : (index + 1) * batch]
            real = to_pixels(data.images[chosen])  # (B, C, H, W)
            real_labels = data.labels[chosen] if conditional else None  # (B,)

            factor = run.learning_rate_factor(state.step, total_steps)
            optimizer_g.param_groups[0]["lr"] = run.generator_lr * factor
            optimizer_d.param_groups[0]["lr"] = run.discriminator_lr * factor

            # Update discriminator: real up, fake down. Fakes carry the real labels, so that the
            # label alone never tells them apart.
            z = torch.randn(batch, run.network.latent_dim, generator=noise).to(device)
            with torch.no_grad():
                fake = generator(z, real_labels)
            penalise = run.r1_gamma > 0 and state.step % run.r1_every == 0
            real.requires_grad_(penalise)
            real_logits = discriminator(real, real_labels)
            loss_d = discriminator_loss(run.loss, real_logits, discriminator(fake, real_labels))
            total_d = loss_d
            if penalise:
                penalty = gradient_penalty_r1(real_logits, real)
                total_d = loss_d + run.r1_gamma * run.r1_every * penalty
                r1 = penalty.detach()
            optimizer_d.zero_grad()
            total_d.backward()
            optimizer_d.step()

            # Update generator: its images must be judged real. The discriminator's weights need no
            # gradients here, only its input.
            z = torch.randn(batch, run.network.latent_dim, generator=noise).to(device)
            labels = None
            if conditional:
                labels = torch.randint(run.network.num_classes, (batch,), generator=noise).to(
                    device
                )
            discriminator.requires_grad_(False)
            loss_g = generator_loss(run.loss, discriminator(generator(z, labels), labels))
            discriminator.requires_grad_(True)
            optimizer_g.zero_grad()
            loss_g.backward()
            optimizer_g.step()

            state.step += 1
            ema.update(generator, batch, state.step * batch)
            progress.update()

            # Report, picture, state.
            if state.step % run.log_every == 0 or state.step == total_steps:
                losses = {"loss_d": loss_d.detach(), "loss_g": loss_g.detach(), "r1": r1}
                position = state.step / steps_per_epoch
                progress.set_postfix_str(
                    log.write(state.step, position, state.step * batch, losses), False
                )
            state.seconds = time.monotonic() - started
            if state.step % steps_per_epoch == 0:
                samples = sample_grid(ema.network, columns=10, rows=8, seed=run.seed)
                save_grid(folder / "samples" / f"epoch-{epoch + 1:03d}.png", samples, columns=10)
            if state.step % run.save_every == 0 or state.step == last_step:
                state.carried["r1"] = float(r1)
                state.save(folder)
    return ema.network
