"""A set of images in memory: its digest, its held-out part, the order of an epoch."""

import hashlib
import importlib
from types import ModuleType

import pytest
import torch

from training.data.dataset import (
    Dataset,
    DataSpec,
    epoch_order,
    first_images,
    import_torchvision,
    to_pixels,
)
from training.data.splits import held_out


def test_torchvision_imports_here_with_what_training_uses() -> None:
    torchvision = import_torchvision()
    assert torchvision.datasets.MNIST
    assert torchvision.utils.save_image
    assert import_torchvision() is torchvision


def test_other_faults_of_torchvision_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ModuleType:
        raise RuntimeError("driver too old")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(RuntimeError, match="driver too old"):
        import_torchvision()


def test_the_digest_depends_on_every_image_and_label(digits: Dataset) -> None:
    digest = digits.digest()
    assert digest == digits.digest()
    assert len(digest) == 64
    digits.images[-1, 0, 0, 0] ^= 1
    other = digits.digest()
    digits.images[-1, 0, 0, 0] ^= 1
    digits.labels[0] = 9
    assert len({digest, other, digits.digest()}) == 3


def test_a_copy_on_a_device_is_the_same_data(digits: Dataset) -> None:
    moved = digits.to(torch.device("cpu"))
    assert moved.digest() == digits.digest()
    assert (moved.name, moved.class_names) == (digits.name, digits.class_names)


def test_pixels_reach_from_0_to_1() -> None:
    pixels = to_pixels(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert pixels.dtype == torch.float32
    assert pixels.tolist() == pytest.approx([0.0, 0.2, 1.0])
    assert pixels[0] == 0
    assert pixels[2] == 1


def test_an_epochs_order_is_a_permutation() -> None:
    assert epoch_order(1000, seed=3, epoch=2).sort().values.tolist() == list(range(1000))


def test_orders_are_the_same_for_the_same_seed_and_epoch_and_for_no_other() -> None:
    orders = {(s, e): tuple(epoch_order(50, s, e).tolist()) for s in range(5) for e in range(5)}
    assert len(set(orders.values())) == 25
    torch.manual_seed(1)  # the global generator has no say
    assert orders == {(s, e): tuple(epoch_order(50, s, e).tolist()) for s, e in orders}


def test_an_epochs_order_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    epoch_order(50, 0, 0)
    assert torch.equal(before, torch.get_rng_state())


def test_a_tenth_of_each_class_is_held_out_by_content_alone() -> None:
    labels = [0] * 100 + [1] * 25 + [2] * 3
    keys = [hashlib.sha256(bytes([index])).digest() for index in range(len(labels))]
    held = held_out(keys, labels)
    counts = [sum(h for h, own in zip(held, labels, strict=True) if own == k) for k in range(3)]
    assert counts == [10, 2, 1]
    backwards = held_out(keys[::-1], labels[::-1])
    assert backwards[::-1] == held
    first_class = [h for h, own in zip(held, labels, strict=True) if own == 0]
    assert held_out(keys[:100], [0] * 100) == first_class  # other classes have no say


def test_equal_images_are_never_on_both_sides() -> None:
    keys = [bytes([index // 7]) for index in range(70)]
    held = held_out(keys, [0] * 70)
    assert held == [True] * 7 + [False] * 63
    assert all(held_out([b"same"] * 30, [0] * 30))


def test_the_first_images_go_round_where_there_are_fewer(digits: Dataset) -> None:
    assert torch.equal(first_images(digits, 3), digits.images[:3])
    around = first_images(digits, 90)
    assert torch.equal(around, torch.cat([digits.images, digits.images, digits.images[:10]]))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("mnist", "mnist"),
        ("/photos/Cats & Dogs (2024)", "cats-dogs-2024"),
        ("/photos/Früchte", "fruchte"),
        ("/photos/写真", "data"),
        ("/photos/" + "long name " * 20, "long-name-long-name-long-name-long-name"),
        ("/", "data"),
    ],
)
def test_a_checkpoint_is_named_after_its_data(source: str, name: str) -> None:
    assert DataSpec(source, "data").name == name


@pytest.mark.parametrize("licence", ["two\nlines", "x" * 201])
def test_a_licence_is_one_printable_line(licence: str) -> None:
    with pytest.raises(ValueError, match="is not a line of at most 200 printable characters"):
        DataSpec("mnist", "data", licence=licence)
