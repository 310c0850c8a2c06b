"""Run settings, and PRESETS: one row each. The command line is made from these fields."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from training.networks.configs import GanConfig, VaeConfig
from training.networks.gan import DiscriminatorConfig
from training.optim.hardware import PRECISIONS
from training.optim.losses import ADVERSARIAL


def setting(default: Any, help: str) -> Any:
    """A field with its sentence: what, unit, off-value."""
    return field(default=default, metadata={"help": help})


# What a run on few images gets where nobody chose: found on scikit-learn's digits (docs/log.md).
SMALL_SET = 5000  # images
SMALL_BATCH = 32
LEAST_STEPS = 1000
MOST_EPOCHS = 1_000_000

# Epochs whose ends are pictured and measured, at most; fewer in a short run, where such an end
# takes as long as some 20 steps. A run of few steps may have LEAST_REPORTS all the same.
MOST_REPORTS = 50
LEAST_REPORTS = 5
STEPS_A_REPORT = 200

PIXELS = ("grey", "binarised")
PRIOR_FITS = ("after", "joint")


@dataclass(frozen=True)
class RunConfig:
    """What every training run has in common."""

    epochs: int = setting(
        20, f"passes over the training images; a small set gets as many as {LEAST_STEPS} steps take"
    )
    batch_size: int = setting(
        64, f"images a step; fewer than {SMALL_SET} images are taken {SMALL_BATCH} at a time"
    )
    seed: int = setting(0, "seed of the weights, the order of the images and the noise")
    ema_halflife_images: float = setting(
        20_000.0, "half-life of the averaged weights, in images; 0 = no averaging"
    )
    decay_fraction: float = setting(
        0.5,
        "last part of the run, 0 to 1, over which learning rates fall linearly to 0; 0 = constant",
    )
    log_every: int = setting(100, "steps between lines of losses.jsonl")
    save_every: int = setting(500, "steps between saved states: what a killed run can lose")
    precision: str = setting(
        "32",
        "number format of convolutions and matrix products: 32, bf16 (for GPUs since 2020 and "
        "CPUs with AMX, which lscpu calls amx_bf16; slower than 32 on other CPUs) or fp16 (for "
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
        """Batch size and epochs that suit a set of so many images: these, unless it is small.

        On few images a run of the usual epochs ends before it has learnt anything. What counts
        then is the number of steps, so batches are smaller and epochs more.
        """
        batch = min(self.batch_size, SMALL_BATCH) if images < SMALL_SET else self.batch_size
        epochs = math.ceil(LEAST_STEPS / max(1, images // batch))
        return {"batch_size": batch, "epochs": max(self.epochs, epochs)}

    def reports(self, epoch: int, steps_per_epoch: int) -> bool:
        """Whether the end of an epoch, counted from 0, is pictured and measured.

        Every epoch's, or where a small set has many short ones every n-th's; always the last one's.
        It depends on nothing but the settings, so resuming does not change it.
        """
        steps = self.epochs * steps_per_epoch
        most = min(MOST_REPORTS, max(LEAST_REPORTS, steps // STEPS_A_REPORT))
        every = math.ceil(self.epochs / most)
        return (epoch + 1) % every == 0 or epoch + 1 == self.epochs

    def _check_range(self, name: str, low: float, high: float) -> None:
        """Refuse a field outside low <= value < high; NaN too."""
        value = getattr(self, name)
        if not low <= value < high:
            raise ValueError(f"{name} is {value}; allowed: at least {low} and below {high}")

    def learning_rate_factor(self, step: int, total_steps: int) -> float:
        """Multiplier of the learning rates at a step (counted from 0) of the run."""
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
    r1_every: int = setting(8, "steps between R1 penalties, each weighted by this many steps")
    classifier_weight: float = setting(
        0.2, "weight of naming the class, where the discriminator has a head for it; 0 = off"
    )
    label_modes: int = setting(
        0,
        "1 = a gan learns the labels that its images have, and part of z chooses the class, so "
        "that fewer samples lie between two; 0 = it sees no labels (a cgan always does)",
    )
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
        if self.label_modes not in (0, 1):
            raise ValueError(f"label_modes is {self.label_modes}; allowed: 0 and 1")
        if self.r1_every < 1:
            raise ValueError(f"r1_every is {self.r1_every}; it must be at least 1")
        if self.batch_size < 2:
            raise ValueError("batch_size is 1; batch norm needs at least 2")


@dataclass(frozen=True)
class VaeRun(RunConfig):
    """Settings of a VAE run."""

    lr: float = setting(1e-3, "Adam's learning rate")
    gradient_limit: float = setting(
        0.0,
        "largest norm of a step's gradient, which is some hundreds to thousands at first and tens "
        "later, but can be far more where a learned prior is next to 0 at a latent; 0 = none",
    )
    beta: float = setting(1.0, "weight of the KL term; 1 = the ELBO")
    draws: int = setting(
        1,
        "latents drawn an image in a step: 1 = the loss is the negative ELBO, more = the importance"
        "-weighted bound, which is closer to the likelihood; each costs a pass of the decoder. For "
        "beta 1, and a prior that is joint or N(0, I)",
    )
    draws_fraction: float = setting(
        1.0, "last part of the run, above 0 and up to 1, in which so many are drawn; one before it"
    )
    kl_warmup_epochs: float = setting(
        1.0, "epochs over which the KL's weight rises from 0; 0 = at once"
    )
    holdout_fraction: float = setting(
        0.02, "part of the training images kept out, to measure each epoch on; 0 = none"
    )
    pixels: str = setting(
        "grey",
        "what the VAE is shown: grey (levels as means of Bernoullis) or binarised (each pixel "
        "drawn with its level as probability, anew at each step)",
    )
    distorted_fraction: float = setting(
        0.0,
        "part of the images, 0 to 1, that are moved, turned, scaled and sheared a little, of which "
        "the VAE is told: against learning by heart. Falls with the learning rate; 0 = none",
    )
    prior_fit: str = setting(
        "after",
        "when the learned prior is: after the VAE, which sees N(0, I) until then, or joint, as a "
        "part of its loss from the first step",
    )
    prior_steps: int = setting(
        6000,
        "steps of 512 latents that fit the learned prior at the end; 0 = none, for a joint one",
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
        if self.distorted_fraction and not self.decay_fraction:
            raise ValueError(
                "decay_fraction is 0, so distorted_fraction would never fall and the run would "
                "end on distorted images; use one above 0"
            )
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}; it must be at least 1")
        if not 0 < self.draws_fraction <= 1:
            raise ValueError(
                f"draws_fraction is {self.draws_fraction}; allowed: above 0 and up to 1"
            )
        if self.draws > 1 and self.beta != 1:
            raise ValueError(
                f"draws is {self.draws} and beta {self.beta}; with such a weight of the KL there "
                "is no bound on the likelihood, so use 1 for one of the two"
            )
        if self.draws > 1 and self.prior_fit == "after" and self.network.prior_layers:
            raise ValueError(
                f"draws is {self.draws}, and they are weighed by the prior, which is fitted after "
                "the VAE; use prior_fit joint, or draws 1"
            )
        self._check_range("prior_steps", int(self.prior_fit == "after"), math.inf)
        if self.prior_fit == "joint" and not self.network.prior_layers:
            raise ValueError("prior_fit is joint, but the network has no learned prior to fit")

    def draws_at(self, step: int, total_steps: int) -> int:
        """Latents drawn an image at a step (counted from 0) of the run."""
        late = total_steps - step <= round(total_steps * self.draws_fraction)
        return self.draws if late else 1


AnyRun = GanRun | VaeRun

# The textbook shape of public tutorials: noise 100 to 256-512-1024-784.
_DENSE = GanConfig(
    architecture="dense",
    latent_dim=100,
    channels=(256, 512, 1024),
)
# Radford et al. 2015, cut to two doublings because digits are 28 pixels wide.
_DCGAN = GanConfig(
    architecture="dcgan",
    latent_dim=100,
    channels=(128, 64),
)
_PUBLISHED = GanRun(
    epochs=24,
    batch_size=32,
    generator_lr=4e-4,
    discriminator_lr=4e-4,
    r1_gamma=0.05,
    discriminator=DiscriminatorConfig((32, 96, 128), residual=True, classifier=True),
)
# A GAN by the same recipe, which the labels teach too.
_PUBLISHED_GAN = dataclasses.replace(_PUBLISHED, label_modes=1)
# For a generator of 1.6 million multiply-adds an image, not 3.7.
_NARROW = GanConfig(channels=(24, 16))
_GAN_PRESETS = {
    "compact": GanRun(epochs=20, r1_gamma=0.05),
    "published": _PUBLISHED,
    "lite": dataclasses.replace(_PUBLISHED, network=_NARROW),
    "dense": GanRun(
        generator_lr=2e-4,
        discriminator_lr=2e-4,
        adam_beta2=0.999,
        network=_DENSE,
        discriminator=DiscriminatorConfig(channels=(1024, 512, 256)),
    ),
    "dcgan": GanRun(
        generator_lr=2e-4,
        discriminator_lr=2e-4,
        adam_beta2=0.999,
        network=_DCGAN,
        discriminator=DiscriminatorConfig(channels=(64, 128, 256), spectral_norm=True),
    ),
}

PRESETS: dict[str, dict[str, AnyRun]] = {
    "gan": {
        **_GAN_PRESETS,
        "published": _PUBLISHED_GAN,
        "lite": dataclasses.replace(_PUBLISHED_GAN, network=_NARROW),
    },
    "cgan": {**_GAN_PRESETS},
    "vae": {
        "compact": VaeRun(epochs=15, batch_size=128, network=VaeConfig(prior_layers=8)),
        # For samples and reconstructions in grey levels: under 4 million multiply-adds an image.
        "published": VaeRun(
            epochs=150,
            lr=1.5e-3,
            decay_fraction=0.7,
            beta=0.25,
            distorted_fraction=0.5,
            prior_fit="joint",
            prior_steps=30_000,
            network=VaeConfig(
                latent_dim=64,
                channels=(16, 32),
                prior_layers=8,
                prior_hidden=240,
                prior_mixing="linear",
            ),
        ),
        # For the likelihood of binarised digits.
        "likelihood": VaeRun(
            epochs=80,
            lr=1.5e-3,
            gradient_limit=200.0,
            decay_fraction=0.7,
            pixels="binarised",
            distorted_fraction=0.8,
            draws=4,
            draws_fraction=0.5,
            prior_fit="joint",
            prior_steps=20_000,
            network=VaeConfig(
                latent_dim=40,
                channels=(32, 64),
                blocks=(1, 2),
                prior_layers=8,
                prior_hidden=256,
                prior_mixing="linear",
            ),
        ),
        "dense": VaeRun(
            epochs=10,
            batch_size=128,
            network=VaeConfig(architecture="dense", latent_dim=20, channels=(400,)),
        ),
    },
}


def as_json(run: AnyRun) -> dict[str, Any]:
    """Plain values, for config.json and the checkpoint's header."""
    return dataclasses.asdict(run)


def described(run: AnyRun) -> list[str]:
    """Every resolved setting as a line for people."""
    lines = []
    for name, value in as_json(run).items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items())
        lines.append(f"  {name:20} {value}")
    return lines


def from_json(kind: str, values: dict[str, Any]) -> AnyRun:
    """The inverse of ``as_json``, for resuming.

    Raises:
        TypeError: a field is unknown: the run was made by another version.
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
