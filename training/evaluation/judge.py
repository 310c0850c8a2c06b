"""The judge: a classifier trained here, whose features measure how near samples are to real images.

Inception features, the usual yardstick, belong to photographs of 299 pixels and need a download;
strokes of 28 pixels are judged by a network that has learnt strokes. A pure classifier is blind
to what does not change the class (blur, thickness, contrast), so this one also has to redraw its
input from the same features.

MNIST's judge is part of the package, because every published figure was measured with it; any
other data set's is trained when it is first asked for.
"""

import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from training.data.dataset import DataError, Dataset, epoch_order, to_pixels
from training.networks.files import write_atomically
from training.optim.ema import Ema
from training.runs.progress import progress_of

CACHE = Path("runs/judges")
VERSION = 2  # to be raised when what is trained here changes: two judges' figures do not compare
EPOCHS = 12
LEAST_STEPS = 1500  # for small data sets, which so get more epochs
BATCH = 128
FEATURES = 128
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
LABEL_SMOOTHING = 0.05
REDRAW_WEIGHT = 20.0  # of the mean squared error, beside the cross-entropy; not tuned
EMA_HALFLIFE_IMAGES = 20_000.0
SHIPPED = Path(__file__).parent / "judges"


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv(x)))


def _conv(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


class Judge(nn.Module):
    """images (B, C, H, W) in [0, 1] -> class logits (B, K) and the images redrawn, as logits;
    ``features`` is what both come from."""

    def __init__(self, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.shape = shape
        self.trunk = nn.Sequential(
            *_conv(channels, 32, stride=1),  # (B, 32, H, W)
            *_conv(32, 64, stride=2),
            _Block(64),  # (B, 64, H/2, W/2)
            *_conv(64, 96, stride=2),
            _Block(96),  # (B, 96, H/4, W/4)
            nn.Flatten(),
            nn.Linear(96 * math.ceil(height / 4) * math.ceil(width / 4), FEATURES),
        )
        self.dropout = nn.Dropout(0.3)
        self.classes = nn.Linear(FEATURES, num_classes)
        self.redraw = nn.Sequential(
            nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, channels * height * width)
        )

    def features(self, images: Tensor) -> Tensor:
        """(B, 128) of images (B, C, H, W) in [0, 1], before the ReLU through which both heads read
        them."""
        features: Tensor = self.trunk(images * 2 - 1)
        return features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (B, K) and the input redrawn (B, C, H, W), as logits."""
        features = F.relu(self.features(images))
        return self.classes(self.dropout(features)), self.redraw(features).view(-1, *self.shape)


def _augment(images: Tensor, noise: torch.Generator) -> Tensor:
    """Turn (10 degrees), stretch (10 %), slant (.15) and shift (1/14 of the side) each at random.

    The redrawing head must redraw what it was shown, so the features keep all of these.
    """
    count = len(images)

    def spread(most: float) -> Tensor:
        return (torch.rand(count, generator=noise) * 2 - 1) * most

    angle, wide, tall = spread(math.radians(10)), 1 + spread(0.1), 1 + spread(0.1)
    rows = [wide * angle.cos(), spread(0.15) - tall * angle.sin(), spread(2 / 14)]
    rows += [wide * angle.sin(), tall * angle.cos(), spread(2 / 14)]
    matrices = torch.stack(rows, dim=1).view(count, 2, 3).to(images.device)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def train_judge(data: Dataset, device: torch.device) -> Judge:
    """A judge of ``data``, in eval mode; deterministic on a CPU: its seeds are fixed."""
    torch.manual_seed(0)
    noise = torch.Generator().manual_seed(0)
    data = data.to(device)
    judge = _blank(data).to(device)
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in place
    ema = Ema(judge, EMA_HALFLIFE_IMAGES)
    optimizer = torch.optim.AdamW(
        judge.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    batch = min(BATCH, len(data))
    steps_per_epoch = len(data) // batch
    total = max(EPOCHS * steps_per_epoch, LEAST_STEPS)
    with progress_of(total, 0, batch) as progress:
        for step in range(total):
            epoch, index = divmod(step, steps_per_epoch)
            if index == 0:
                order = epoch_order(len(data), 0, epoch).to(device)
            chosen = order[index * batch : (index + 1) * batch]
            images = _augment(to_pixels(data.images[chosen]), noise)
            cosine = 0.5 * (1 + math.cos(math.pi * step / total))
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 200) * cosine
            logits, redrawn = judge(images)
            loss = F.cross_entropy(logits, data.labels[chosen], label_smoothing=LABEL_SMOOTHING)
            loss = loss + REDRAW_WEIGHT * F.mse_loss(redrawn.sigmoid(), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update(judge, batch, (step + 1) * batch)
            progress.update()
    return ema.network


def judge_path(data: Dataset, cache: Path = CACHE) -> Path:
    """Where the judge of a training set is: shipped, or else in ``cache`` once it is trained."""
    name = f"{data.name}-{data.digest()[:12]}-v{VERSION}.safetensors"
    return SHIPPED / name if (SHIPPED / name).exists() else cache / name


def judge_for(data: Dataset, device: torch.device, cache: Path = CACHE) -> Judge:
    """The judge of a training set: shipped, or from ``cache``, or trained now and kept there.

    Training takes about a quarter of an hour for 60,000 digits on one CPU core.
    """
    path = judge_path(data, cache)
    judge = _blank(data)
    if not filled(judge, path):
        if path.parent == SHIPPED and path.exists():
            # Another judge in its place would not compare with what was published.
            raise DataError(f"{path} belongs to the package and is damaged: install it anew")
        print(f"training the judge on {len(data)} images, once", flush=True)
        trained = train_judge(data, device)
        keep(trained, path)
        # Weights laid out as those from a file: the figures are the same to the bit next time.
        judge.load_state_dict(trained.state_dict())
    return judge.to(device).eval().requires_grad_(False)


def filled(network: nn.Module, path: Path) -> bool:
    """Fill a network from a file of weights; False = there is none that is whole."""
    if not path.exists():
        return False
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        said = str(error).partition("\n")[0]
        print(f"{path} cannot be used: {said}", file=sys.stderr, flush=True)
        return False
    return True


def keep(network: nn.Module, path: Path) -> None:
    """``save_weights``; where that cannot be, it is said."""
    try:
        save_weights(network, path)
    except OSError as error:
        said = error.strerror or error
        print(f"could not keep {path} for the next time: {said}", file=sys.stderr, flush=True)


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights, whole or not at all; OSError where that cannot be."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(path, save(weights))


def _blank(data: Dataset) -> Judge:
    """A judge of the set's shape and classes, which has learnt nothing."""
    channels, height, width = data.images.shape[1:]
    return Judge((channels, height, width), len(data.class_names))


def load_judge(path: Path, data: Dataset, device: torch.device) -> Judge:
    """The judge of a training set from a file that ``save_weights`` wrote, in eval mode."""
    judge = _blank(data)
    judge.load_state_dict(load_file(path))
    return judge.to(device).eval().requires_grad_(False)
