"""The tensors by name and shape, as torch's networks have them."""

import itertools

import pytest
import torch

from training.networks import build
from training.networks.configs import Config, GanConfig, VaeConfig
from training.networks.tensors import check_tensors, expected_tensors

TYPES = {torch.float32: "F32", torch.int64: "I64"}
GANS = [
    GanConfig(architecture, 8, classes, channels, 16, widths)
    for (architecture, widths), classes, channels in itertools.product(
        [
            ("compact", (5, 3)),
            ("compact", (5, 4, 3)),
            ("dcgan", (5, 3)),
            ("dcgan", (6, 5, 4, 3)),
            ("dense", (7,)),
            ("dense", (7, 6, 5)),
        ],
        (0, 10),
        (1, 3),
    )
]
VAES = [
    VaeConfig("conv", 7, channels, 16, (3, 5), blocks, 11, layers, 9, mixing)
    for channels, blocks, layers, mixing in itertools.product(
        (1, 3), ((0, 0), (1, 2), (2, 0)), (0, 3), ("reverse", "linear")
    )
] + [
    VaeConfig("dense", 7, 3, 16, (13, 9), prior_layers=2),
    VaeConfig("conv", 7, 3, 32, (3, 4, 5), (1, 0, 2), 11),
    VaeConfig("compact", 7, 3, 32, (3, 4, 5), (1, 0, 2), 11),
]
MODES = GanConfig(latent_dim=8, modes=3, mode_offsets=(0.1, 0.2, 0.3))


def kind_of(config: Config) -> str:
    if isinstance(config, VaeConfig):
        return "vae"
    return "cgan" if config.num_classes else "gan"


@pytest.mark.parametrize("config", [*GANS, *VAES, MODES, GanConfig(), VaeConfig()], ids=str)
def test_the_tensors_are_those_of_torchs_network(config: Config) -> None:
    with torch.device("meta"):
        state = build(kind_of(config), config).state_dict()
    actual = {name: (TYPES[t.dtype], tuple(t.shape)) for name, t in state.items()}
    assert expected_tensors(config) == actual


def test_tensors_that_are_not_the_networks_are_refused() -> None:
    config = GanConfig(latent_dim=4, channels=(4, 4))
    header = {
        name: {"dtype": dtype, "shape": list(shape), "data_offsets": [0, 0]}
        for name, (dtype, shape) in expected_tensors(config).items()
    }
    check_tensors({"__metadata__": {}, **header}, config)
    one = "trunk.0.weight"
    for changed, says in (
        ({name: entry for name, entry in header.items() if name != one}, "is missing (1 in all)"),
        ({**header, "extra": header[one]}, "extra does not fit"),
        ({**header, one: {**header[one], "shape": [4, 196]}}, "expected ('F32', (196, 4))"),
        ({**header, one: {**header[one], "dtype": "F16"}}, "is ('F16'"),
    ):
        with pytest.raises(ValueError, match="tensor ") as caught:
            check_tensors(changed, config)
        assert says in str(caught.value)
