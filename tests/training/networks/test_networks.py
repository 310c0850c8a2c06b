"""Shapes, ranges, labels and configs of every architecture."""

import dataclasses
import math
import re

import pytest
import torch
from torch import nn

from training.networks import build
from training.networks.configs import (
    CONFIGS,
    VAE_ARCHITECTURES,
    Config,
    GanConfig,
    VaeConfig,
)
from training.networks.configs import GAN_ARCHITECTURES as ARCHITECTURES
from training.networks.gan import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    append_label,
    select_mode,
    stretched_tanh,
)
from training.networks.vae import VAE

TINY_DISCRIMINATOR = DiscriminatorConfig(channels=(4, 4, 4))


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def make_generator(architecture: str, num_classes: int = 0, modes: int = 0) -> Generator:
    """A tiny one in eval mode, its weights wide enough that inputs show in the pixels."""
    torch.manual_seed(0)
    network = Generator(
        GanConfig(
            architecture,
            latent_dim=modes + 2 if modes else 3,
            num_classes=num_classes,
            channels=(4, 4),
            modes=modes,
        )
    )
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5)
    return network.eval().requires_grad_(False)


def make_vae(architecture: str) -> VAE:
    torch.manual_seed(0)
    config = VaeConfig(architecture, latent_dim=3, channels=(4, 4), hidden=8)
    return VAE(config).eval().requires_grad_(False)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (1, 8)])
@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_generators_make_pixels_of_the_configured_shape(
    architecture: str, num_classes: int, channels: int, size: int
) -> None:
    config = GanConfig(architecture, 2, num_classes, channels, size, channels=(4, 4))
    network = Generator(config).eval()
    labels = torch.arange(5) if num_classes else None
    images = network.generate(randn(5, 2) * 100, labels)
    assert images.shape == (5, channels, size, size)
    assert network.image_shape == (channels, size, size)
    assert (network.latent_dim, network.num_classes) == (2, num_classes)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_z_changes_the_image(architecture: str) -> None:
    images = make_generator(architecture).generate(randn(2, 3))
    assert not torch.allclose(images[0], images[1], atol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_labels_change_the_image(architecture: str) -> None:
    network = make_generator(architecture, num_classes=10)
    images = network.generate(randn(1, 3).expand(10, 3), torch.arange(10))
    for a in range(10):
        for b in range(a):
            assert not torch.allclose(images[a], images[b], atol=1e-3), (a, b)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_missing_and_surplus_labels_are_refused(architecture: str) -> None:
    z, labels = randn(2, 3), torch.tensor([1, 2])
    with pytest.raises(ValueError, match="num_classes=10 was called without labels"):
        make_generator(architecture, num_classes=10).generate(z)
    with pytest.raises(ValueError, match="num_classes=0 was called with labels"):
        make_generator(architecture).generate(z, labels)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_eval_mode_an_image_does_not_depend_on_its_neighbours(architecture: str) -> None:
    network, z = make_generator(architecture), randn(6, 3)
    together = network.generate(z)
    alone = torch.cat([network.generate(row[None]) for row in z])
    # Kernels may add in another order for another batch size, no more than that.
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["dcgan", "compact"])
def test_in_training_batch_norm_mixes_the_batch(architecture: str) -> None:
    network, z = make_generator(architecture).train(), randn(6, 3)
    assert not torch.allclose(network(z)[:2], network(z[:2]), atol=1e-3)


def test_with_label_appends_a_one_hot_row() -> None:
    x = torch.tensor([[0.5, 0.25], [1.0, 2.0]])
    assert append_label(x, torch.tensor([2, 0]), 3).tolist() == [
        [0.5, 0.25, 0, 0, 1],
        [1, 2, 1, 0, 0],
    ]
    assert append_label(x, None, 0) is x


def test_the_largest_of_the_first_numbers_chooses_the_mode() -> None:
    z = torch.tensor([[0.1, 0.5, -2.0, 7.0, 8.0], [1.0, 0.9, 3.0, 7.0, 8.0]])
    expected = torch.tensor([[0.0, 1.0, 0.0, 7.0, 8.0], [0.0, 0.0, 1.0, 7.0, 8.0]])
    torch.testing.assert_close(select_mode(z, 3), expected)
    torch.testing.assert_close(select_mode(torch.tensor([[1.0, 1.0]]), 2), torch.full((1, 2), 0.5))
    assert select_mode(z, 0) is z


