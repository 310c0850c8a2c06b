"""Measures between sets of images, or of their features: plain functions of tensors.

Distances between points are Euclidean and computed in chunks of rows: the whole matrix of 10,000
by 60,000 would not fit into memory.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.dataset import import_torchvision

CHUNK = 500  # rows of a distance matrix held at once: 120 MB against 60,000 points
NEIGHBOURS = 5  # k of precision, recall, density and coverage: as Naeem et al. 2020
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # as Binkowski et al. 2018 and torchmetrics


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features, (N, D) and (M, D).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), in float64; sample covariances (N - 1).
    Source: Heusel et al. 2017, arXiv:1706.08500, equation 6, with other features than Inception's.

    Not torchmetrics' version, which takes eigenvalues of the asymmetric S1 S2: for two equal sets
    of 2,000 points in 20 of 128 dimensions it returns -2e-4 instead of 0. A test compares the two.
    """
    first, second = first.double(), second.double()
    cov1, cov2 = first.T.cov(), second.T.cov()
    # tr (S1 S2)^(1/2) = sum of square roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), symmetric.
    values, vectors = torch.linalg.eigh(cov1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    mean = (first.mean(0) - second.mean(0)).square().sum()
    # Rounding can make the distance between equal sets slightly negative.
    return max(0.0, float(mean + cov1.trace() + cov2.trace() - 2 * cross))


def kernel_distance(first: Tensor, second: Tensor, seed: int) -> float:
    """KID: squared maximum mean discrepancy between features (N, D) and (M, D).

    Kernel (x.y/D + 1)^3 of features divided by ``second``'s root mean square, so that both terms
    matter, as for Inception features; without it the cubic term would dominate. The mean of the
    unbiased estimate over 100 random subsets of 1,000 (or of the smaller set's size): about 0 for
    equal distributions, and as often below as above it.

    Source: Binkowski et al. 2018, arXiv:1801.01401, section 3, by torchmetrics in float64.
    """
    import_torchvision()  # torchmetrics imports torchvision too
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all")
        metric = KernelInceptionDistance(
            feature=torch.nn.Identity(),  # features are already computed
            subsets=KID_SUBSETS,
            subset_size=min(KID_SUBSET_SIZE, len(first), len(second)),
        )
    first, second = first.double(), second.double()
    scale = second.square().mean().sqrt().clamp(min=1e-12)
    metric.update(first / scale, real=False)
    metric.update(second / scale, real=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # compute draws subsets from torch's global generator
        mean, _ = metric.compute()
    return float(mean)


def _distances(points: Tensor, to: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Distances (B, M) of each chunk of ``points`` (N, D) to all of ``to`` (M, D)."""
    for start in range(0, len(points), CHUNK):
        rows = slice(start, min(start + CHUNK, len(points)))
        yield rows, torch.cdist(points[rows], to)


def nearest(points: Tensor, to: Tensor | None = None, k: int = 1) -> Tensor:
    """Distances (N, k), ascending, of each point (N, D) to its k nearest in ``to`` (M, D).

    Without ``to``: the nearest others in ``points`` itself.

    Raises:
        ValueError: there are fewer than k others.
    """
    others = len(points) - 1 if to is None else len(to)
    if others < k:
        raise ValueError(f"{others} points are too few for {k} nearest neighbours; use more images")
    parts = []
    for rows, distances in _distances(points, points if to is None else to):
        if to is None:
            own = torch.arange(rows.start, rows.stop, device=points.device)
            distances[own - rows.start, own] = torch.inf
        parts.append(distances.topk(k, dim=1, largest=False).values)
    return torch.cat(parts)


def nearest_of_alike(points: Tensor, to: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of each point (N, D) in ``to`` (M, D), and how different those are.

    Returns:
        Distances (N, k), ascending; and each of these neighbours' distance to the first, (N, k).

    Raises:
        ValueError: there are fewer than k.
    """
    if len(to) < k:
        raise ValueError(
            f"{len(to)} points are too few for {k} nearest neighbours; use more images"
        )
    nearest_distances, apart = [], []
    for _, distances in _distances(points, to):
        near = distances.topk(k, dim=1, largest=False)
        neighbours = to[near.indices]  # (B, k, D)
        nearest_distances.append(near.values)
        apart.append((neighbours - neighbours[:, :1]).norm(dim=2))
    return torch.cat(nearest_distances), torch.cat(apart)


@dataclass(frozen=True)
class Manifold:
    """Points (N, D) and each one's radius (N,): the distance to its k-th nearest other."""

    points: Tensor
    radii: Tensor

    @classmethod
    def of(cls, points: Tensor, k: int = NEIGHBOURS) -> "Manifold":
        return cls(points, nearest(points, k=k)[:, -1])


@dataclass(frozen=True)
class Overlap:
    """How two sets of points cover each other; see ``overlap``."""

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(fake: Manifold, real: Manifold, k: int = NEIGHBOURS) -> Overlap:
    """Improved precision and recall, density and coverage, from balls around points.

    Precision: fake points inside some real ball. Recall: real points inside some fake ball
    (Kynkaanniemi et al. 2019, arXiv:1904.06991, equation 1). Density: real balls around a fake
    point, over k. Coverage: real points whose ball holds a fake point (Naeem et al. 2020,
    arXiv:2002.09797, equations 3 and 5). torchmetrics 1.9 has none of the four.
    """
    device = real.points.device
    inside, holding = 0, 0
    recalled = torch.zeros(len(real.points), dtype=torch.bool, device=device)
    covered = recalled.clone()
    for rows, distances in _distances(fake.points, real.points):
        within = distances <= real.radii
        inside += int(within.any(dim=1).sum())
        holding += int(within.sum())
        covered |= within.any(dim=0)
        recalled |= (distances <= fake.radii[rows, None]).any(dim=0)
    return Overlap(
        precision=inside / len(fake.points),
        recall=float(recalled.double().mean()),
        density=holding / (k * len(fake.points)),
        coverage=float(covered.double().mean()),
    )


def spread_by_class(features: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Mean distance between two images of a class, (K,) float64; 0 where there are not two.

    Args:
        features: (N, D). classes: (N,), on the same device.
    """
    spreads = torch.zeros(num_classes, dtype=torch.float64)
    for k in range(num_classes):
        own = features[classes == k]
        if len(own) > 1:
            total = sum(float(part.sum(dtype=torch.float64)) for _, part in _distances(own, own))
            spreads[k] = total / (len(own) * (len(own) - 1))
    return spreads


def class_shares(classes: Tensor, num_classes: int) -> Tensor:
    """Share of each class among (N,) class numbers: (K,) float64 on the CPU."""
    return torch.bincount(classes.cpu(), minlength=num_classes).double() / len(classes)


def labels_by_share(shares: Tensor, count: int) -> Tensor:
    """Labels (count,) int64 in which each of K has its share (K,), to within one image.

    Deterministic, evenly mixed, rounded by largest remainders. Equal shares give 0, 1, ... K - 1,
    0, 1, ...
    """
    wanted = shares.double().cpu() * count
    counts = wanted.floor().long()
    rest = (counts - wanted).argsort(stable=True)[: count - int(counts.sum())]
    counts[rest] += 1
    labels = torch.arange(len(shares)).repeat_interleave(counts)
    places = torch.cat(
        [(torch.arange(n, dtype=torch.float64) + 0.5) / max(n, 1) for n in counts.tolist()]
    )
    return labels[places.argsort(stable=True)]


def kl_to_uniform(shares: Tensor) -> float:
    """KL divergence of shares (K,) from the uniform distribution, in nats: 0 to log K."""
    return float(torch.special.xlogy(shares, shares * len(shares)).sum())


def histogram(levels: Tensor) -> Tensor:
    """Share of each 8-bit level among all values of a uint8 tensor: (256,) float64 on the CPU."""
    return torch.bincount(levels.flatten().long(), minlength=256).double().cpu() / levels.numel()


def histogram_distance(first: Tensor, second: Tensor) -> float:
    """L1 distance between two normalised histograms (256,): 0 equal, 2 disjoint."""
    return float((first - second).abs().sum())


def ratio(value: float, unit: float) -> float:
    """value / unit; finite even if so few images make the unit 0."""
    return value / max(unit, 1e-12)


def image_bytes(images: Tensor) -> list[bytes]:
    """Each uint8 image of (N, C, H, W) as bytes: equal if and only if the images are."""
    return [row.tobytes() for row in images.cpu().numpy()]
