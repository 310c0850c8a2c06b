"""Networks whose faults are known, a judge that never errs, and what they are compared with."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.data.dataset import Dataset
from training.evaluation import cas, measures
from training.evaluation.evaluate import Effort
from training.evaluation.judge_networks import Judge
from training.evaluation.reference import Reference
from training.networks.configs import GanConfig
from training.networks.gan import Generator


@pytest.fixture(autouse=True)
def _few_subsets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "KID_SUBSETS", 2)
    monkeypatch.setattr(cas, "STEPS", 40)


def make_cgan() -> Generator:
    torch.manual_seed(0)
    config = GanConfig("dense", latent_dim=2, num_classes=10, image_size=8, channels=(4,))
    return Generator(config).eval().requires_grad_(False)


class Painter(Generator):
    """Paints label k as an even grey of level 20 k, and those in ``mistaken`` as another label."""

    def __init__(self, mistaken: dict[int, int] | None = None, num_classes: int = 10) -> None:
        super().__init__(GanConfig("dense", 2, num_classes, image_size=8, channels=()))
        self.mistaken = mistaken or {}

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        assert len(z) > 0
        shown = [0] * len(z) if labels is None else labels.tolist()
        levels = torch.tensor([20.0 * self.mistaken.get(k, k) for k in shown]) / 255
        return levels.view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


class Oracle(Judge):
    """Reads Painter's classes without fail. Features: the mean, and others of the image."""

    name, version = "oracle", 0

    def __init__(self) -> None:
        nn.Module.__init__(self)  # none of the judge's layers

    def features(self, images: Tensor) -> Tensor:
        means = images.mean(dim=(1, 2, 3))[:, None]
        return torch.cat([means, (means * 1e4).sin(), images[:, 0, 0, :1]], dim=1)

    def classify(self, features: Tensor) -> Tensor:
        classes = (features[:, 0] * 255 / 20).round().long().clamp(0, 9)
        return torch.nn.functional.one_hot(classes, 10).float()


@pytest.fixture
def painted() -> Dataset:
    """What Painter paints without mistakes, each label four times, with a corner of its own."""
    labels = torch.arange(40) % 10
    images = (labels * 20).to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 8, 8)
    images[:, 0, 0, 0] = torch.arange(40).to(torch.uint8)
    return Dataset("painted", "none", images, labels, tuple("0123456789"))


@pytest.fixture
def reference(painted: Dataset, tmp_path: Path) -> Reference:
    return Reference(Oracle(), painted, painted, 40, tmp_path)


QUICK = Effort(samples=40, cas_images=0, nll_samples=0)