def test_offsets_move_the_choice_of_the_mode_and_nothing_else() -> None:
    even = make_generator("compact", modes=3)
    moved = Generator(dataclasses.replace(even.config, mode_offsets=(0.0, 1.0, 0.0))).eval()
    moved.load_state_dict(even.state_dict())
    z = torch.tensor([[1.5, 1.0, 0.0, 1.0, 1.0], [3.0, 1.0, 0.0, 1.0, 1.0]])
    assert even.chosen_modes(z).tolist() == [0, 0]
    assert moved.chosen_modes(z).tolist() == [1, 0]
    swapped = torch.tensor([[1.0, 1.5, 0.0, 1.0, 1.0], [3.0, 1.0, 0.0, 1.0, 1.0]])
    torch.testing.assert_close(moved.generate(z), even.generate(swapped))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_within_a_mode_the_other_numbers_decide(architecture: str) -> None:
    generator = make_generator(architecture, modes=3)
    z = torch.tensor(
        [[2.0, 0.0, 0.0, 1.0, 1.0], [3.0, 1.0, -1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 1.0, 1.0],
         [2.0, 0.0, 0.0, 1.0, -1.0]]
    )  # fmt: skip
    assert generator.chosen_modes(z).tolist() == [0, 0, 1, 0]
    one, same, other_mode, other_style = generator.generate(z)
    assert torch.equal(one, same)
    assert not torch.equal(one, other_mode)
    assert not torch.equal(one, other_style)


def test_a_generator_reaches_exactly_0_and_1_with_finite_logits() -> None:
    pixels = stretched_tanh(torch.tensor([-100.0, -2.0, 0.0, 2.0, 100.0])).clamp(0, 1)
    assert pixels.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    network = make_generator("dense")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(20)
    images = network.generate(randn(6, 3))
    assert images.min() == 0
    assert images.max() == 1
    assert network.before_curve(randn(6, 3)).min() < -0.04


def test_the_stretch_is_a_tanh_wider_by_a_tenth() -> None:
    logits = torch.linspace(-3, 3, 29)
    expected = [(1.1 * math.tanh(x) + 1) / 2 for x in logits.tolist()]
    assert stretched_tanh(logits).tolist() == pytest.approx(expected, abs=1e-6)


def make_discriminator(
    architecture: str, num_classes: int = 0, spectral_norm: bool = False
) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(
        GanConfig(architecture, num_classes=num_classes, channels=(4, 4)),
        dataclasses.replace(TINY_DISCRIMINATOR, spectral_norm=spectral_norm),
    ).eval()


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_discriminators_take_images_and_give_one_logit_each(
    architecture: str, num_classes: int, spectral_norm: bool
) -> None:
    network = make_discriminator(architecture, num_classes, spectral_norm)
    labels = torch.arange(5) if num_classes else None
    assert network(rand(5, 1, 28, 28), labels).shape == (5,)


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 12)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_discriminators_take_other_image_shapes(
    architecture: str, channels: int, size: int
) -> None:
    config = GanConfig(architecture, 2, 0, channels, size, (4, 4))
    network = Discriminator(config, TINY_DISCRIMINATOR)
    assert network(rand(2, channels, size, size)).shape == (2,)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_labels_change_the_verdict_on_one_image(architecture: str) -> None:
    network = make_discriminator(architecture, num_classes=10)
    # In a batch of equals, so that the spread across it is the same for all.
    logits = network(rand(1, 1, 28, 28).expand(10, -1, -1, -1), torch.arange(10))
    assert len({round(logit, 6) for logit in logits.tolist()}) == 10


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_discriminators_refuse_missing_and_surplus_labels(architecture: str) -> None:
    images = rand(2, 1, 28, 28)
    with pytest.raises(ValueError, match="10 classes"):
        make_discriminator(architecture, num_classes=10)(images)
    with pytest.raises(ValueError, match="0 classes"):
        make_discriminator(architecture)(images, torch.tensor([1, 2]))


def test_dropout_of_the_dense_discriminator_is_active_only_in_training() -> None:
    network, images = make_discriminator("dense"), rand(4, 1, 28, 28)
    assert torch.equal(network(images), network(images))
    network.train()
    assert not torch.equal(network(images), network(images))


@pytest.mark.parametrize("architecture", ["dcgan", "compact"])
def test_convolutional_discriminators_see_a_lack_of_variety(architecture: str) -> None:
    network, images = make_discriminator(architecture), rand(4, 1, 28, 28)
    among_others = network(images)[0]
    among_copies = network(images[:1].expand(4, -1, -1, -1))[0]
    assert abs(among_others - among_copies).item() > 1e-6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_spectral_norm_holds_every_weight_to_a_largest_singular_value_of_1(
    architecture: str,
) -> None:
    network = make_discriminator(architecture, num_classes=10, spectral_norm=True).train()
    for _ in range(60):  # each training pass is one step of the power iteration
        network(rand(2, 1, 28, 28), torch.tensor([0, 1]))
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(layers) == 5
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item()
        assert largest == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
