"""The judges: classifiers of the training set, whose features are used to compare images.

The usual Inception features are made for photographs of 299 pixels and need a download; a judge is
trained on the same kind of images that it compares. A plain classifier ignores what does not
change the class (blur, stroke width, contrast), so a judge also reconstructs its input from the
same features.

There are two. Whatever is chosen by a judge, such as the best epoch of a run or a recipe, is fitted
to it. So ``ChoosingJudge`` chooses, and published figures come from ``PublishingJudge``, which
differs in network, seed and features.

MNIST's judges are part of the package, because all published figures were measured with them. Those
of any other data set are trained when they are first needed, and cached.
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
from training.evaluation.judge_networks import Judge
from training.networks.files import write_atomically
from training.optim.ema import Ema
from training.runs.progress import progress_of

CACHE = Path("runs/judges")
LEAST_STEPS = 1500  # small data sets get more epochs
BATCH = 128  # of training
JUDGED_BATCH = 500  # images in a pass of ``JudgedImages.of``
WEIGHT_DECAY = 1e-2
LABEL_SMOOTHING = 0.05
REDRAW_WEIGHT = 20.0  # of the reconstruction's mean squared error; not tuned
EMA_HALFLIFE_IMAGES = 20_000.0
SHIPPED = Path(__file__).parent / "judges"


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
            classes.append(judge.classify(features[-1]).argmax(1))
        return cls(levels, torch.cat(features), torch.cat(classes))

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, chosen: Tensor) -> "JudgedImages":
        return JudgedImages(self.levels[chosen], self.features[chosen], self.classes[chosen])


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


def train_judge(kind: type[Judge], data: Dataset, device: torch.device) -> Judge:
    """A judge of ``data``, in eval mode; deterministic on a CPU, as its seeds are fixed."""
    torch.manual_seed(kind.seed)
    noise = torch.Generator().manual_seed(kind.seed)
    data = data.to(device)
    judge = _untrained(kind, data).to(device)
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # in place
    ema = Ema(judge, EMA_HALFLIFE_IMAGES)
    optimizer = torch.optim.AdamW(
        judge.parameters(), kind.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
    )
    batch = min(BATCH, len(data))
    steps_per_epoch = len(data) // batch
    total = max(kind.epochs * steps_per_epoch, LEAST_STEPS)
    with progress_of(total, 0, batch) as progress:
        for step in range(total):
            epoch, index = divmod(step, steps_per_epoch)
            if index == 0:
                order = epoch_order(len(data), kind.seed, epoch).to(device)
            chosen = order[index * batch : (index + 1) * batch]
            images = _augment(to_pixels(data.images[chosen]), noise)
            cosine = 0.5 * (1 + math.cos(math.pi * step / total))
            warm_up = min(1.0, (step + 1) / 200)
            optimizer.param_groups[0]["lr"] = kind.learning_rate * warm_up * cosine
            logits, reconstruction = judge(images)
            loss = F.cross_entropy(logits, data.labels[chosen], label_smoothing=LABEL_SMOOTHING)
            loss = loss + REDRAW_WEIGHT * F.mse_loss(reconstruction.sigmoid(), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update(judge, batch, (step + 1) * batch)
            progress.update()
    return ema.network


def judge_path(kind: type[Judge], data: Dataset, cache: Path = CACHE) -> Path:
    """The file of a training set's judge: shipped, or else in ``cache``."""
    name = f"{data.name}-{data.digest()[:12]}-v{kind.version}.safetensors"
    return SHIPPED / name if (SHIPPED / name).exists() else cache / name


def judge_for(kind: type[Judge], data: Dataset, device: torch.device, cache: Path = CACHE) -> Judge:
    """The judge of a training set: shipped, or from ``cache``, or trained now and cached.

    Training takes minutes on one CPU core: for 60,000 digits 16 (choosing) and 8 (publishing).

    Raises:
        DataError: the shipped file is damaged.
    """
    path = judge_path(kind, data, cache)
    judge = _untrained(kind, data)
    if not load_if_valid(judge, path):
        if path.parent == SHIPPED and path.exists():
            # With another judge, figures would not be comparable with published ones.
            raise DataError(f"{path} belongs to the package and is damaged: reinstall the package")
        print(f"training the {kind.name} judge on {len(data)} images, once", flush=True)
        trained = train_judge(kind, data, device)
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


def _untrained(kind: type[Judge], data: Dataset) -> Judge:
    """An untrained judge of the set's shape and classes."""
    channels, height, width = data.images.shape[1:]
    return kind((channels, height, width), len(data.class_names))


def load_judge(kind: type[Judge], path: Path, data: Dataset, device: torch.device) -> Judge:
    """The judge of a training set from a file that ``save_weights`` wrote, in eval mode."""
    judge = _untrained(kind, data)
    judge.load_state_dict(load_file(path))
    return judge.to(device).eval().requires_grad_(False)
