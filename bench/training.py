"""``python -m bench.training``: images a second of our training loops beside the textbook's.

The textbook loop is that of pytorch/examples: a DataLoader that reads, converts and normalises one
image at a time, one batch at a time to the device, no averaged weights. It gets our networks,
losses, optimisers and batch size, so that a row compares two loops and not two architectures. Where
the CPU multiplies matrices of bf16 (AMX, AVX-512 BF16), a second row has ours in that precision;
the textbook's loop has 32 bits alone. The last line shows what the textbook's usual architecture
costs in its own loop.
"""

import argparse
import dataclasses
import functools
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench import machine
from training.config import AnyRun, GanRun, VaeRun
from training.data.dataset import Dataset, import_torchvision
from training.data.sources import data_spec, default_data_root, load_data
from training.loops.gan import train_gan
from training.loops.vae import train_vae
from training.networks.gan import Discriminator, Generator
from training.networks.vae import VAE
from training.optim.hardware import Hardware
from training.optim.losses import (
    discriminator_loss,
    generator_loss,
    gradient_penalty_r1,
    kl_to_standard_normal,
    negative_elbo,
)
from training.presets import PRESETS

SHAPES = (
    *(("cgan", "compact"), ("gan", "dcgan"), ("gan", "dense")),
    *(("vae", "compact"), ("vae", "dense")),
)

# A loop: trains for so many steps; returns the seconds of all but the first.
Loop = Callable[[int], float]


def loader(root: Path, batch: int, centred: bool) -> Iterator[Any]:
    """The textbook's way to a batch; endless."""
    torchvision = import_torchvision()
    transforms = torchvision.transforms
    steps = [transforms.ToTensor()]
    if centred:  # to -1..1, as GANs with a tanh have it
        steps.append(transforms.Normalize((0.5,), (0.5,)))
    images = torchvision.datasets.MNIST(str(root), transform=transforms.Compose(steps))
    batches = torch.utils.data.DataLoader(images, batch, shuffle=True, drop_last=True)
    while True:
        yield from batches


def ours(run: AnyRun, data: Dataset, steps: int) -> float:
    """Our loop as the command line runs it, with nothing written; by difference of two runs."""

    def clock(count: int) -> float:
        started = time.perf_counter()
        if isinstance(run, VaeRun):
            train_vae(run, data, None, Hardware(), count)
        else:
            train_gan(run, data, None, Hardware(), count)
        return time.perf_counter() - started

    return clock(steps + 1) - clock(1)


def textbook_gan(run: GanRun, root: Path, steps: int) -> float:
    """Real batch, fake batch, two updates; R1 as often as in ours."""
    generator, discriminator = Generator(run.network), Discriminator(run.network, run.discriminator)
    betas = (run.adam_beta1, run.adam_beta2)
    optimizer_g = torch.optim.Adam(generator.parameters(), run.generator_lr, betas)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), run.discriminator_lr, betas)
    batches, conditional = loader(root, run.batch_size, True), run.network.num_classes > 0
    started = 0.0
    for step in range(steps + 1):
        if step == 1:
            started = time.perf_counter()
        real, real_labels = next(batches)
        real = (real + 1) / 2  # our discriminator centres by itself
        labels = real_labels if conditional else None
        penalise = run.r1_gamma > 0 and step % run.r1_every == 0
        real.requires_grad_(penalise)

        discriminator.zero_grad()
        real_logits = discriminator(real, labels)
        fake = generator(torch.randn(run.batch_size, run.network.latent_dim), labels)
        loss = discriminator_loss(run.loss, real_logits, discriminator(fake.detach(), labels))
        if penalise:
            loss = loss + run.r1_gamma * run.r1_every * gradient_penalty_r1(real_logits, real)
        loss.backward()
        optimizer_d.step()

        generator.zero_grad()
        fake = generator(torch.randn(run.batch_size, run.network.latent_dim), labels)
        loss_g = generator_loss(run.loss, discriminator(fake, labels))
        loss_g.backward()
        optimizer_g.step()
        loss.item(), loss_g.item()  # printed by the textbook at each step
    return time.perf_counter() - started


def textbook_vae(run: VaeRun, root: Path, steps: int) -> float:
    """pytorch/examples, vae/main.py, with our network."""
    vae = VAE(run.network)
    optimizer = torch.optim.Adam(vae.parameters(), run.lr)
    batches = loader(root, run.batch_size, False)
    started = 0.0
    for step in range(steps + 1):
        if step == 1:
            started = time.perf_counter()
        images, _ = next(batches)
        optimizer.zero_grad()
        logits, mu, logvar = vae(images, torch.randn(run.batch_size, run.network.latent_dim))
        loss = negative_elbo(logits, images, kl_to_standard_normal(mu, logvar))[0].mean()
        loss.backward()
        optimizer.step()
        loss.item()
    return time.perf_counter() - started