@pytest.mark.parametrize("architecture", VAE_ARCHITECTURES)
def test_vaes_encode_and_decode_the_configured_shape(
    architecture: str, channels: int, size: int
) -> None:
    config = VaeConfig(architecture, 3, channels, size, channels=(4, 4), hidden=8)
    network = VAE(config).eval()
    images = rand(5, channels, size, size)
    mu, logvar = network.encode(images)
    assert mu.shape == logvar.shape == (5, 3)
    assert network.decode(mu).shape == images.shape
    logits, mu_again, logvar_again = network(images, torch.zeros(5, 3))
    assert logits.shape == images.shape
    assert torch.equal(mu, mu_again)
    assert torch.equal(logvar, logvar_again)
    assert (network.latent_dim, network.num_classes) == (3, 0)
    assert network.image_shape == (channels, size, size)


@pytest.mark.parametrize("architecture", VAE_ARCHITECTURES)
def test_a_vae_decodes_to_probabilities_and_forward_gives_their_logits(architecture: str) -> None:
    network, images = make_vae(architecture), rand(4, 1, 28, 28)
    pixels = network.decode(randn(4, 3) * 10)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    mu, logvar = network.encode(images)
    noise = randn(4, 3)
    logits = network(images, noise)[0]
    torch.testing.assert_close(
        torch.sigmoid(logits), network.decode(mu + noise * (logvar / 2).exp())
    )


@pytest.mark.parametrize("architecture", VAE_ARCHITECTURES)
def test_several_draws_of_an_image_are_as_if_it_came_several_times(architecture: str) -> None:
    network, images, noise = make_vae(architecture), rand(2, 1, 28, 28), randn(6, 3)
    first = network.decoder.trunk[0]
    assert isinstance(first, torch.nn.Linear)
    to_encoder = randn(2, network.encoder.head.in_features)
    to_decoder = randn(2, first.out_features)
    thrice = (rows.repeat_interleave(3, dim=0) for rows in (images, to_encoder, to_decoder))
    again, *conditions = thrice
    together = network(images, noise, (to_encoder, to_decoder))
    for found, expected in zip(together, network(again, noise, tuple(conditions)), strict=True):
        assert len(found) == 6
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", VAE_ARCHITECTURES)
def test_a_vae_tells_images_and_latents_apart(architecture: str) -> None:
    network = make_vae(architecture)
    mu, logvar = network.encode(rand(2, 1, 28, 28))
    assert not torch.allclose(mu[0], mu[1], atol=1e-4)
    assert not torch.allclose(logvar[0], logvar[1], atol=1e-4)
    one, other = network.generate(randn(2, 3) * 3)
    assert not torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("architecture", VAE_ARCHITECTURES)
def test_posterior_variances_stay_finite_for_any_weights(architecture: str) -> None:
    network = make_vae(architecture)
    network.encoder.head.weight.mul_(1e6)
    logvar = network.encode(rand(8, 1, 28, 28))[1]
    assert logvar.abs().max().item() == 10


