"""Sets known by name, from files in their own formats; the errors when those are not there."""

import bz2
import hashlib
import pickle
import re
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.data.dataset import DataError, Dataset, DataSpec, import_torchvision, to_pixels
from training.data.named_sets import NAMED
from training.data.sources import data_spec, default_data_root, load_data, relocated

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
WriteIdx = Callable[[Path, NDArray[np.uint8]], None]


def named(source: str, root: Path, **wanted: Any) -> tuple[Dataset, Dataset]:
    return load_data(data_spec(source, root, **wanted))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Downloads fail as without a network; the list holds the addresses that were asked for."""
    asked: list[str] = []

    def fail(url: str, *arguments: object, **options: object) -> None:
        asked.append(url)
        raise urllib.error.URLError("Name or service not known")

    datasets: Any = import_torchvision().datasets
    monkeypatch.setattr(datasets.mnist, "download_and_extract_archive", fail)
    monkeypatch.setattr(datasets.cifar, "download_and_extract_archive", fail)
    monkeypatch.setattr(datasets.usps, "download_url", fail)
    return asked


# What is missing, what is damaged.


@pytest.mark.parametrize(
    ("source", "place", "files"),
    [
        ("mnist", "MNIST/raw", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]),
        ("fashion-mnist", "FashionMNIST/raw", ["train-images-idx3-ubyte"]),
        ("kmnist", "KMNIST/raw", ["t10k-images-idx3-ubyte"]),
        ("emnist", "EMNIST/raw", ["emnist-balanced-train-images-idx3-ubyte"]),
        ("usps", "", ["usps.bz2", "usps.t.bz2"]),
        ("cifar10", "cifar-10-batches-py", ["data_batch_1", "data_batch_5", "test_batch"]),
    ],
)
def test_missing_files_are_named_with_their_folder_and_the_option(
    tmp_path: Path, no_network: list[str], source: str, place: str, files: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        named(source, tmp_path / "here")
    message = str(caught.value)
    assert f"not in {tmp_path / 'here' / place} and could not be downloaded" in message
    assert all(file in message for file in files)
    assert f"name the folder that contains {place or 'them'} with --data-root" in message
    assert "--data-root" in message
    assert "\n" not in message
    assert no_network  # it did try


def test_every_named_set_but_the_offline_one_is_in_the_table_above() -> None:
    assert set(NAMED) == {
        *("mnist", "fashion-mnist", "kmnist", "emnist", "usps", "cifar10", "digits"),
    }
    assert all(entry.licence and len(set(entry.class_names)) >= 10 for entry in NAMED.values())


def damage_nothing(raw: Path) -> None:
    (raw / "train-images-idx3-ubyte").write_bytes(b"")


def damage_header_alone(raw: Path) -> None:
    (raw / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")


def damage_cut(raw: Path) -> None:
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])


def damage_fewer_labels(raw: Path) -> None:
    labels = (raw / "t10k-labels-idx1-ubyte").read_bytes()
    (raw / "train-labels-idx1-ubyte").write_bytes(labels)


def damage_element_type(raw: Path) -> None:
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(b"\0\0\x0a\x03" + path.read_bytes()[4:])


def damage_label(raw: Path) -> None:
    path = raw / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_nothing, "files in {raw} are damaged"),
        (damage_header_alone, "files in {raw} are damaged"),
        (damage_cut, "files in {raw} are damaged"),
        (damage_fewer_labels, "images of shape (40, 28, 28) with 30 labels"),
        (damage_element_type, "files in {raw} are damaged"),
        (damage_label, "the mnist files are damaged: a label is 10, of 10 classes"),
    ],
)
def test_damaged_files_are_reported_as_damaged(
    made_up_mnist: Path, no_network: list[str], damage: Callable[[Path], None], message: str
) -> None:
    raw = made_up_mnist / "MNIST/raw"
    damage(raw)
    with pytest.raises(DataError, match=re.escape(message.format(raw=raw))):
        named("mnist", made_up_mnist)
    assert not no_network


# What the files hold.


def test_mnist_is_read_from_its_files_and_not_downloaded(
    made_up_mnist: Path, no_network: list[str]
) -> None:
    train, test = named("mnist", made_up_mnist)
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


@pytest.mark.parametrize(
    ("source", "folder", "prefixes", "classes", "some_names"),
    [
        ("fashion-mnist", "FashionMNIST", ("train", "t10k"), 10, {7: "sneaker", 9: "ankle boot"}),
        ("kmnist", "KMNIST", ("train", "t10k"), 10, {0: "o", 3: "tsu", 9: "wo"}),
        (
            *("emnist", "EMNIST", ("emnist-balanced-train", "emnist-balanced-test"), 47),
            {0: "0", 10: "A", 35: "Z", 36: "a", 46: "t"},
        ),
    ],
)
def test_sets_in_mnists_format_are_read_upright_with_their_class_names(
    source: str,
    folder: str,
    prefixes: tuple[str, str],
    classes: int,
    some_names: dict[int, str],
    tmp_path: Path,
    no_network: list[str],
    idx_writer: WriteIdx,
) -> None:
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    labels = np.arange(classes, dtype=np.uint8)
    upright = np.random.default_rng(0).integers(0, 256, (classes, 28, 28), dtype=np.uint8)
    stored = upright.swapaxes(1, 2) if source == "emnist" else upright  # EMNIST's are by columns
    for prefix in prefixes:
        idx_writer(raw / f"{prefix}-images-idx3-ubyte", np.ascontiguousarray(stored))
        idx_writer(raw / f"{prefix}-labels-idx1-ubyte", labels)
    for part in named(source, tmp_path):
        assert np.array_equal(part.images[:, 0].numpy(), upright)
        assert part.labels.tolist() == list(range(classes))
        assert len(part.class_names) == classes
        assert {index: part.class_names[index] for index in some_names} == some_names
        assert part.name == source
    assert not no_network


def test_usps_is_enlarged_from_16_to_28_pixels(tmp_path: Path, no_network: list[str]) -> None:
    levels = np.zeros((20, 16, 16))
    levels[:, :, 8:] = 1  # the right half is white
    for file, count in (("usps.bz2", 20), ("usps.t.bz2", 10)):
        lines = [
            f"{index % 10 + 1} "
            + " ".join(f"{place + 1}:{2 * x - 1:.4f}" for place, x in enumerate(image.flatten()))
            for index, image in enumerate(levels[:count])
        ]
        (tmp_path / file).write_bytes(bz2.compress(("\n".join(lines) + "\n").encode()))
    train, test = named("usps", tmp_path)
    assert (train.images.shape, test.images.shape) == ((20, 1, 28, 28), (10, 1, 28, 28))
    assert train.labels.tolist() == [index % 10 for index in range(20)]
    assert train.images[:, :, :, :10].max() == 0
    assert train.images[:, :, :, 18:].min() == 255
    (tmp_path / "usps.t.bz2").write_bytes(b"no bzip2")
    with pytest.raises(DataError, match=r"USPS files in .* are damaged"):
        named("usps", tmp_path)
    assert not no_network


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with 50 training and 10 test images in CIFAR-10's files, vouched for by
    torchvision's table of MD5s. Each image is its label in red, green 7 and blue 200."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    labels = list(range(10))
    planes = [np.repeat([[label], [7], [200]], 1024, axis=1).flatten() for label in labels]
    batch = {"data": np.array(planes, dtype=np.uint8), "labels": labels}
    sums = {}
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        sums[name] = batch
    names = ["airplane", "automobile"]
    for name, content in {**sums, "batches.meta": {"label_names": names}}.items():
        (folder / name).write_bytes(pickle.dumps(content))
    vouch_for(folder, monkeypatch)
    return tmp_path


def vouch_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    cifar10 = import_torchvision().datasets.CIFAR10
    for table in ("train_list", "test_list"):
        rows = [[name, md5[name]] for name, _ in getattr(cifar10, table)]
        monkeypatch.setattr(cifar10, table, rows)
    monkeypatch.setattr(cifar10, "meta", cifar10.meta | {"md5": md5["batches.meta"]})


def test_cifar10_is_in_colour_and_of_32_pixels(cifar: Path, no_network: list[str]) -> None:
    train, test = named("cifar10", cifar)
    assert (train.images.shape, test.images.shape) == ((50, 3, 32, 32), (10, 3, 32, 32))
    assert train.labels.tolist() == list(range(10)) * 5
    assert train.images[:, 0, 5, 9].tolist() == train.labels.tolist()
    assert set(train.images[:, 1].flatten().tolist()) == {7}
    assert set(train.images[:, 2].flatten().tolist()) == {200}
    assert train.class_names[:3] == ("airplane", "automobile", "bird")
    assert not no_network


class Trap:
    """Unpickling one leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("file", ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"])
def test_a_cifar10_file_that_torchvision_does_not_know_is_never_unpickled(
    cifar: Path, no_network: list[str], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sprung = cifar / "cifar-10-batches-py" / file, cifar / "sprung"
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(DataError, match=r"CIFAR-10 files in .* are damaged"):
        named("cifar10", cifar)
    assert not sprung.exists()
    # That it does spring where torchvision is made to vouch for it shows that it was set.
    vouch_for(path.parent, monkeypatch)
    with pytest.raises(DataError):
        named("cifar10", cifar)
    assert sprung.exists()


def test_the_digits_of_scikit_learn_need_no_file(tmp_path: Path, no_network: list[str]) -> None:
    train, test = named("digits", tmp_path)
    assert (len(train), len(test)) == (1618, 179)
    assert train.images.shape[1:] == (1, 28, 28)
    assert train.images.max() == 255
    counts = torch.bincount(test.labels)
    assert counts.min() >= 17  # of 174 to 183 each
    assert counts.max() <= 18
    images = [image.numpy().tobytes() for part in (train, test) for image in part.images]
    assert len(set(images)) == 1797  # none is on both sides
    again, _ = named("digits", tmp_path)
    assert again.digest() == train.digest()
    assert list(tmp_path.iterdir()) == []
    assert not no_network


@pytest.mark.parametrize(("size", "channels"), [(28, 3), (32, 1), (64, 3)])
def test_a_named_set_comes_in_the_size_and_depth_asked_for(
    made_up_mnist: Path, size: int, channels: int
) -> None:
    train, test = named("mnist", made_up_mnist, image_size=size, image_channels=channels)
    assert train.images.shape == (40, channels, size, size)
    assert test.images.shape == (30, channels, size, size)
    assert torch.equal(train.images[:, 0], train.images[:, -1])  # grey, whatever the channels
    spec = data_spec("mnist", made_up_mnist).filled_in(train)
    assert (spec.image_size, spec.image_channels) == (size, channels)
    assert load_data(spec)[0].digest() == spec.digest


def test_colours_become_grey_by_their_brightness(cifar: Path) -> None:
    train, _ = named("cifar10", cifar, image_channels=1)
    label = train.labels.float()
    expected = 0.299 * label + 0.587 * 7 + 0.114 * 200  # ITU-R 601
    assert (train.images[:, 0, 3, 3] - expected).abs().max() <= 1


# Which data are meant.


def test_the_data_root_is_the_shared_folder_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    assert default_data_root() == Path("data")
    (tmp_path / "shared/data").mkdir(parents=True)
    assert default_data_root() == Path("../shared/data")


def test_a_name_is_a_set_and_a_path_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("mnist", "My Photos"):
        (tmp_path / folder).mkdir()
    assert data_spec("mnist") == DataSpec("mnist", "data")
    assert data_spec("./mnist").source == str(tmp_path / "mnist")
    photos = data_spec("My Photos", Path("elsewhere"), image_size=64)
    assert photos == DataSpec(str(tmp_path / "My Photos"), "elsewhere", 64)
    assert photos.name == "my-photos"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_spec("~/My Photos") == data_spec("My Photos")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("fashion_mnist", "there is no such folder.*did you mean fashion-mnist"),
        ("MNIST", "did you mean mnist"),
        ("nothing-like-it", "the sets known by name are mnist, .*, digits$"),
        ("photos.zip", "photos.zip is a file; unpack it"),
    ],
)
def test_what_is_neither_is_refused_with_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.zip").touch()
    with pytest.raises(DataError, match=message):
        data_spec(source)


