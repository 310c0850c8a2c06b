"""Differentiable augmentation for the discriminator of a GAN that has few images.

Real and generated images are changed alike before the discriminator sees them, and the gradient
passes through the change, so that the generator learns the images as they were (Zhao et al. 2020,
arXiv:2006.10738). With a probability below 1, the discriminator also sees how often an image is
unchanged; ``AdaptiveProbability`` finds it during the run (Karras et al. 2020, arXiv:2006.06676).
"""

from collections.abc import Callable

import torch
from torch import Tensor

SHIFT = 1 / 8  # largest translation, of the image's side
CUTOUT = 1 / 2  # side of the square that is cut out
BRIGHTNESS = 0.25  # largest change; pixels are 0 to 1


def _translation(images: Tensor, amounts: Tensor) -> Tensor:
    """A shift by whole pixels; what comes in is black."""
    for dim in (2, 3):
        side = images.shape[dim]
        most = round(side * SHIFT)
        shift = (amounts[:, dim - 2] * (2 * most + 1)).long() - most  # (B,)
        source = torch.arange(side, device=images.device) + shift[:, None]  # (B, side)
        source = source.view(-1, *((side, 1) if dim == 2 else (1, side)))[:, None]
        inside = (source >= 0) & (source < side)
        moved = images.gather(dim, source.clamp(0, side - 1).expand_as(images))
        images = moved * inside
    return images


def _cutout(images: Tensor, amounts: Tensor) -> Tensor:
    """A black square, cut off at the border."""
    apart = []
    for dim in (2, 3):
        side = images.shape[dim]
        first = (amounts[:, dim - 2] * (side + 1)).long() - round(side * CUTOUT) // 2  # (B,)
        place = torch.arange(side, device=images.device) - first[:, None]
        apart.append((place < 0) | (place >= round(side * CUTOUT)))  # (B, side)
    return images * (apart[0][:, None, :, None] | apart[1][:, None, None, :])


def _brightness(images: Tensor, amounts: Tensor) -> Tensor:
    return images + (2 * _factor(amounts) - 1) * BRIGHTNESS


def _saturation(images: Tensor, amounts: Tensor) -> Tensor:
    grey = images.mean(dim=1, keepdim=True)
    return grey + (images - grey) * 2 * _factor(amounts)


def _contrast(images: Tensor, amounts: Tensor) -> Tensor:
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (0.5 + _factor(amounts))


def _flip(images: Tensor, amounts: Tensor) -> Tensor:
    return torch.where(_factor(amounts) < 0.5, images.flip(3), images)


def _factor(amounts: Tensor) -> Tensor:
    """The first amount of each image, (B, 1, 1, 1) in [0, 1)."""
    return amounts[:, 0, None, None, None]


# In the order in which they are applied. Flips are for classes that a mirror leaves alone: not for
# letters, nor for hands, of which it makes the other one.
AUGMENTATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "flip": _flip,
    "brightness": _brightness,
    "saturation": _saturation,
    "contrast": _contrast,
    "translation": _translation,
    "cutout": _cutout,
}
_AMOUNTS = 3  # random numbers that each of them gets: two of its own, and whether it is applied


def parse_augmentations(names: str) -> tuple[str, ...]:
    """The augmentations of a setting, in the order in which they are applied.

    Args:
        names: With commas between; "" = none.

    Raises:
        ValueError: one is not in AUGMENTATIONS.
    """
    wanted = [name for name in names.split(",") if name]
    if unknown := [name for name in wanted if name not in AUGMENTATIONS]:
        raise ValueError(
            f"unknown augmentation {unknown[0]!r}; available, with commas between: "
            f"{', '.join(AUGMENTATIONS)}"
        )
    return tuple(name for name in AUGMENTATIONS if name in wanted)


def draw_amounts(names: tuple[str, ...], batch: int, noise: torch.Generator) -> Tensor:
    """Random numbers of [0, 1) for each image and augmentation: (batch, len(names), 3)."""
    return torch.rand(batch, len(names), _AMOUNTS, generator=noise)


def augmented(
    images: Tensor, names: tuple[str, ...], amounts: Tensor, probability: float
) -> Tensor:
    """Images (B, C, H, W), each changed by each augmentation with a probability of its own draw.

    Differentiable in the images. Pixels may leave [0, 1], as the discriminator may see.

    Args:
        names: Of ``parse_augmentations``.
        amounts: (B, len(names), 3) of ``draw_amounts``.
    """
    for name, own in zip(names, amounts.unbind(1), strict=True):
        changed = AUGMENTATIONS[name](images, own)
        applied = own[:, 2, None, None, None] < probability
        images = torch.where(applied, changed, images)
    return images


class AdaptiveProbability:
    """The probability of augmentation, steered so that the discriminator does not overfit.

    It overfits when it calls nearly all real images real: every EVERY steps, the probability rises
    if the mean sign of its logits at real images is above the target, and falls if it is below.
    Source: Karras et al. 2020, section 3 and appendix B.

    Args:
        value: To start from.
        target: Of the mean sign, 0 to 1; 0 = the probability stays.
        images: Real images in which it can go from 0 to 1.
    """

    EVERY = 4

    def __init__(self, value: float, target: float, images: int) -> None:
        self.value, self.target, self.images = value, target, images
        self.signs, self.steps = 0.0, 0  # since the last change

    def update(self, sign: float, batch: int) -> None:
        """Count a step whose logits at ``batch`` real images have the mean sign ``sign``."""
        if not self.target:
            return
        self.signs, self.steps = self.signs + sign, self.steps + 1
        if self.steps == self.EVERY:
            step = batch * self.EVERY / self.images
            rises = self.signs / self.EVERY > self.target
            self.value = min(1.0, max(0.0, self.value + (step if rises else -step)))
            self.signs, self.steps = 0.0, 0

    def carried(self) -> dict[str, float]:
        """What resuming needs."""
        return {
            "augment.value": self.value,
            "augment.signs": self.signs,
            "augment.steps": float(self.steps),
        }

    def restore(self, carried: dict[str, float]) -> None:
        """The inverse of ``carried``; nothing without such numbers."""
        if "augment.value" in carried:
            self.value, self.signs = carried["augment.value"], carried["augment.signs"]
            self.steps = int(carried["augment.steps"])