@pytest.mark.parametrize("architecture", VAE_ARCHITECTURES)
def test_a_row_of_a_vae_does_not_depend_on_its_neighbours(architecture: str) -> None:
    network, images = make_vae(architecture), rand(6, 1, 28, 28)
    together = network.encode(images)[0]
    alone = torch.cat([network.encode(image[None])[0] for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    pixels = torch.cat([network.decode(row[None]) for row in together])
    torch.testing.assert_close(network.decode(together), pixels, rtol=0, atol=1e-5)


def test_a_vae_refuses_labels() -> None:
    with pytest.raises(ValueError, match="takes no labels"):
        make_vae("dense").generate(randn(1, 3), torch.tensor([1]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"architecture": "u-net"},
            "unknown architecture 'u-net'; available: dense, dcgan, compact",
        ),
        ({"image_size": 30}, "image_size 30 is not a multiple of 4"),
        ({"architecture": "dcgan", "image_size": 27}, "image_size 27"),
        ({"channels": (1, 2, 3)}, "image_size 28 is not a multiple of 8, which the 3 widths"),
        ({"architecture": "dcgan", "channels": (4,)}, "dcgan takes 2 to 6 widths, got (4,)"),
        ({"channels": (4,) * 7, "image_size": 256}, "compact takes 2 to 6 widths, got (4, 4,"),
        ({"modes": 65}, "modes is 65; allowed: 0, or 2 to the 64 numbers of z"),
        ({"modes": 1}, "modes is 1; allowed: 0, or 2 to the 64 numbers of z"),
        (
            {"modes": 10, "num_classes": 10},
            "a conditional generator (num_classes > 0) has no modes",
        ),
    ],
)
def test_bad_gan_configs_are_refused_with_the_value(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        GanConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "flow"}, "unknown architecture 'flow'; available: dense, conv"),
        ({"image_size": 30}, "image_size 30 is not a multiple of 4"),
        ({"channels": (1, 2, 3)}, "image_size 28 is not a multiple of 8"),
        ({"blocks": (1,)}, "conv with 2 widths takes 2 numbers of blocks, each 0 to 16, got (1,)"),
        ({"blocks": (1, 17)}, "2 numbers of blocks, each 0 to 16, got (1, 17)"),
        (
            {"image_size": 64, "channels": (4, 5, 6)},
            "conv with 3 widths takes 3 numbers of blocks, each 0 to 16, got (1, 1)",
        ),
    ],
)
def test_bad_vae_configs_are_refused_with_the_value(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        VaeConfig(**settings)  # type: ignore[arg-type]


def test_a_vaes_blocks_are_at_half_and_quarter_size() -> None:
    for at_half, at_quarter in ((0, 0), (2, 1), (1, 3)):
        vae = VAE(VaeConfig(latent_dim=2, channels=(4, 6), hidden=8, blocks=(at_half, at_quarter)))
        for network in (vae.encoder, vae.decoder):
            names = network.state_dict().items()
            widths = [len(weight) for name, weight in names if name.endswith(".conv1.weight")]
            assert (widths.count(4), widths.count(6)) == (at_half, at_quarter)
        assert vae.generate(randn(1, 2)).shape == (1, 1, 28, 28)


@pytest.mark.parametrize("widths", [(7, 5), (7, 5, 4), (9, 7, 5, 4)])
@pytest.mark.parametrize("architecture", ["compact", "dcgan"])
def test_each_further_width_doubles_the_maps_once_more(
    architecture: str, widths: tuple[int, ...]
) -> None:
    config = GanConfig(architecture, 3, 2, 3, 32, widths)
    generator = Generator(config).eval()
    assert generator.trunk[1].unflattened_size == (widths[0], *[32 // 2 ** len(widths)] * 2)
    labels = torch.tensor([0, 1])
    images = generator(randn(2, 3), labels)
    assert images.shape == (2, 3, 32, 32)
    discriminator = Discriminator(config, DiscriminatorConfig(widths[::-1], residual=True))
    assert discriminator(images, labels).shape == (2,)
    sides = [layer.kernel_size for layer in discriminator.features if hasattr(layer, "stride")]
    assert sides == [(4, 4)] * (len(widths) - 1) + [(3, 3)]


def test_a_vae_of_three_widths_encodes_and_decodes() -> None:
    config = VaeConfig("conv", 3, 3, 32, (4, 5, 6), (1, 0, 2), hidden=8)
    vae = VAE(config).eval()
    images = rand(2, 3, 32, 32)
    mu, _ = vae.encode(images)
    assert vae.decode(mu).shape == images.shape


def test_dense_networks_take_any_size_and_number_of_widths() -> None:
    config = GanConfig("dense", latent_dim=2, image_size=7, channels=(4, 5, 6))
    assert Generator(config).generate(randn(1, 2)).shape == (1, 1, 7, 7)
    vae = VAE(VaeConfig("dense", latent_dim=2, image_size=7, channels=(4, 5, 6)))
    assert vae.generate(randn(1, 2)).shape == (1, 1, 7, 7)


@pytest.mark.parametrize("kind", CONFIGS)
def test_build_makes_the_network_of_the_kind(kind: str) -> None:
    config = CONFIGS[kind](latent_dim=2, channels=(4, 4))
    network = build(kind, config)
    assert isinstance(network, VAE if kind == "vae" else Generator)
    assert network.config == config


def test_build_refuses_unknown_kinds_and_configs_of_another_kind() -> None:
    with pytest.raises(ValueError, match="unknown kind 'flow'; available: gan, cgan, vae"):
        build("flow", GanConfig())
    wrong: list[tuple[str, Config, str]] = [
        ("vae", GanConfig(), "kind 'vae' needs a VaeConfig, got GanConfig"),
        ("gan", VaeConfig(), "kind 'gan' needs a GanConfig, got VaeConfig"),
    ]
    for kind, config, message in wrong:
        with pytest.raises(ValueError, match=message):
            build(kind, config)


def test_same_seed_same_weights() -> None:
    one, other = make_generator("compact").state_dict(), make_generator("compact").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
