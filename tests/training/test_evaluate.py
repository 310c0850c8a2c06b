"""Fréchet distances against closed forms; draws that depend on their seed alone; figures."""

import math

import pytest
import torch
from torch import Tensor

from training import evaluate as evaluate_module
from training.data import Dataset, to_pixels
from training.evaluate import SEED, draw, evaluate, frechet_distance
from training.judge import Judge
from training.losses import kl_to_standard_normal
from training.networks.configs import GanConfig, VaeConfig
from training.networks.gan import Generator
from training.networks.vae import VAE


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


def make_cgan() -> Generator:
    torch.manual_seed(0)
    config = GanConfig("dense", latent_dim=2, num_classes=10, image_size=8, channels=(4,))
    return Generator(config).eval().requires_grad_(False)


def test_draws_depend_on_their_seed_alone() -> None:
    network = make_cgan()
    torch.manual_seed(1)
    images, labels = draw(network, 25, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again, labels_again = draw(network, 25, seed=5)
    assert torch.equal(state, torch.get_rng_state())  # nor do they disturb anyone
    assert torch.equal(images, again)
    assert labels is not None
    assert labels_again is not None
    assert torch.equal(labels, labels_again)
    assert not torch.equal(images, draw(network, 25, seed=6)[0])


def test_draws_are_in_8_bits_and_labels_go_round() -> None:
    images, labels = draw(make_cgan(), 25, seed=5)
    levels = images * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert images.shape == (25, 1, 8, 8)
    assert labels is not None
    assert labels.tolist() == [i % 10 for i in range(25)]


def test_unconditional_draws_have_no_labels() -> None:
    vae = VAE(VaeConfig("dense", latent_dim=2, image_size=8, channels=(4,))).eval()
    images, labels = draw(vae.requires_grad_(False), 3, seed=0)
    assert images.shape == (3, 1, 8, 8)
    assert labels is None


@pytest.mark.parametrize("count", [1, 4, 9])
def test_draws_are_as_many_as_asked_for_and_keep_their_labels_over_batches(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(evaluate_module, "BATCH", 4)
    images, labels = draw(Painter(), count, seed=0)
    assert labels is not None
    assert len(images) == len(labels) == count
    assert Oracle()(images)[0].argmax(1).tolist() == labels.tolist()


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
    """Reads Painter's classes without fail. Features: the mean, and noise of the same seed."""

    def __init__(self) -> None:
        super().__init__((1, 8, 8), 10)

    def features(self, images: Tensor) -> Tensor:
        random = torch.Generator().manual_seed(0)
        return torch.cat(
            [images.mean(dim=(1, 2, 3))[:, None], torch.randn(len(images), 2, generator=random)], 1
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        classes = (images.mean(dim=(1, 2, 3)) * 255 / 20).round().long().clamp(0, 9)
        return torch.nn.functional.one_hot(classes, 10).float(), images


@pytest.fixture
def painted() -> Dataset:
    """What Painter paints without mistakes."""
    labels = torch.arange(40) % 10
    images = (labels * 20).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    return Dataset("painted", "none", images, labels, tuple("0123456789"))


def test_a_perfect_conditional_network_scores_1_in_every_label(painted: Dataset) -> None:
    figures = evaluate(Painter(), Oracle(), painted, painted, count=40)
    assert figures["judge_accuracy"] == 1
    assert figures["conditional_accuracy"] == 1
    assert figures["conditional_accuracy_worst"] == 1
    assert figures["frechet_test"] == pytest.approx(0, abs=1e-6)
    assert figures["frechet_train"] == pytest.approx(0, abs=1e-6)
    assert (figures["samples"], figures["seed"]) == (40, SEED)
    assert "class_kl_to_uniform" not in figures


def test_a_label_drawn_as_another_is_found_and_named(painted: Dataset) -> None:
    figures = evaluate(Painter({3: 8}), Oracle(), painted, painted, count=40)
    assert figures["conditional_accuracy"] == 0.9
    assert figures["conditional_accuracy_worst"] == 0
    assert figures["conditional_accuracy_worst_label"] == 3
    assert figures["frechet_test"] > 1e-4


def test_an_unconditional_network_that_draws_one_class_scores_log_10(painted: Dataset) -> None:
    figures = evaluate(Painter(num_classes=0), Oracle(), painted, painted, count=40)
    assert figures["class_kl_to_uniform"] == pytest.approx(math.log(10), abs=1e-3)
    assert "conditional_accuracy" not in figures


def test_a_judge_that_errs_on_real_images_is_said_to(painted: Dataset) -> None:
    painted.labels[:10] = 0  # nine of forty are now wrong
    assert evaluate(Painter(), Oracle(), painted, painted, count=40)["judge_accuracy"] == 31 / 40


def test_the_floor_is_what_as_many_real_images_score(painted: Dataset) -> None:
    figures = evaluate(Painter({3: 8}), Oracle(), painted, painted, count=20)
    for name in ("test", "train"):
        floor = figures[f"frechet_{name}_floor"]
        assert floor > 0
        assert figures[f"frechet_{name}_ratio"] == pytest.approx(
            figures[f"frechet_{name}"] / floor, rel=1e-2
        )


def make_vae(prior_layers: int = 0) -> VAE:
    """Encoder and decoder are the same for any number of layers; the prior is far from N(0, I)."""
    torch.manual_seed(0)
    vae = VAE(VaeConfig("dense", 2, image_size=8, channels=(4,), prior_layers=prior_layers))
    for parameter in vae.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return vae.eval().requires_grad_(False)


def test_a_vae_gets_figures_of_its_reconstructions(painted: Dataset) -> None:
    figures = evaluate(make_vae(), Oracle(), painted, painted, count=20)
    total = figures["reconstruction_nats"] + figures["kl_nats"]
    assert figures["negative_elbo_nats"] == pytest.approx(total, rel=2e-3)
    back = make_vae().decode(make_vae().encode(to_pixels(painted.images))[0])
    mse = (back - to_pixels(painted.images)).square().mean().item()
    assert figures["reconstruction_mse"] == pytest.approx(mse, rel=1e-3)
    # Untrained, it gives back one grey: right for the few whose class that grey is.
    assert 0 <= figures["reconstruction_accuracy"] <= 0.2
    assert "class_kl_to_uniform" in figures


def test_without_a_learned_prior_the_kl_is_near_its_closed_form(painted: Dataset) -> None:
    many = Dataset(
        painted.name,
        painted.licence,
        painted.images.repeat(50, 1, 1, 1),
        painted.labels.repeat(50),
        painted.class_names,
    )
    vae = make_vae()
    mu, logvar = vae.encode(to_pixels(painted.images))
    expected = kl_to_standard_normal(mu, logvar).mean().item()
    figures = evaluate(vae, Oracle(), many, many, count=20)
    # 2,000 draws of a figure that varies by about 1 nat.
    assert figures["kl_nats"] == pytest.approx(expected, abs=0.1)


def test_a_learned_prior_counts_in_the_kl_and_not_in_reconstructions(painted: Dataset) -> None:
    plain = evaluate(make_vae(), Oracle(), painted, painted, count=20)
    learned = evaluate(make_vae(prior_layers=3), Oracle(), painted, painted, count=20)
    assert learned["kl_nats"] > plain["kl_nats"] + 0.1  # it was fitted to nothing
    for name in ("reconstruction_nats", "reconstruction_mse", "reconstruction_accuracy"):
        assert learned[name] == plain[name]


def test_figures_are_the_same_each_time(painted: Dataset) -> None:
    vae = make_vae()
    torch.manual_seed(1)
    first = evaluate(vae, Oracle(), painted, painted, count=20)
    torch.manual_seed(2)
    assert evaluate(vae, Oracle(), painted, painted, count=20) == first
