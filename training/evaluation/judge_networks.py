"""The networks of the two judges: classifiers that redraw their input from the same features.

They share no layer, no activation and no seed, so that what is fitted to the features of one is not
fitted to the other's.
"""

import math
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn


class Judge(nn.Module):
    """images (B, C, H, W) in [0, 1] -> class logits (B, K) and the reconstruction, as logits; both
    from the same ``features``."""

    name: ClassVar[str]
    # Counted over both judges. Raise it to the next free number when network or training change:
    # figures of two versions are not comparable.
    version: ClassVar[int]
    # Of the training in ``training.evaluation.judge``.
    seed: ClassVar[int]
    epochs: ClassVar[int]
    learning_rate: ClassVar[float]

    def __init__(self, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.shape = shape
        self.num_classes = num_classes

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, C, H, W) in [0, 1]."""
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        """Class logits (B, K) from features (B, D)."""
        raise NotImplementedError

    def reconstruct(self, features: Tensor) -> Tensor:
        """The reconstruction (B, C, H, W), as logits, from features (B, D)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (B, K) and the reconstruction (B, C, H, W), as logits."""
        features = self.features(images)
        return self.classify(features), self.reconstruct(features)


class _Block(nn.Module):
    """A copy of ``training.networks.gan.ResidualBlock`` on purpose: a change there must change no
    figure."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv(x)))


def _conv(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


class ChoosingJudge(Judge):
    """Batch norm and ReLU at full resolution; 128 features, a ReLU in front of both heads."""

    name, version = "choosing", 2
    seed, epochs, learning_rate = 0, 12, 2e-3
    FEATURES = 128

    def __init__(self, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(shape, num_classes)
        channels, height, width = shape
        self.trunk = nn.Sequential(
            *_conv(channels, 32, stride=1),  # (B, 32, H, W)
            *_conv(32, 64, stride=2),
            _Block(64),  # (B, 64, H/2, W/2)
            *_conv(64, 96, stride=2),
            _Block(96),  # (B, 96, H/4, W/4)
            nn.Flatten(),
            nn.Linear(96 * math.ceil(height / 4) * math.ceil(width / 4), self.FEATURES),
        )
        self.dropout = nn.Dropout(0.3)
        self.classes = nn.Linear(self.FEATURES, num_classes)
        self.redraw = nn.Sequential(
            nn.Linear(self.FEATURES, 256), nn.ReLU(), nn.Linear(256, channels * height * width)
        )

    def features(self, images: Tensor) -> Tensor:
        """As ``Judge.features``, before the ReLU."""
        features: Tensor = self.trunk(images * 2 - 1)
        return features

    def classify(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.dropout(F.relu(features)))
        return logits

    def reconstruct(self, features: Tensor) -> Tensor:
        logits: Tensor = self.redraw(F.relu(features))
        return logits.view(-1, *self.shape)


class _PlainBlock(nn.Module):
    """x + conv3x3(gelu(conv3x3(gelu(x)))), which starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv1(F.gelu(x))
        h = self.conv2(F.gelu(h))
        return x + h


class PublishingJudge(Judge):
    """GELU without normalisation, from half resolution down to an eighth; 96 features, of which
    the reconstruction is a linear map."""

    name, version = "publishing", 3
    seed, epochs, learning_rate = 317, 10, 1e-3
    FEATURES = 96

    def __init__(self, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(shape, num_classes)
        channels, height, width = shape
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, 32, 4, stride=2, padding=1),
            _PlainBlock(32),  # (B, 32, H/2, W/2)
            nn.GELU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            _PlainBlock(64),  # (B, 64, H/4, W/4)
            nn.GELU(),
            nn.Conv2d(64, 96, 3, stride=2, padding=1),
            nn.GELU(),  # (B, 96, H/8, W/8), rounded up
            nn.Flatten(),
            nn.Linear(96 * math.ceil(height // 4 / 2) * math.ceil(width // 4 / 2), self.FEATURES),
        )
        self.classes = nn.Sequential(
            nn.GELU(), nn.Dropout(0.2), nn.Linear(self.FEATURES, num_classes)
        )
        self.redraw = nn.Linear(self.FEATURES, channels * height * width)

    def features(self, images: Tensor) -> Tensor:
        """As ``Judge.features``."""
        features: Tensor = self.trunk(images * 2 - 1)
        return features

    def classify(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classes(features)
        return logits

    def reconstruct(self, features: Tensor) -> Tensor:
        logits: Tensor = self.redraw(features)
        return logits.view(-1, *self.shape)