def dcgan_64(root: Path, steps: int, width: int = 64, batch: int = 64) -> float:
    """pytorch/examples, dcgan/main.py, as it stands: digits enlarged to 64 pixels, 64 channels."""
    torchvision = import_torchvision()
    transforms = torchvision.transforms
    images = torchvision.datasets.MNIST(
        str(root),
        transform=transforms.Compose(
            [transforms.Resize(64), transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]
        ),
    )
    batches = iter(torch.utils.data.DataLoader(images, batch, shuffle=True))
    up: list[nn.Module] = [nn.ConvTranspose2d(100, width * 8, 4, bias=False)]
    for factor in (8, 4, 2):
        up += [nn.BatchNorm2d(width * factor), nn.ReLU(True)]
        up += [nn.ConvTranspose2d(width * factor, width * factor // 2, 4, 2, 1, bias=False)]
    up += [nn.BatchNorm2d(width), nn.ReLU(True)]
    generator = nn.Sequential(*up, nn.ConvTranspose2d(width, 1, 4, 2, 1, bias=False), nn.Tanh())
    down: list[nn.Module] = [nn.Conv2d(1, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for factor in (1, 2, 4):
        down += [nn.Conv2d(width * factor, width * factor * 2, 4, 2, 1, bias=False)]
        down += [nn.BatchNorm2d(width * factor * 2), nn.LeakyReLU(0.2)]
    discriminator = nn.Sequential(*down, nn.Conv2d(width * 8, 1, 4, bias=False), nn.Flatten(0))
    adam = functools.partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
    optimizer_g, optimizer_d = adam(generator.parameters()), adam(discriminator.parameters())
    started = 0.0
    for step in range(steps + 1):
        if step == 1:
            started = time.perf_counter()
        real, _ = next(batches)
        discriminator.zero_grad()
        fake = generator(torch.randn(batch, 100, 1, 1))
        judged = discriminator(real), discriminator(fake.detach())
        loss = discriminator_loss("nonsaturating", *judged)
        loss.backward()
        optimizer_d.step()
        generator.zero_grad()
        loss_g = generator_loss("nonsaturating", discriminator(fake))
        loss_g.backward()
        optimizer_g.step()
        loss.item(), loss_g.item()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.training", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each loop")
    parser.add_argument("--steps", type=int, default=32, help="steps of a measurement")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--data-root", type=Path, default=default_data_root(), help="of MNIST/raw")
    parser.add_argument("--skip-textbook-shapes", action="store_true", help="leave out DCGAN-64")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    data, _ = load_data(data_spec("mnist", args.data_root))

    about = machine.describe()
    print(
        f"Medians (least-greatest) of {args.rounds} rounds of {args.steps} steps, {args.threads} "
        f"thread(s), {about['cores']} cores of {about['cpu']}, load before: {about['load_before']}"
    )
    print("\n| run | ours, images/s | textbook loop, same network | ratio |")
    print("| --- | --- | --- | --- |")
    # Whether the CPU has instructions for bf16, torch has but privately.
    has_bf16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    precisions = ["32", "bf16"] if has_bf16 else ["32"]
    for (kind, preset), precision in itertools.product(SHAPES, precisions):
        run = PRESETS[kind][preset]
        loops: dict[str, Loop]
        if isinstance(run, VaeRun):
            loops = {"textbook": functools.partial(textbook_vae, run, args.data_root)}
        else:
            if kind == "cgan":
                network = dataclasses.replace(run.network, num_classes=len(data.class_names))
                run = dataclasses.replace(run, network=network)
            loops = {"textbook": functools.partial(textbook_gan, run, args.data_root)}
        run = dataclasses.replace(run, precision=precision)
        loops["ours"] = functools.partial(ours, run, data)
        rates, ratios = measure(loops, args.rounds, args.steps, run.batch_size)
        print(
            f"| {kind}, {preset}{'' if precision == '32' else f', {precision}'} | "
            f"{spread(rates['ours'])} | {spread(rates['textbook'])} | {spread(ratios, 2)} |",
            flush=True,
        )
    if not args.skip_textbook_shapes:
        steps = max(1, args.steps // 16)
        seconds = dcgan_64(args.data_root, steps)
        print(f"\npytorch/examples' DCGAN as it stands: {64 * steps / seconds:.0f} images/s")


def measure(
    loops: dict[str, Loop], rounds: int, steps: int, batch: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Images a second of each loop, and ours over the textbook's within each round.

    Every second round runs backwards, so that a steady drift of the machine falls on both alike.
    """
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds):
        for name in list(loops)[:: 1 if number % 2 else -1]:
            print(f"round {number}: {name}", file=sys.stderr, flush=True)
            rates[name].append(batch * steps / loops[name](steps))
    return rates, [a / b for a, b in zip(rates["ours"], rates["textbook"], strict=True)]


def spread(values: list[float], digits: int = 0) -> str:
    """``median (least-greatest)``."""
    median = statistics.median(values)
    return f"{median:,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


if __name__ == "__main__":
    main()
