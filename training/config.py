"""Settings of a run. The command line has one option for each field.

Long, since each field has its help beside it.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from training.data.diffaugment import AUGMENTATIONS, parse_augmentations
from training.networks.configs import GanConfig, VaeConfig
from training.networks.gan import DiscriminatorConfig
from training.optim.hardware import PRECISIONS
from training.optim.losses import ADVERSARIAL


def setting(default: Any, help: str) -> Any:
    """A dataclass field with its help text: meaning, unit, off-value."""
    return field(default=default, metadata={"help": help})


# Defaults of a run on few images; the values were found on the 1,797 digits of scikit-learn.
SMALL_SET = 5000  # images
SMALL_BATCH = 32
LEAST_STEPS = 1000
MOST_EPOCHS = 1_000_000

# Reports of a run (samples and a figure at the end of an epoch), at most. One takes as long as some
# 20 steps, so a short run has one for every STEPS_A_REPORT, but LEAST_REPORTS in any case.
MOST_REPORTS = 50
LEAST_REPORTS = 5
STEPS_A_REPORT = 200

PIXELS = ("grey", "binarised")
PRIOR_FITS = ("after", "joint")


@dataclass(frozen=True)
class RunConfig:
    """Settings of every kind of run."""

    epochs: int = setting(
        20,
        f"passes over the training images; more on a small set, for at least {LEAST_STEPS} steps",
    )
    batch_size: int = setting(
        64, f"images per step; at most {SMALL_BATCH} on a set of fewer than {SMALL_SET} images"
    )
    seed: int = setting(0, "seed of the weights, the order of the images and the noise")
    ema_halflife_images: float = setting(
        20_000.0, "half-life of the moving average of the weights, in images; 0 = no averaging"
    )
    decay_fraction: float = setting(
        0.5,
        "last fraction of the run, 0 to 1, with learning rates falling linearly to 0; 0 = constant",
    )
    log_every: int = setting(100, "steps between lines of losses.jsonl")
    save_every: int = setting(500, "steps between saved states; a killed run loses at most so many")
    precision: str = setting(
        "32",
        "number format of convolutions and matrix products: 32, bf16 (for GPUs since 2020 and "
        "CPUs that lscpu shows as amx_bf16 or avx512_bf16; slower than 32 on others) or fp16 (for "
        "older GPUs, with loss scaling)",
    )

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.epochs > MOST_EPOCHS:
            raise ValueError(f"epochs is {self.epochs}; allowed: at most {MOST_EPOCHS}")
        if not 0 <= self.decay_fraction <= 1:
            raise ValueError(f"decay_fraction is {self.decay_fraction}; allowed: 0 to 1")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; allowed: 0 to 2^32 - 1")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"unknown precision {self.precision!r}; available: {', '.join(PRECISIONS)}"
            )
        self._check_range("ema_halflife_images", 0, math.inf)

    def small_set(self, images: int) -> dict[str, Any]:
        """Batch size and epochs for a set of so many images; unchanged unless it is small.

        On few images a run of the usual number of epochs has too few steps to learn. Smaller
        batches and more epochs give it at least LEAST_STEPS.
        """
        batch = min(self.batch_size, SMALL_BATCH) if images < SMALL_SET else self.batch_size
        epochs = math.ceil(LEAST_STEPS / max(1, images // batch))
        return {"batch_size": batch, "epochs": max(self.epochs, epochs)}

    def steps_per_epoch(self, images: int) -> int:
        """Steps of one epoch over so many training images; the last partial batch is dropped."""
        return images // min(self.batch_size, images)

    def total_steps(self, images: int) -> int:
        """Steps of the whole run on so many training images."""
        return self.epochs * self.steps_per_epoch(images)

    def reports_after(self, epoch: int, steps_per_epoch: int) -> bool:
        """Whether the end of an epoch, counted from 0, has a report: samples and a measurement.

        Every epoch, or every n-th of many short ones; always the last. It depends on the settings
        alone, so resuming does not change it.
        """
        steps = self.epochs * steps_per_epoch
        most = min(MOST_REPORTS, max(LEAST_REPORTS, steps // STEPS_A_REPORT))
        every = math.ceil(self.epochs / most)
        return (epoch + 1) % every == 0 or epoch + 1 == self.epochs

    def _check_range(self, name: str, low: float, high: float) -> None:
        """Refuse a field outside low <= value < high, or NaN."""
        value = getattr(self, name)
        if not low <= value < high:
            raise ValueError(f"{name} is {value}; allowed: at least {low} and below {high}")

    def unused(self, kind: str) -> dict[str, str]:
        """Settings that have no effect in a run of this kind: name -> why, and what to do."""
        del kind
        return {}

    def learning_rate_factor(self, step: int, total_steps: int) -> float:
        """Multiplier of the learning rates at a step, counted from 0."""
        remaining = 1 - step / total_steps
        return min(1.0, remaining / self.decay_fraction) if self.decay_fraction else 1.0


@dataclass(frozen=True)
class GanRun(RunConfig):
    """Settings of a GAN or conditional GAN run."""

    loss: str = setting("nonsaturating", f"adversarial loss: {' or '.join(ADVERSARIAL)}")
    generator_lr: float = setting(5e-4, "Adam's learning rate for the generator")
    discriminator_lr: float = setting(5e-4, "Adam's learning rate for the discriminator")
    adam_beta1: float = setting(0.5, "Adam's first beta, 0 to 1")
    adam_beta2: float = setting(0.99, "Adam's second beta, 0 to 1")
    r1_gamma: float = setting(0.0, "weight of the R1 gradient penalty; 0 = off")
    r1_every: int = setting(8, "steps between R1 penalties; each counts for so many steps")
    classifier_weight: float = setting(
        0.2,
        "weight of the cross-entropy of the discriminator's class head, which the presets "
        "published and signs have; 0 = off",
    )
    label_modes: int = setting(
        0,
        "for a gan: 1 = train with the images' labels and let a part of z select the class, so "
        "that fewer samples lie between two classes; 0 = without labels",
    )
    balanced_labels: int = setting(
        0,
        "1 = show the discriminator real images of all classes equally often, as the generator "
        "draws them; 0 = as often as they are",
    )
    augment: str = setting(
        "",
        "for few images: how real and generated images are changed before the discriminator sees "
        f"them, with commas between: {', '.join(AUGMENTATIONS)}; empty = off",
    )
    augment_probability: float = setting(
        1.0, "probability of each of them, 0 to 1; where a run starts if augment_target adapts it"
    )
    augment_target: float = setting(
        0.0,
        "adaptive augmentation: the probability rises while the mean sign of the discriminator's "
        "logits at real images is above this, and falls below it; 0.6 is usual, 0 = fixed",
    )
    augment_images: int = setting(100_000, "images in which that probability can go from 0 to 1")
    network: GanConfig = field(default_factory=GanConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in ADVERSARIAL:
            raise ValueError(f"unknown loss {self.loss!r}; available: {', '.join(ADVERSARIAL)}")
        for name in ("generator_lr", "discriminator_lr", "r1_gamma", "classifier_weight"):
            self._check_range(name, 0, math.inf)
        for name in ("adam_beta1", "adam_beta2"):
            self._check_range(name, 0, 1)
        for name in ("label_modes", "balanced_labels"):
            if getattr(self, name) not in (0, 1):
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 and 1")
        for name in ("r1_every", "augment_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        parse_augmentations(self.augment)
        for name in ("augment_probability", "augment_target"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 to 1")
        if self.batch_size < 2:
            raise ValueError("batch_size is 1; batch norm needs at least 2")

    def unused(self, kind: str) -> dict[str, str]:
        """As ``RunConfig.unused``."""
        reasons = {}
        if not self.r1_gamma:
            reasons["r1_every"] = "r1_gamma is 0; set --r1-gamma too"
        if self.classifier_weight and not self.discriminator.classifier:
            reasons["classifier_weight"] = (
                "its discriminator has no class head; use --preset published or signs"
            )
        elif self.classifier_weight and kind == "gan" and not self.label_modes:
            reasons["classifier_weight"] = "it trains without labels; set --label-modes 1"
        if kind == "cgan":
            reasons["label_modes"] = "a cgan always trains with labels"
        if not self.augment:
            for name in ("augment_probability", "augment_target", "augment_images"):
                reasons[name] = "augment is empty; name what to change, with --augment"
        elif not self.augment_target:
            reasons["augment_images"] = "the probability is fixed; set --augment-target too"
        return reasons


@dataclass(frozen=True)
class VaeRun(RunConfig):
    """Settings of a VAE run."""

    lr: float = setting(1e-3, "Adam's learning rate")
    gradient_limit: float = setting(
        0.0,
        "gradient clipping: largest norm of a step's gradient. Usual norms are hundreds to "
        "thousands at first and tens later, but far more where a learned prior's density is "
        "nearly 0; 0 = off",
    )
    beta: float = setting(1.0, "weight of the KL term; 1 = the ELBO")
    draws: int = setting(
        1,
        "latents sampled per image: 1 = minimise the negative ELBO, more = the importance-weighted "
        "bound, which is closer to the likelihood; each costs a decoder pass. More than 1 needs "
        "beta 1 and prior_fit joint (or no learned prior)",
    )
    draws_fraction: float = setting(
        1.0, "last fraction of the run, above 0 and up to 1, with so many draws; one before it"
    )
    kl_warmup_epochs: float = setting(
        1.0, "epochs over which the KL's weight rises from 0 to beta; 0 = no warm-up"
    )
    holdout_fraction: float = setting(
        0.02, "fraction of the training images held out to measure each epoch on; 0 = none"
    )
    pixels: str = setting(
        "grey",
        "training pixels: grey (levels as Bernoulli means) or binarised (each pixel sampled as 0 "
        "or 1 with its level as probability, anew at each step)",
    )
    distorted_fraction: float = setting(
        0.0,
        "augmentation: fraction of the images, 0 to 1, with a small shift, rotation, scale and "
        "shear, in colour also another light, given to the VAE as a condition; 0 = off",
    )
    distorted_last: float = setting(
        0.0,
        "that fraction at the end of the run: it falls to it with the learning rate. With few "
        "images, let it stay high, or each is learned by heart",
    )
    prior_fit: str = setting(
        "after",
        "when the learned prior is fitted: after the VAE, which trains with N(0, I), or joint, as "
        "a part of the loss from the first step",
    )
    prior_steps: int = setting(
        6000,
        "steps, of 512 latents each, that fit the learned prior at the end; 0 = none, if joint",
    )
    network: VaeConfig = field(default_factory=VaeConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr", "gradient_limit", "beta", "kl_warmup_epochs"):
            self._check_range(name, 0, math.inf)
        self._check_range("holdout_fraction", 0, 1)
        for name, allowed in (("pixels", PIXELS), ("prior_fit", PRIOR_FITS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}; available: {', '.join(allowed)}"
                )
        if not 0 <= self.distorted_fraction <= 1:
            raise ValueError(f"distorted_fraction is {self.distorted_fraction}; allowed: 0 to 1")
        if not 0 <= self.distorted_last <= self.distorted_fraction:
            raise ValueError(
                f"distorted_last is {self.distorted_last}; allowed: 0 to distorted_fraction, "
                f"{self.distorted_fraction}"
            )
        if self.distorted_last < self.distorted_fraction and not self.decay_fraction:
            raise ValueError(
                f"decay_fraction is 0, so distorted_fraction would never fall to distorted_last, "
                f"{self.distorted_last}; use a decay_fraction above 0, or equal fractions"
            )
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}; it must be at least 1")
        if not 0 < self.draws_fraction <= 1:
            raise ValueError(
                f"draws_fraction is {self.draws_fraction}; allowed: above 0 and up to 1"
            )
        if self.draws > 1 and self.beta != 1:
            raise ValueError(
                f"draws is {self.draws} and beta {self.beta}; only with beta 1 do several draws "
                "bound the likelihood, so set one of the two to 1"
            )
        if self.draws > 1 and self.prior_fit == "after" and self.network.prior_layers:
            raise ValueError(
                f"draws is {self.draws}, and their weights need the prior, which prior_fit after "
                "fits only at the end; use prior_fit joint, or draws 1"
            )
        self._check_range("prior_steps", int(self.prior_fit == "after"), math.inf)
        if self.prior_fit == "joint" and not self.network.prior_layers:
            raise ValueError("prior_fit is joint, but the network has no learned prior to fit")

    def unused(self, kind: str) -> dict[str, str]:
        """As ``RunConfig.unused``."""
        del kind
        reasons = {}
        if self.draws == 1:
            reasons["draws_fraction"] = "draws is 1; set --draws too"
        if not self.network.prior_layers:
            no_prior = "its prior is N(0, I); use a preset with a learned prior, such as compact"
            reasons |= {"prior_fit": no_prior, "prior_steps": no_prior}
        return reasons

    def draws_at(self, step: int, total_steps: int) -> int:
        """Latents sampled per image at a step, counted from 0."""
        late = total_steps - step <= round(total_steps * self.draws_fraction)
        return self.draws if late else 1


AnyRun = GanRun | VaeRun


def as_json(run: AnyRun) -> dict[str, Any]:
    """Plain values, for config.json and the checkpoint's header."""
    return dataclasses.asdict(run)


def settings_as_lines(run: AnyRun) -> list[str]:
    """Every setting as a line for the terminal."""
    lines = []
    for name, value in as_json(run).items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items())
        lines.append(f"  {name:20} {value}")
    return lines


def from_json(kind: str, values: dict[str, Any]) -> AnyRun:
    """The inverse of ``as_json``, for resuming.

    Raises:
        TypeError: a field is unknown: another version wrote it.
    """
    nested: dict[str, Any] = {
        name: {k: tuple(v) if isinstance(v, list) else v for k, v in values[name].items()}
        for name in ("network", "discriminator")
        if name in values
    }
    rest = {k: v for k, v in values.items() if k not in nested}
    if kind == "vae":
        return VaeRun(network=VaeConfig(**nested["network"]), **rest)
    return GanRun(
        network=GanConfig(**nested["network"]),
        discriminator=DiscriminatorConfig(**nested["discriminator"]),
        **rest,
    )
