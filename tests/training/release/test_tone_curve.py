"""A tone curve gives samples the pixel histogram of real images, and stays a curve of pixels."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from training.data.dataset import Dataset
from training.evaluation.evaluate import as_served, draw
from training.evaluation.measures import histogram, histogram_distance
from training.networks.configs import Curve, GanConfig, VaeConfig
from training.networks.gan import Generator
from training.networks.tone import apply_curve
from training.networks.vae import VAE
from training.release import tone_curve
from training.release.tone_curve import KEPT, Values, fit_curve, with_tone_curve

CURVE: Curve = ((0.03, 0.0), (0.1, 0.12), (0.93, 0.92), (0.96, 0.985), (1.04, 0.994), (1.05, 1.0))
NETWORKS: dict[str, Callable[[], Generator | VAE]] = {
    "gan": lambda: Generator(GanConfig("dense", 3, 0, 1, 8, (16,))),
    "cgan": lambda: Generator(GanConfig("dense", 3, 2, 1, 8, (16,))),
    "vae": lambda: VAE(VaeConfig("dense", 3, 1, 8, (16,))),
}


def shares_of(levels: torch.Tensor) -> Values:
    return histogram(levels.to(torch.uint8)).numpy()


def real_digits(count: int = 4000) -> Dataset:
    """Made-up images with MNIST's kind of histogram: much black, ink that ends at 252 to 254."""
    random = torch.Generator().manual_seed(5)
    levels = torch.rand(count, 1, 8, 8, generator=random) * 255
    black = torch.rand(levels.shape, generator=random) < 0.6
    ink = torch.rand(levels.shape, generator=random) < 0.2
    levels[ink] = torch.randint(252, 255, (int(ink.sum()),), generator=random).float()
    levels[black] = 0
    labels = torch.arange(count) % 2
    return Dataset("made-up", "none", levels.round().to(torch.uint8), labels, ("a", "b"))


@pytest.fixture(autouse=True)
def _enough_samples(monkeypatch: pytest.MonkeyPatch, _few_samples: None) -> None:
    monkeypatch.setattr(tone_curve, "SAMPLES", 4000)


def make(kind: str) -> Generator | VAE:
    torch.manual_seed(0)
    network = NETWORKS[kind]()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network.eval().requires_grad_(False)


def test_a_curve_is_a_straight_line_from_knot_to_knot_and_constant_beyond() -> None:
    values = torch.linspace(-1, 2, 3001)
    x, y = zip(*CURVE, strict=True)
    expected = np.interp(values.double().numpy(), x, y)
    np.testing.assert_allclose(apply_curve(values, CURVE).numpy(), expected, atol=1e-6)
    two: Curve = ((0.25, 0.0), (0.75, 1.0))
    assert apply_curve(torch.tensor([0.0, 0.5, 1.0]), two).tolist() == [0.0, 0.5, 1.0]
    assert apply_curve(torch.tensor([0.0, 0.375, 0.8]), two).tolist() == [0.0, 0.25, 1.0]


def test_without_a_curve_values_are_clamped() -> None:
    assert apply_curve(torch.tensor([-0.05, 0.3, 1.05]), ()).tolist() == pytest.approx([0, 0.3, 1])


def test_a_whole_curve_gives_samples_the_histogram_of_real_images() -> None:
    random = np.random.default_rng(3)
    values = np.sort(np.concatenate([random.normal(0.1, 0.06, 6000), random.random(4000)]))
    shares = shares_of(real_digits().images)
    curve = fit_curve(values, shares, whole=True)
    levels = as_served(apply_curve(torch.from_numpy(values), curve))
    before = histogram_distance(
        histogram(as_served(torch.from_numpy(values).clamp(0, 1))), torch.from_numpy(shares)
    )
    after = histogram_distance(histogram(levels), torch.from_numpy(shares))
    assert before > 1
    assert after < 0.2  # seven knots for a histogram that the values have nothing to do with
    assert 2 <= len(curve) <= 7
    assert float((levels == 0).double().mean()) == pytest.approx(shares[0], abs=0.01)


def test_a_curve_for_the_ends_leaves_what_is_between_them_as_it_is() -> None:
    values = np.sort(np.random.default_rng(3).normal(0.5, 0.33, 20_000))
    shares = shares_of(real_digits().images)
    curve = fit_curve(values, shares, whole=False)
    levels = torch.arange(KEPT[0] + 1, KEPT[1])
    assert torch.equal(as_served(apply_curve(levels / 255, curve)).long(), levels)
    served = histogram(as_served(apply_curve(torch.from_numpy(values), curve)))
    assert served[252:].numpy() == pytest.approx(shares[252:], abs=0.01)
    assert served[0] < 0.1 < shares[0]  # so much black would take levels between the ends


def test_where_no_curve_helps_there_is_none() -> None:
    even = np.linspace(-0.5, 255.5, 100_001)[1:-1] / 255  # every level as often
    assert fit_curve(even, np.full(256, 1 / 256), whole=True) == ()
    constant = np.full(1000, 0.5)
    assert fit_curve(constant, shares_of(real_digits().images), whole=True) == ()
    assert fit_curve(np.full(1000, 1.05), np.eye(256)[255], whole=False) == ()


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_toned_network_has_the_same_weights_and_a_nearer_histogram(kind: str) -> None:
    network, real = make(kind), real_digits()
    found = with_tone_curve(network, real)
    assert type(found) is type(network)
    assert len(found.config.tone) >= 2
    assert dataclasses.replace(found.config, tone=()) == network.config
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, found.state_dict()[name]), name
    wanted = histogram(real.images)
    before, after = (histogram(draw(one, 2000, 2024)[0]) for one in (network, found))
    assert histogram_distance(after, wanted) < histogram_distance(before, wanted) - 0.08
    again = with_tone_curve(network, real)
    assert again.config == found.config


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (((0.0, 0.0),), "has 1 knots; allowed: 2 to 16"),
        (tuple((k / 20, k / 20) for k in range(17)), "has 17 knots"),
        (((0.0, 0.0), (2.5, 1.0)), "not within -1 to 2"),
        (((0.0, 0.0), (1.0, 1.5)), "not within"),
        (((0.0, 0.0), (float("nan"), 1.0)), "not within"),
        (((0.0, 0.0), (0.5, float("nan"))), "not within"),
        (((0.5, 0.0), (0.5, 1.0)), "slope from 0.5 to 0.5"),
        (((0.5, 0.0), (0.2, 1.0)), "slope from 0.5 to 0.2"),
        (((0.0, 0.5), (1.0, 0.5)), "slope from 0.0 to 1.0"),
        (((0.0, 0.0), (0.0001, 1.0)), "slope from 0.0 to 0.0001"),
    ],
)
def test_what_is_no_increasing_curve_is_refused(curve: Curve, message: str) -> None:
    for config in (GanConfig, VaeConfig):
        with pytest.raises(ValueError, match=message):
            config(tone=curve)