def test_data_that_moved_keep_their_description_and_data_that_changed_are_refused(
    made_up_mnist: Path,
) -> None:
    spec = data_spec("mnist", made_up_mnist)
    spec = spec.filled_in(load_data(spec)[0])
    assert relocated(spec, None, None) == spec
    elsewhere = made_up_mnist.rename(made_up_mnist.with_name("elsewhere"))
    train, _ = load_data(relocated(spec, None, elsewhere))
    assert train.digest() == spec.digest
    with pytest.raises(DataError, match="no data 'nowhere'"):
        relocated(spec, "nowhere", None)
    with pytest.raises(
        DataError, match=r"have changed: '0' has \d+ images instead of 4, .* classes differ"
    ):
        load_data(relocated(spec, "digits", None))
    with pytest.raises(DataError, match="the folder /no such/folder is gone; name its new place"):
        load_data(DataSpec("/no such/folder", "data"))


def test_real_mnist_has_its_known_sizes_classes_and_ink(mnist_root: Path) -> None:
    train, test = named("mnist", mnist_root)
    for part, counts in ((train, TRAIN_COUNTS), (test, TEST_COUNTS)):
        assert part.images.shape == (sum(counts), 1, 28, 28)
        assert torch.bincount(part.labels).tolist() == counts
    # The well-known mean and deviation of the training pixels.
    pixels = to_pixels(train.images)
    assert pixels.mean().item() == pytest.approx(0.1307, abs=1e-4)
    assert pixels.std().item() == pytest.approx(0.3081, abs=1e-4)
