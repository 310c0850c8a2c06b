"""The flow: invertible, its density that of a change of variables, the identity before fitting."""

import math

import pytest
import torch
from torch import Tensor, nn

from training.networks.configs import PRIOR_MIXINGS, VaeConfig
from training.networks.prior import FlowPrior
from training.networks.vae import VAE


def make(size: int, layers: int, mixing: str = "reverse") -> FlowPrior:
    """A flow in float64 that bends: its weights are not at their start."""
    torch.manual_seed(0)
    prior = FlowPrior(size, layers, 5, mixing).double().requires_grad_(False)
    for parameter in prior.couplings.parameters():
        nn.init.normal_(parameter, std=0.4)
    for matrix in prior.mixings.parameters():
        matrix.add_(torch.randn_like(matrix), alpha=0.1)
    return prior


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def normal_log_density(x: Tensor) -> Tensor:
    return -0.5 * (x.square().sum(dim=1) + x.shape[1] * math.log(2 * math.pi))


@pytest.mark.parametrize("size", [2, 3, 8])
def test_no_layers_is_the_standard_normal_itself(size: int) -> None:
    prior, z = FlowPrior(size, 0, 5), randn(4, size)
    assert torch.equal(prior(z), z)
    torch.testing.assert_close(prior.log_prob(z), normal_log_density(z))
    assert not prior.state_dict()


@pytest.mark.parametrize("mixing", PRIOR_MIXINGS)
@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_unfitted_layers_only_reorder(size: int, layers: int, mixing: str) -> None:
    prior, z = FlowPrior(size, layers, 5, mixing).double().requires_grad_(False), randn(4, size)
    assert torch.equal(prior(z).sort(dim=1).values, z.sort(dim=1).values)
    torch.testing.assert_close(prior.log_prob(z), normal_log_density(z))


@pytest.mark.parametrize("mixing", PRIOR_MIXINGS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_the_density_is_that_of_the_change_of_variables(
    size: int, layers: int, mixing: str
) -> None:
    """log p(z) = log N(noise) - log |det dz/dnoise|: also shows that log_prob inverts forward."""
    prior, noise = make(size, layers, mixing), randn(6, size)
    z = prior(noise)
    assert not torch.allclose(z.sort(dim=1).values, noise.sort(dim=1).values, atol=0.1)

    def one(row: Tensor) -> Tensor:
        moved: Tensor = prior(row[None])[0]
        return moved

    for index, row in enumerate(noise):
        jacobian = torch.autograd.functional.jacobian(one, row)
        expected = normal_log_density(row[None]) - torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(prior.log_prob(z[index : index + 1]), expected)


def test_the_density_integrates_to_1() -> None:
    prior = make(2, 3)
    side = torch.linspace(-12, 12, 400, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    cell = float(side[1] - side[0]) ** 2
    assert float(prior.log_prob(grid).exp().sum()) * cell == pytest.approx(1, abs=5e-3)


def test_two_layers_move_every_coordinate() -> None:
    prior, noise = make(3, 2), torch.zeros(1, 3, dtype=torch.float64)
    assert (prior(noise).abs() > 1e-3).all()


def test_one_layer_stretches_by_e_squared_at_most() -> None:
    prior = make(4, 1)
    for parameter in prior.parameters():
        parameter.mul_(1e3)
    coupling = next(iter(prior.couplings))
    scale = getattr(coupling, "scale_and_shift")(randn(50, 2))[0]  # noqa: B009
    assert scale.abs().max() <= 2
    assert prior(randn(50, 4)).isfinite().all()


@pytest.mark.parametrize("mixing", PRIOR_MIXINGS)
def test_a_row_does_not_depend_on_its_neighbours(mixing: str) -> None:
    prior, noise = make(4, 3, mixing), randn(6, 4)
    torch.testing.assert_close(prior(noise)[2:3], prior(noise[2:3]))
    torch.testing.assert_close(prior.log_prob(noise)[2:3], prior.log_prob(noise[2:3]))


def test_generate_draws_from_the_prior_and_decode_does_not() -> None:
    torch.manual_seed(0)
    config = VaeConfig("dense", 4, image_size=8, channels=(4,), prior_layers=2, prior_hidden=5)
    vae = VAE(config).eval().requires_grad_(False)
    for parameter in vae.prior.parameters():
        nn.init.normal_(parameter, std=0.5)
    z = randn(3, 4).float()
    assert torch.equal(vae.generate(z), vae.decode(vae.prior(z)))
    assert not torch.allclose(vae.generate(z), vae.decode(z), atol=1e-3)
    images = torch.rand(3, 1, 8, 8)
    mu = vae.encode(images)[0]
    assert torch.equal(vae(images, torch.zeros(3, 4))[0].sigmoid(), vae.decode(mu))


def test_a_prior_of_one_dimension_is_refused() -> None:
    """A coupling would have nothing to look at."""
    with pytest.raises(ValueError, match="latent_dim of at least 2"):
        VaeConfig("dense", latent_dim=1, channels=(4,), prior_layers=1)
    VAE(VaeConfig("dense", latent_dim=1, channels=(4,)))


def test_an_unknown_mixing_is_refused_with_the_value() -> None:
    with pytest.raises(ValueError, match="unknown prior_mixing 'lu'; available: reverse, linear"):
        VaeConfig(prior_mixing="lu")


@pytest.mark.parametrize("layers", [-1, 65])
def test_a_number_of_layers_out_of_range_is_refused_with_the_value(layers: int) -> None:
    with pytest.raises(ValueError, match=f"prior_layers is {layers}; allowed: 0 to 64"):
        VaeConfig("dense", channels=(4,), prior_layers=layers)
