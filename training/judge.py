"""The judge: a classifier trained here, whose features measure how near samples are to real images.

Inception features, the usual yardstick, belong to photographs of 299 pixels and need a download;
strokes of 28 pixels are judged by a network that has learnt strokes. A pure classifier is blind
to what does not change the class (blur, thickness, contrast), so this one also has to redraw its
input from the same features.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.data import Dataset, epoch_order, to_pixels

CACHE = Path("runs/judges")
VERSION = 1  # to be raised when what is trained here changes: two judges' figures do not compare
EPOCHS = 5
BATCH = 128
FEATURES = 128
REDRAW_WEIGHT = 20.0  # of the mean squared error, beside the cross-entropy; not tuned


class Judge(nn.Module):
    """images (B, C, H, W) in [0, 1] -> features (B, 128) and class logits (B, K)."""

    def __init__(self, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.shape = shape
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * (height // 4) * (width // 4), FEATURES),
        )
        self.classes = nn.Linear(FEATURES, num_classes)
        self.redraw = nn.Sequential(
            nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, channels * height * width)
        )

    def features(self, images: Tensor) -> Tensor:
        """(B, 128), the layer that both heads read."""
        features: Tensor = self.trunk(images * 2 - 1)
        return features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (B, K) and the input redrawn (B, C, H, W), as logits."""
        features = F.relu(self.features(images))
        return self.classes(features), self.redraw(features).view(-1, *self.shape)


def _train(data: Dataset, device: torch.device) -> Judge:
    torch.manual_seed(0)
    channels, height, width = data.images.shape[1:]
    judge = Judge((channels, height, width), len(data.class_names)).to(device)
    optimizer = torch.optim.Adam(judge.parameters(), 1e-3, fused=True)
    steps = len(data) // BATCH
    for step in range(EPOCHS * steps):
        epoch, index = divmod(step, steps)
        if index == 0:
            order = epoch_order(len(data), 0, epoch).to(device)
        chosen = order[index * BATCH : (index + 1) * BATCH]
        images = to_pixels(data.images[chosen])
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, 2 * (1 - step / (EPOCHS * steps)))
        logits, redrawn = judge(images)
        loss = F.cross_entropy(logits, data.labels[chosen])
        loss = loss + REDRAW_WEIGHT * F.mse_loss(redrawn.sigmoid(), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return judge.eval().requires_grad_(False)


def judge_path(data: Dataset, cache: Path = CACHE) -> Path:
    """Where the judge of a training set is kept."""
    return cache / f"{data.name}-{data.digest()[:12]}-v{VERSION}.safetensors"


def judge_for(data: Dataset, device: torch.device, cache: Path = CACHE) -> Judge:
    """The judge of a training set: trained once (about a minute on a CPU), then kept in ``cache``.

    It depends on the data's digest and fixed seeds alone.
    """
    path = judge_path(data, cache)
    data = data.to(device)
    if path.exists():
        channels, height, width = data.images.shape[1:]
        judge = Judge((channels, height, width), len(data.class_names))
        judge.load_state_dict(load_file(path))
        return judge.to(device).eval().requires_grad_(False)
    print(f"training the judge on {len(data)} images, once", flush=True)
    judge = _train(data, device)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({name: tensor.cpu() for name, tensor in judge.state_dict().items()}, temporary)
    temporary.replace(path)
    return judge
