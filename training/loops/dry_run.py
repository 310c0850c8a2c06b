"""``--dry-run``: what a run would do, how long it would take and what it would write."""

import dataclasses
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from training.config import AnyRun, VaeRun, settings_as_lines
from training.data.dataset import Dataset
from training.loops.gan import train_gan
from training.loops.heldout import held_out_count
from training.loops.vae import train_vae
from training.networks.gan import Discriminator, Generator
from training.networks.vae import VAE
from training.optim.hardware import Hardware

TIMED_STEPS = 8  # at least; up to 16, so that the slower step with R1 is among them


def multiply_adds(network: nn.Module, *inputs: Tensor | None) -> int:
    """Multiply-adds of the convolutions and matrix products of a forward pass in eval mode."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(*inputs)
    return int(counter.get_total_flops()) // 2


def networks_of(run: AnyRun) -> dict[str, tuple[int, int]]:
    """name -> (parameters, multiply-adds per image) of each network that a run trains."""
    config = run.network
    z = torch.zeros(1, config.latent_dim)
    image = torch.zeros(1, config.image_channels, config.image_size, config.image_size)
    costs: dict[str, tuple[nn.Module, int]] = {}
    if isinstance(run, VaeRun):
        vae = VAE(run.network)
        costs["encoder"] = vae.encoder, multiply_adds(vae.encoder, image)
        costs["decoder"] = vae.decoder, multiply_adds(vae.decoder, z)
        if run.network.prior_layers:
            costs["prior"] = vae.prior, multiply_adds(vae.prior, z)
    else:
        label = torch.zeros(1, dtype=torch.int64)
        generator = Generator(run.network)
        discriminator = Discriminator(run.network, run.discriminator)
        condition = label if generator.num_classes else None
        judged = label if discriminator.num_classes else None  # modes count as labels
        costs["generator"] = generator, multiply_adds(generator, z, condition)
        costs["discriminator"] = discriminator, multiply_adds(discriminator, image, judged)
    return {
        name: (sum(p.numel() for p in network.parameters()), count)
        for name, (network, count) in costs.items()
    }


def seconds_a_step(run: AnyRun, data: Dataset, hardware: Hardware) -> float:
    """Seconds per step of the training loop, measured over a few steps; nothing is written.

    The mean over the run, if later steps draw more latents.
    """
    if isinstance(run, VaeRun) and run.draws > 1 and run.draws_fraction < 1:
        early = seconds_a_step(dataclasses.replace(run, draws=1), data, hardware)
        late = seconds_a_step(dataclasses.replace(run, draws_fraction=1.0), data, hardware)
        return early + (late - early) * run.draws_fraction

    def clock(steps: int) -> float:
        started = time.perf_counter()
        if isinstance(run, VaeRun):
            train_vae(run, data, None, hardware, steps)
        else:
            train_gan(run, data, None, hardware, steps)
        if hardware.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    steps = TIMED_STEPS if isinstance(run, VaeRun) else max(TIMED_STEPS, min(run.r1_every, 16))
    clock(1)  # warm-up
    # The difference of two runs, so that building the networks does not count.
    return max(clock(steps + 1) - clock(1), 1e-9) / steps


def describe_run(
    kind: str, preset: str, run: AnyRun, data: Dataset, hardware: Hardware, folder: Path
) -> str:
    """The run as text for a terminal.

    Args:
        folder: Where it would write.
    """
    held_out = held_out_count(len(data), run.holdout_fraction) if isinstance(run, VaeRun) else 0
    batch = min(run.batch_size, len(data) - held_out)
    steps_per_epoch = run.steps_per_epoch(len(data) - held_out)
    total = run.total_steps(len(data) - held_out)
    networks = networks_of(run)
    step = seconds_a_step(run, data, hardware)
    shape = " x ".join(map(str, data.images.shape[1:]))
    classes = len(data.class_names)
    after = (
        f", then {run.prior_steps:,} steps that fit the prior"
        if isinstance(run, VaeRun) and run.network.prior_layers and run.prior_steps
        else ""
    )
    minutes = total * step / 60
    pictures = sum(run.reports_after(epoch, steps_per_epoch) for epoch in range(run.epochs))
    often = "after each epoch" if pictures == run.epochs else "after every few epochs"
    # Weights, their average, and two moments of each; the generator alone is averaged.
    copies = {"discriminator": 3}
    state_mb = sum(n * copies.get(name, 4) for name, (n, _) in networks.items()) * 4 / 1e6
    lines = [
        f"{kind}, preset {preset}; nothing is trained or written",
        "",
        f"data          {data.name}: {len(data):,} images of {shape}, {classes} classes"
        + (f"; {held_out:,} of them held out" if held_out else ""),
        f"classes       {data.counts_text()}",
        *(
            f"{name:13} {parameters:,} parameters, {count / 1e6:.2f} million multiply-adds an image"
            for name, (parameters, count) in networks.items()
        ),
        f"steps         {run.epochs} epochs of {steps_per_epoch:,}: {total:,} steps of {batch} "
        "images" + after,
        f"device        {hardware.device}, {torch.get_num_threads()} threads, precision "
        f"{run.precision}{', compiled' if hardware.compile_networks else ''}",
        f"time          {step * 1000:.1f} ms a step, {batch / step:,.0f} images/s: about "
        f"{minutes:,.1f} minutes{after}; {pictures} pictures and measurements come on top",
        f"writes        {folder}/",
        "             config.json        these settings",
        f"             losses.jsonl       a line every {run.log_every} steps",
        f"             state.safetensors  {state_mb:.1f} MB, every {run.save_every} steps",
        "             best.safetensors   averaged weights of the epoch with the best measurement",
        f"             samples/           a picture {often}, {pictures} in all, and of first steps",
        "             curves.png         losses and measures against images seen",
        "",
        *settings_as_lines(run),
    ]
    return "\n".join(lines)
