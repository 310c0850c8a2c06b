"""The pictures of a card: samples, interpolations, a map of a VAE's latent space, and the training
images nearest to samples."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.data.dataset import UNKNOWN_LICENCE, Dataset, first_images, to_pixels
from training.evaluation.evaluate import draw
from training.evaluation.judge import JudgedImages
from training.evaluation.judged_reference import SEED
from training.evaluation.measures import nearest
from training.evaluation.reference import Reference
from training.loops.gan import sample_grid, shown_classes
from training.loops.vae import reconstruction_grid
from training.networks.gan import Generator
from training.networks.vae import VAE
from training.runs.reporting import write_grid

PICTURE_SEED = 7
COLUMNS = 10
MAP_IMAGES = 3000  # test images on the map; t-SNE of so many takes some 10 seconds
NEAREST = 3  # training images beside each sample


@dataclass(frozen=True)
class Unmeasured:
    """Real images without a comparison with samples."""

    train: Dataset
    test: Dataset


@torch.no_grad()
def save_gallery(
    path: Path, network: Generator | VAE, real: Reference | Unmeasured, samples: int
) -> list[tuple[str, str]]:
    """Write the pictures beside the checkpoint ``path``: ``<name>.png``, ``<name>-morph.png``, ...

    Training images are shown only if their licence is known and samples were measured.

    Args:
        network: In eval mode, on the device of the real images.
        samples: How many were measured.

    Returns:
        (file name, caption in Markdown) of each, the samples first.

    Raises:
        OSError: a picture cannot be written.
    """
    which = _which(real.train.class_names)
    of_labels = which if network.num_classes else ""
    pictures = [
        _samples(network, real.test, of_labels),
        ("morph", _morph(network, real.test), _MORPH + of_labels),
    ]
    if isinstance(real, Reference) and real.train.licence != UNKNOWN_LICENCE:
        nearest_ones = _nearest_training(network, real, samples)
        pictures.append(("nearest", nearest_ones, _NEAREST + which))
    written = []
    for suffix, grid, caption in pictures:
        file = path.with_name(f"{path.stem}{suffix and '-'}{suffix}.png")
        write_grid(file, grid, columns=COLUMNS)
        written.append((file.name, caption))
    if isinstance(network, VAE):
        file = path.with_name(f"{path.stem}-map.png")
        if _save_map(file, network, real.test):
            written.append((file.name, _MAP))
    return written


_MORPH = "From the first image of each row to its last, in equal steps through the latent space."
_NEAREST = (
    "The sample of each class that comes closest to a training image, of all that were measured; "
    "below each its nearest training images, the nearest first, by the distance of their pixels."
)
_MAP = (
    "Test images by their mu, brought to two dimensions by t-SNE (van der Maaten & Hinton 2008); "
    "the colour is the label. Neighbours are alike; distances between groups mean nothing."
)


def _which(class_names: tuple[str, ...]) -> str:
    """A sentence for a caption: which classes are shown, if there are more than columns."""
    if len(class_names) <= COLUMNS:
        return ""
    shown = ", ".join(class_names[k] for k in shown_classes(len(class_names), COLUMNS))
    return f" Of the {len(class_names)} classes: {shown}."


def _samples(network: Generator | VAE, test: Dataset, of_labels: str) -> tuple[str, Tensor, str]:
    if isinstance(network, VAE):
        images = to_pixels(first_images(test, 2 * COLUMNS))
        return (
            "",
            reconstruction_grid(network, images, PICTURE_SEED),
            "Two rows of test images, each over its reconstruction from mu; then 60 samples from "
            "the prior, none chosen.",
        )
    caption = "80 samples, none chosen" + (
        ": a label a column, the same z along a row." if network.num_classes else "."
    )
    grid = sample_grid(network, columns=COLUMNS, rows=8, seed=PICTURE_SEED)
    return "", grid, caption + of_labels


def _morph(network: Generator | VAE, test: Dataset) -> Tensor:
    """Ten rows of interpolations (100, C, H, W): of a VAE between test images, of a GAN between
    draws of z, one label a row.

    A GAN's z is interpolated along the sphere near which normal draws lie (slerp: Shoemake 1985;
    White 2016, arXiv:1609.04468); a straight line would pass through the empty centre.
    """
    device = test.images.device
    steps = torch.linspace(0, 1, COLUMNS, device=device).view(1, -1, 1)
    if isinstance(network, VAE):
        mu, _ = network.encode(to_pixels(first_images(test, 20)))
        first, last = mu[:10, None], mu[-10:, None]  # first_images repeats a smaller set
        return network.decode(torch.lerp(first, last, steps).flatten(0, 1))
    noise = torch.Generator().manual_seed(PICTURE_SEED)
    ends = torch.randn(2, 10, 1, network.latent_dim, generator=noise).to(device)
    cosine = torch.cosine_similarity(ends[0], ends[1], dim=-1)[..., None]
    angle = torch.arccos(cosine.clamp(-0.999, 0.999))
    z = (((1 - steps) * angle).sin() * ends[0] + (steps * angle).sin() * ends[1]) / angle.sin()
    labels = None
    if network.num_classes:
        shown = torch.tensor(shown_classes(network.num_classes, 10), device=device)
        labels = shown.repeat_interleave(COLUMNS)
    return network.generate(z.flatten(0, 1), labels)


def _nearest_training(network: Generator | VAE, reference: Reference, samples: int) -> Tensor:
    """Ten of the measured samples in a row, their nearest training images below each."""
    levels, labels = draw(network, samples, SEED)
    train = reference.train_points
    distances = nearest(to_pixels(levels).flatten(1), train)[:, 0]
    if labels is None:
        labels = JudgedImages.of(reference.judged.judge, levels).classes
    # The closest of each class first, otherwise all ten could be of one simple class.
    shown = dict.fromkeys(shown_classes(reference.num_classes, COLUMNS))  # each class once
    groups = [torch.where(labels.to(levels.device) == k)[0] for k in shown]
    chosen = [group[distances[group].argmin()] for group in groups if len(group)]
    chosen += list(distances.argsort())
    closest = levels[torch.stack(chosen[:COLUMNS])]
    to_train = torch.cdist(to_pixels(closest).flatten(1), train)
    order = to_train.topk(min(NEAREST, len(train)), largest=False).indices  # (10, 3)
    rows = [closest, *(reference.train.images[column] for column in order.T)]
    return to_pixels(torch.cat(rows))


def _save_map(path: Path, vae: VAE, test: Dataset) -> bool:
    """Scatter the encodings of test images; False if there are too few for a map."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    images = test.images[:MAP_IMAGES]
    if len(images) < 50:
        return False
    mu = torch.cat([vae.encode(to_pixels(part))[0] for part in images.split(500)]).cpu().numpy()
    perplexity = min(30, len(mu) // 4)
    places = TSNE(init="pca", perplexity=perplexity, random_state=PICTURE_SEED).fit_transform(mu)
    labels = test.labels[:MAP_IMAGES].cpu().numpy()
    figure = Figure(figsize=(6, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = test.class_names
    colours = colormaps["tab10" if len(names) <= 10 else "turbo"].resampled(len(names))
    for k, name in enumerate(names):
        own = places[labels == k]
        axes.scatter(own[:, 0], own[:, 1], s=4, color=colours(k), label=name)
    if len(names) <= 20:
        axes.legend(markerscale=3, fontsize="small")
    axes.set_xticks([])
    axes.set_yticks([])
    figure.savefig(path, format="png", dpi=100)
    return True
