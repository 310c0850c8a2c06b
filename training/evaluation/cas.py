"""Classification accuracy score (CAS): train on generated images, test on real ones.

A fixed classifier is trained on labelled samples, tested on real images, and compared with the same
classifier trained on as many real images (Ravuri & Vinyals 2019, arXiv:1905.10887). Wrong labels,
missing styles and repeated ones all cost accuracy, so CAS shows what precision and the judge's
accuracy do not.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.dataset import Dataset, epoch_order, to_pixels
from training.evaluation.judge import CACHE, cache_weights, load_if_valid
from training.runs.progress import progress_of

VERSION = 1  # raise it when the training below changes: cached classifiers are then not used
IMAGES = 50_000
BATCH = 128
STEPS = 1560  # four passes over IMAGES
SEED = 0  # of the weights, the order and the shifts
LEARNING_RATE = 3e-3
SHIFT = 1  # largest random shift of a training batch, in pixels
WIDTH = 16


def _classifier(shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """images (B, C, H, W) in [0, 1] -> logits (B, K); H and W are at least 8."""
    channels, height, width = shape

    def convolution(inputs: int, outputs: int, size: int, stride: int) -> list[nn.Module]:
        layer = nn.Conv2d(inputs, outputs, size, stride, padding=1, bias=False)
        return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *convolution(channels, WIDTH, 4, 2),  # (B, 16, H/2, W/2)
        *convolution(WIDTH, 2 * WIDTH, 3, 1),
        nn.MaxPool2d(2),  # (B, 32, H/4, W/4)
        *convolution(2 * WIDTH, 2 * WIDTH, 3, 1),
        *convolution(2 * WIDTH, 2 * WIDTH, 3, 1),
        nn.MaxPool2d(2),  # (B, 32, H/8, W/8)
        nn.Flatten(),
        nn.Linear(2 * WIDTH * (height // 8) * (width // 8), num_classes),
    )


def train_classifier(images: Tensor, labels: Tensor, num_classes: int) -> nn.Sequential:
    """The fixed classifier, trained on uint8 images (N, C, H, W) and their labels (N,).

    Deterministic on one device and number of threads; does not change torch's generators.
    """
    channels, height, width = images.shape[1:]
    device = images.device
    batch = min(BATCH, len(images))
    steps = len(images) // batch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        classifier = _classifier((channels, height, width), num_classes).to(device)
    shifts = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(classifier.parameters(), LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    with torch.enable_grad(), progress_of(STEPS, 0, batch) as progress:
        for step in range(STEPS):
            epoch, index = divmod(step, steps)
            if index == 0:
                order = epoch_order(len(images), SEED, epoch).to(device)
            chosen = order[index * batch : (index + 1) * batch]
            down, right = torch.randint(2 * SHIFT + 1, (2,), generator=shifts).tolist()
            padded = F.pad(to_pixels(images[chosen]), (SHIFT,) * 4)
            moved = padded[:, :, down : down + height, right : right + width]
            loss = F.cross_entropy(classifier(moved), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.update()
    return classifier.eval().requires_grad_(False)


def accuracy(classifier: nn.Module, test: Dataset) -> float:
    """Share of test images that the classifier labels correctly."""
    parts = to_pixels(test.images).split(500)
    predicted = torch.cat([classifier(part).argmax(1) for part in parts])
    return float((predicted == test.labels).double().mean())


def real_classifier(train: Dataset, chosen: Tensor, cache: Path = CACHE) -> nn.Sequential:
    """The classifier trained on the ``chosen`` (N,) real images: once, then from ``cache``."""
    path = cache / f"{train.name}-{train.digest()[:12]}-cas-{len(chosen)}-v{VERSION}.safetensors"
    channels, height, width = train.images.shape[1:]
    num_classes = len(train.class_names)
    classifier = _classifier((channels, height, width), num_classes)
    if load_if_valid(classifier, path):
        return classifier.to(train.images.device).eval().requires_grad_(False)
    print(f"training the classifier of CAS on {len(chosen)} real images, once", flush=True)
    classifier = train_classifier(train.images[chosen], train.labels[chosen], num_classes)
    cache_weights(classifier, path)
    return classifier
