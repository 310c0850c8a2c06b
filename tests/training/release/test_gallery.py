"""The pictures of a card show what their captions say."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.data.dataset import UNKNOWN_LICENCE, Dataset, to_pixels
from training.evaluation.judge_networks import PublishingJudge
from training.evaluation.reference import Reference
from training.loops import gan as train_gan
from training.networks.configs import GanConfig, VaeConfig
from training.networks.gan import Generator
from training.networks.vae import VAE
from training.release import gallery

SIDE, PADDING = 8, 2


@pytest.fixture
def reference(digits: Dataset, tmp_path: Path) -> Reference:
    torch.manual_seed(0)
    judge = PublishingJudge((1, SIDE, SIDE), 10).eval().requires_grad_(False)
    return Reference(judge, digits, digits, 20, tmp_path)


def generator(num_classes: int) -> Generator:
    torch.manual_seed(0)
    config = GanConfig("dense", 4, num_classes, image_size=SIDE, channels=(8,))
    return Generator(config).eval().requires_grad_(False)


def tiles(path: Path) -> torch.Tensor:
    """The images of a grid, uint8 (rows, columns, H, W)."""
    with Image.open(path) as picture:
        levels = torch.from_numpy(np.array(picture.convert("L")))
    step = SIDE + PADDING
    return levels[PADDING:, PADDING:].unfold(0, SIDE, step).unfold(1, SIDE, step)


@pytest.mark.parametrize("num_classes", [0, 10])
def test_below_each_sample_stands_its_nearest_training_image(
    reference: Reference, num_classes: int, tmp_path: Path
) -> None:
    written = gallery.save_gallery(
        tmp_path / "x.safetensors", generator(num_classes), reference, 30
    )
    assert [file for file, _ in written] == ["x.png", "x-morph.png", "x-nearest.png"]
    shown = tiles(tmp_path / "x-nearest.png")
    assert shown.shape == (1 + gallery.NEAREST, 10, SIDE, SIDE)
    train = to_pixels(reference.train.images).flatten(1)
    for column in range(10):
        sample, *near = (to_pixels(image).flatten()[None] for image in shown[:, column])
        distances = torch.cdist(sample, train)[0].sort().values
        for rank, image in enumerate(near):
            assert float(torch.cdist(sample, image)) == pytest.approx(
                float(distances[rank]), abs=0.03
            )


def test_a_row_passes_from_one_draw_to_another_and_keeps_its_label(
    reference: Reference, tmp_path: Path
) -> None:
    network = generator(10)
    gallery.save_gallery(tmp_path / "x.safetensors", network, reference, 30)
    shown = tiles(tmp_path / "x-morph.png")
    noise = torch.Generator().manual_seed(gallery.PICTURE_SEED)
    ends = torch.randn(2, 10, 4, generator=noise)
    for column, z in ((0, ends[0]), (9, ends[1])):
        wanted = network.generate(z, torch.arange(10))[:, 0] * 255
        assert (shown[:, column] - wanted).abs().max() < 1.1


def test_of_many_classes_the_pictures_show_a_spread_and_name_it(
    reference: Reference, tmp_path: Path
) -> None:
    names = tuple(f"class {k}" for k in range(47))
    reference.train = dataclasses.replace(reference.train, class_names=names)
    network = generator(47)
    written = dict(gallery.save_gallery(tmp_path / "x.safetensors", network, reference, 94))
    shown = [0, 4, 9, 14, 18, 23, 28, 32, 37, 42]
    named = f" Of the 47 classes: {', '.join(names[k] for k in shown)}."
    assert all(caption.endswith(named) for caption in written.values())
    z = torch.randn(8, 4, generator=torch.Generator().manual_seed(gallery.PICTURE_SEED))
    for column, label in enumerate(shown):
        wanted = network.generate(z, torch.full((8,), label))[:, 0] * 255
        assert (tiles(tmp_path / "x.png")[:, column] - wanted).abs().max() < 1.1


def test_few_classes_go_round() -> None:
    assert train_gan.shown_classes(3, 10) == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert train_gan.shown_classes(10, 10) == list(range(10))
    assert train_gan.shown_classes(11, 10) == list(range(10))
    assert train_gan.shown_classes(20, 10) == list(range(0, 20, 2))


def test_images_without_a_known_licence_are_not_shown(reference: Reference, tmp_path: Path) -> None:
    reference.train = dataclasses.replace(reference.train, licence=UNKNOWN_LICENCE)
    written = gallery.save_gallery(tmp_path / "x.safetensors", generator(0), reference, 30)
    assert "x-nearest.png" not in [file for file, _ in written]
    assert not (tmp_path / "x-nearest.png").exists()


def test_a_vae_has_a_map_where_there_are_images_enough(
    reference: Reference, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    vae = VAE(VaeConfig("dense", latent_dim=2, image_size=SIDE, channels=(4,)))
    vae.eval().requires_grad_(False)
    names = [
        file for file, _ in gallery.save_gallery(tmp_path / "v.safetensors", vae, reference, 30)
    ]
    assert "v-map.png" not in names  # 40 images
    test = reference.test
    reference.test = dataclasses.replace(
        test, images=test.images.repeat(2, 1, 1, 1), labels=test.labels.repeat(2)
    )
    names = [
        file for file, _ in gallery.save_gallery(tmp_path / "w.safetensors", vae, reference, 30)
    ]
    assert "w-map.png" in names
    with Image.open(tmp_path / "w-map.png") as picture:
        assert picture.size == (600, 600)
