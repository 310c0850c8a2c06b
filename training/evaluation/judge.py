"""The judge: a classifier of the training set, whose features are used to compare images.

The usual Inception features are made for photographs of 299 pixels and need a download; the judge
is trained on the same kind of images that it compares. A plain classifier ignores what does not
change the class (blur, stroke width, contrast), so the judge also reconstructs its input from the
same features.

MNIST's judge is part of the package, because all published figures were measured with it. That of
any other data set is trained when it is first needed, and cached.
"""

import math
import sys
from dataclasses import dataclass
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
VERSION = 2  # raise it when the training below changes: figures of two judges are not comparable
EPOCHS = 12
LEAST_STEPS = 1500  # small data sets get more epochs
BATCH = 128  # of training
JUDGED_BATCH = 500  # images in a pass of ``JudgedImages.of``
FEATURES = 128
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
LABEL_SMOOTHING = 0.05
REDRAW_WEIGHT = 20.0  # of the reconstruction's mean squared error; not tuned
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
    """images (B, C, H, W) in [0, 1] -> class logits (B, K) and the reconstruction, as logits; both
    from the same ``features``."""

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
        """Features (B, 128) of images (B, C, H, W) in [0, 1], before the ReLU in front of both
        heads."""
        features: Tensor = self.trunk(images * 2 - 1)
        return features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (B, K) and the reconstruction (B, C, H, W), as logits."""
        features = F.relu(self.features(images))
        return self.classes(self.dropout(features)), self.redraw(features).view(-1, *self.shape)


@dataclass(frozen=True)
class JudgedImages:
    """Images with their features and classes by the judge."""

    levels: Tensor  # (N, C, H, W) uint8
    features: Tensor  # (N, D)
    classes: Tensor  # (N,) int64

    @classmethod
    def of(cls, judge: Judge, levels: Tensor) -> "JudgedImages":
        """Judge uint8 images (N, C, H, W), a batch at a time."""
        features, classes = [], []
        for part in levels.split(JUDGED_BATCH):
            features.append(judge.features(to_pixels(part)))
            classes.append(judge(to_pixels(part))[0].argmax(1))
        return cls(levels, torch.cat(features), torch.cat(classes))

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, chosen: Tensor) -> "JudgedImages":
        return JudgedImages(self.levels[chosen], self.features[chosen], self.classes[chosen])

    @property
    def points(self) -> Tensor:
        """Pixels as points, (N, C H W) in [0, 1]."""
        return to_pixels(self.levels).flatten(1)


def _augment(images: Tensor, noise: torch.Generator) -> Tensor:
    """Random rotation (10 degrees), scale (10 %), shear (.15) and shift (1/14 of the side).

    The reconstruction target is the augmented image, so the features keep all of these.
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
    """A judge of ``data``, in eval mode; deterministic on a CPU, as its seeds are fixed."""
    torch.manual_seed(0)
    noise = torch.Generator().manual_seed(0)
    data = data.to(device)
    judge = _untrained(data).to(device)
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
            logits, reconstruction = judge(images)
            loss = F.cross_entropy(logits, data.labels[chosen], label_smoothing=LABEL_SMOOTHING)
            loss = loss + REDRAW_WEIGHT * F.mse_loss(reconstruction.sigmoid(), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update(judge, batch, (step + 1) * batch)
            progress.update()
    return ema.network


def judge_path(data: Dataset, cache: Path = CACHE) -> Path:
    """The file of a training set's judge: shipped, or else in ``cache``."""
    name = f"{data.name}-{data.digest()[:12]}-v{VERSION}.safetensors"
    return SHIPPED / name if (SHIPPED / name).exists() else cache / name


def judge_for(data: Dataset, device: torch.device, cache: Path = CACHE) -> Judge:
    """The judge of a training set: shipped, or from ``cache``, or trained now and cached.

    Training takes about a quarter of an hour for 60,000 digits on one CPU core.

    Raises:
        DataError: the shipped file is damaged.
    """
    path = judge_path(data, cache)
    judge = _untrained(data)
    if not load_if_valid(judge, path):
        if path.parent == SHIPPED and path.exists():
            # With another judge, figures would not be comparable with published ones.
            raise DataError(f"{path} belongs to the package and is damaged: reinstall the package")
        print(f"training the judge on {len(data)} images, once", flush=True)
        trained = train_judge(data, device)
        cache_weights(trained, path)
        # Copied into the memory layout of loaded weights, so that figures are the same bits next
        # time.
        judge.load_state_dict(trained.state_dict())
    return judge.to(device).eval().requires_grad_(False)


def load_if_valid(network: nn.Module, path: Path) -> bool:
    """Load a file of weights into a network; False = missing or damaged, which is reported."""
    if not path.exists():
        return False
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        print(f"{path} cannot be used: {reason}", file=sys.stderr, flush=True)
        return False
    return True


def cache_weights(network: nn.Module, path: Path) -> None:
    """``save_weights``, but an error is only reported."""
    try:
        save_weights(network, path)
    except OSError as error:
        reason = error.strerror or error
        print(f"could not cache {path}: {reason}", file=sys.stderr, flush=True)


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights atomically.

    Raises:
        OSError: the file cannot be written.
    """
    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(path, save(weights))


def _untrained(data: Dataset) -> Judge:
    """An untrained judge of the set's shape and classes."""
    channels, height, width = data.images.shape[1:]
    return Judge((channels, height, width), len(data.class_names))


def load_judge(path: Path, data: Dataset, device: torch.device) -> Judge:
    """The judge of a training set from a file that ``save_weights`` wrote, in eval mode."""
    judge = _untrained(data)
    judge.load_state_dict(load_file(path))
    return judge.to(device).eval().requires_grad_(False)
