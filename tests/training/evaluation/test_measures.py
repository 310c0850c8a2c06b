"""Each measure against closed forms and cases small enough to count by hand."""

import math

import pytest
import torch
from torch import Tensor

from training.data.dataset import import_torchvision
from training.evaluation import measures
from training.evaluation.measures import (
    Manifold,
    class_shares,
    frechet_distance,
    histogram,
    histogram_distance,
    image_bytes,
    kernel_distance,
    kl_to_uniform,
    nearest,
    overlap,
    spread_by_class,
)


def samples(mean: Tensor, covariance: Tensor, count: int, seed: int = 0) -> Tensor:
    """(count, D) float64 whose sample mean and covariance are exactly these."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(count, len(mean), generator=random, dtype=torch.float64)
    x = x - x.mean(0)
    whitened = x @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T
    coloured: Tensor = whitened @ torch.linalg.cholesky(covariance).T + mean
    return coloured


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_equal_sets_have_distance_0() -> None:
    features = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    shuffled = features[torch.randperm(200, generator=torch.Generator().manual_seed(1))]
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features, shuffled) == pytest.approx(0, abs=1e-9)


def test_a_shift_alone_counts_its_squared_length() -> None:
    features = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double()
    assert frechet_distance(features, features + vector(1, -2, 3)) == pytest.approx(14)


def test_diagonal_covariances_by_the_closed_form() -> None:
    first = samples(vector(0, 1, 2), torch.diag(vector(1, 4, 9)), 50)
    second = samples(vector(0, 3, 2), torch.diag(vector(4, 4, 0.25)), 80, seed=1)
    # |m1 - m2|^2 + sum (s1 - s2)^2, standard deviations 1 2 3 and 2 2 1/2.
    assert frechet_distance(first, second) == pytest.approx(4 + 1 + 0 + 6.25)


def test_covariances_that_do_not_commute_by_the_closed_form_in_two_dimensions() -> None:
    cov1 = torch.tensor([[4.0, 0.0], [0.0, 1.0]]).double()
    cov2 = torch.tensor([[2.0, 1.2], [1.2, 1.5]]).double()
    product = cov1 @ cov2
    # tr M^(1/2) = sqrt(tr M + 2 sqrt(det M)) for a 2 x 2 M with positive eigenvalues.
    root = math.sqrt(float(product.trace()) + 2 * math.sqrt(float(torch.linalg.det(product))))
    expected = float(cov1.trace() + cov2.trace()) - 2 * root
    zero = vector(0, 0)
    distance = frechet_distance(samples(zero, cov1, 60), samples(zero, cov2, 70, seed=1))
    assert distance == pytest.approx(expected)
    assert expected > 0.1


def test_the_distance_is_symmetric_and_blind_to_rotation() -> None:
    random = torch.Generator().manual_seed(0)
    first = torch.randn(300, 4, generator=random, dtype=torch.float64)
    second = first[:200] @ torch.randn(4, 4, generator=random, dtype=torch.float64) + 0.3
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=random, dtype=torch.float64)).Q
    distance = frechet_distance(first, second)
    assert distance > 0.1
    assert frechet_distance(second, first) == pytest.approx(distance)
    assert frechet_distance(first @ rotation, second @ rotation) == pytest.approx(distance)


def test_features_that_never_vary_do_not_make_it_fail() -> None:
    first = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    first[:, 2] = 0
    distance = frechet_distance(first, torch.zeros(50, 3))
    variances = first.double().var(0).sum() + first.double().mean(0).square().sum()
    assert distance == pytest.approx(float(variances))


def test_the_frechet_distance_is_that_of_torchmetrics() -> None:
    import_torchvision()
    from torchmetrics.image.fid import FrechetInceptionDistance

    random = torch.Generator().manual_seed(0)
    first = torch.randn(400, 8, generator=random)
    second = first[:300] @ torch.randn(8, 8, generator=random) + 0.5
    through = torch.nn.Identity()
    through.num_features = 8  # type: ignore[assignment]
    metric = FrechetInceptionDistance(feature=through)
    metric.update(first, real=True)
    metric.update(second, real=False)
    assert frechet_distance(first, second) == pytest.approx(float(metric.compute()), rel=1e-5)


def test_the_kernel_distance_of_two_points_by_hand() -> None:
    # Divided by the second's root mean square, 2: features 1/2 and 1, in one dimension.
    expected = (1 / 4 + 1) ** 3 + (1 + 1) ** 3 - 2 * (1 / 2 + 1) ** 3
    distance = kernel_distance(torch.ones(20, 1), torch.full((30, 1), 2.0), seed=0)
    assert distance == pytest.approx(expected)


def test_the_kernel_distance_of_equal_distributions_is_about_0_and_grows_with_a_shift(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measures, "KID_SUBSETS", 4)
    first, second = torch.randn(2, 1000, 6, generator=torch.Generator().manual_seed(0))
    apart = [kernel_distance(first + shift, second, seed=0) for shift in (0, 0.3, 0.6)]
    assert abs(apart[0]) < 0.01
    assert apart[0] + 0.02 < apart[1]
    assert apart[1] + 0.02 < apart[2]


def test_subsets_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "KID_SUBSET_SIZE", 50)
    first, second = torch.randn(2, 200, 3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    distance = kernel_distance(first, second, seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert kernel_distance(first, second, seed=5) == distance
    assert kernel_distance(first, second, seed=6) != distance
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.fixture(params=[3, 500])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "CHUNK", request.param)


def line(*values: float) -> Tensor:
    return torch.tensor(values).float()[:, None]


TEN = line(*range(10))


@pytest.mark.usefixtures("_chunks")
def test_nearest_points_on_a_line() -> None:
    points = line(0, 1, 3, 7)
    assert nearest(points).flatten().tolist() == [1, 1, 2, 4]
    assert nearest(points, k=2).tolist() == [[1, 3], [1, 2], [2, 3], [4, 6]]
    assert nearest(points, line(3, 5), k=2).tolist() == [[3, 5], [2, 4], [0, 2], [2, 4]]
    assert nearest(line(2, 2, 5)).flatten().tolist() == [0, 0, 3]  # itself does not count


def test_too_few_points_are_refused() -> None:
    with pytest.raises(
        ValueError, match="4 points are too few for 5 nearest neighbours; use more images"
    ):
        Manifold.of(line(1, 2, 3, 4, 5))


@pytest.mark.usefixtures("_chunks")
def test_equal_sets_overlap_wholly() -> None:
    # Each ball reaches the neighbours: 8 points are in 3 balls, the two at the ends in 2.
    ten = Manifold.of(TEN, k=1)
    shared = overlap(ten, ten, k=1)
    assert (shared.precision, shared.recall, shared.coverage) == (1, 1, 1)
    assert shared.density == pytest.approx(2.8)


def test_disjoint_sets_do_not_overlap() -> None:
    shared = overlap(Manifold.of(TEN + 100, k=1), Manifold.of(TEN, k=1), k=1)
    assert (shared.precision, shared.recall, shared.density, shared.coverage) == (0, 0, 0, 0)


@pytest.mark.usefixtures("_chunks")
def test_a_collapsed_generator_has_precision_and_density_without_recall_or_coverage() -> None:
    shared = overlap(Manifold.of(line(*[4.0] * 12), k=1), Manifold.of(TEN, k=1), k=1)
    assert (shared.precision, shared.recall) == (1, 0.1)  # it draws one real point of ten
    assert shared.density == 3
    assert shared.coverage == pytest.approx(0.3)


def test_the_overlap_tells_samples_from_real_images() -> None:
    wide, narrow = Manifold.of(TEN, k=1), Manifold.of(TEN[:3], k=1)
    half = overlap(narrow, wide, k=1)  # samples of a part of what is real
    assert (half.precision, half.recall, half.coverage) == (1, 0.4, 0.4)
    other = overlap(wide, narrow, k=1)  # samples of more than what is real
    assert (other.precision, other.recall, other.coverage) == (0.4, 1, 1)


@pytest.mark.usefixtures("_chunks")
def test_the_spread_of_a_class_is_the_mean_distance_of_its_pairs() -> None:
    features = line(0, 1, 3, 10, 10, 5)
    classes = torch.tensor([0, 0, 0, 1, 1, 2])
    spreads = spread_by_class(features, classes, 4)
    assert spreads.tolist() == pytest.approx([2, 0, 0, 0])  # (1 + 2 + 3) / 3


def test_shares_and_their_divergence_from_uniform() -> None:
    shares = class_shares(torch.tensor([0, 0, 1, 3]), 4)
    assert shares.tolist() == [0.5, 0.25, 0, 0.25]
    assert kl_to_uniform(shares) == pytest.approx(0.5 * math.log(2))
    assert kl_to_uniform(torch.full((4,), 0.25).double()) == 0
    assert kl_to_uniform(class_shares(torch.tensor([2, 2]), 10)) == pytest.approx(math.log(10))


def test_histograms_count_levels_and_their_distance_goes_from_0_to_2() -> None:
    black, white = (torch.full((2, 1, 4, 4), level, dtype=torch.uint8) for level in (0, 255))
    half = torch.cat([black, white])
    assert histogram(half)[[0, 1, 255]].tolist() == [0.5, 0, 0.5]
    assert histogram_distance(histogram(black), histogram(black)) == 0
    assert histogram_distance(histogram(black), histogram(half)) == 1
    assert histogram_distance(histogram(black), histogram(white)) == 2


def test_images_are_equal_where_their_bytes_are() -> None:
    images = torch.arange(3 * 16).view(3, 1, 4, 4).to(torch.uint8)
    images[2] = images[0]
    first, second, third = image_bytes(images)
    assert first == third != second
    assert len(first) == 16
