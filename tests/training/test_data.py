"""Digits from files, the errors when they are not there, and the order of an epoch."""

import importlib
import urllib.error
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from training.data import (
    DataError,
    Dataset,
    default_data_root,
    epoch_order,
    import_torchvision,
    load_mnist,
    to_pixels,
)

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Downloads fail as without a network; the list holds the addresses that were asked for."""
    asked: list[str] = []

    def fail(url: str, *arguments: object, **options: object) -> None:
        asked.append(url)
        raise urllib.error.URLError("Name or service not known")

    mnist: Any = import_torchvision().datasets.mnist
    monkeypatch.setattr(mnist, "download_and_extract_archive", fail)
    return asked


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


@pytest.mark.parametrize("train", [True, False])
def test_missing_mnist_names_the_folder_the_files_and_the_option(
    tmp_path: Path, no_network: list[str], train: bool
) -> None:
    with pytest.raises(DataError) as caught:
        load_mnist(tmp_path / "here", train=train)
    message = str(caught.value)
    assert f"not in {tmp_path}/here/MNIST/raw" in message
    for name in ("train", "t10k"):
        assert f"{name}-images-idx3-ubyte" in message
        assert f"{name}-labels-idx1-ubyte" in message
    assert "--data-root" in message
    assert "\n" not in message
    assert no_network  # it did try


def test_files_that_are_there_are_read_and_not_downloaded(
    made_up_mnist: Path, no_network: list[str]
) -> None:
    train, test = load_mnist(made_up_mnist, train=True), load_mnist(made_up_mnist, train=False)
    assert not no_network
    assert (len(train), len(test)) == (40, 30)
    assert train.images.shape == (40, 1, 28, 28)
    assert train.images.dtype == torch.uint8
    assert train.labels.dtype == torch.int64
    assert train.labels.tolist() == [i % 10 for i in range(40)]
    assert train.class_names == tuple("0123456789")
    assert train.name == "mnist"
    assert "CC BY-SA" in train.licence
    raw = (made_up_mnist / "MNIST/raw/train-images-idx3-ubyte").read_bytes()
    assert train.images.numpy().tobytes() == raw[16:]


@pytest.mark.parametrize("data", [b"", b"\0\0\x08\x03"])
def test_damaged_files_are_reported_as_damaged(
    made_up_mnist: Path, no_network: list[str], data: bytes
) -> None:
    (made_up_mnist / "MNIST/raw/train-images-idx3-ubyte").write_bytes(data)
    with pytest.raises(DataError, match=f"files in {made_up_mnist}/MNIST/raw are damaged"):
        load_mnist(made_up_mnist, train=True)
    assert not no_network


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


def test_the_data_root_is_the_shared_folder_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    assert default_data_root() == Path("data")
    (tmp_path / "shared/data").mkdir(parents=True)
    assert default_data_root() == Path("../shared/data")


def test_real_mnist_has_its_known_sizes_classes_and_ink(mnist_root: Path) -> None:
    for train, counts in ((True, TRAIN_COUNTS), (False, TEST_COUNTS)):
        mnist = load_mnist(mnist_root, train=train)
        assert mnist.images.shape == (sum(counts), 1, 28, 28)
        assert torch.bincount(mnist.labels).tolist() == counts
    # The well-known mean and deviation of the training pixels.
    pixels = to_pixels(load_mnist(mnist_root, train=True).images)
    assert pixels.mean().item() == pytest.approx(0.1307, abs=1e-4)
    assert pixels.std().item() == pytest.approx(0.3081, abs=1e-4)


def test_a_truncated_file_is_reported_as_damaged(
    made_up_mnist: Path, no_network: list[str]
) -> None:
    path = made_up_mnist / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged"):
        load_mnist(made_up_mnist, train=True)


def test_fewer_labels_than_images_are_reported_as_damaged(
    made_up_mnist: Path, no_network: list[str]
) -> None:
    test_labels = made_up_mnist / "MNIST/raw/t10k-labels-idx1-ubyte"
    test_labels.replace(made_up_mnist / "MNIST/raw/train-labels-idx1-ubyte")
    (made_up_mnist / "MNIST/raw/t10k-labels-idx1-ubyte").write_bytes(b"unused")
    with pytest.raises(DataError, match="damaged"):
        load_mnist(made_up_mnist, train=True)


def test_a_file_of_an_unknown_element_type_is_reported_as_damaged(
    made_up_mnist: Path, no_network: list[str]
) -> None:
    path = made_up_mnist / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(b"\0\0\x0a\x03" + path.read_bytes()[4:])
    with pytest.raises(DataError, match="damaged"):
        load_mnist(made_up_mnist, train=True)
