"""A folder of pictures: which are read as which class, who is held out, what is refused."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.data.photos import file_of, noise
from tests.training.tiny import failure
from training.__main__ import main
from training.data import folder as folder_module
from training.data.dataset import DataError, Dataset
from training.data.folder import load_folder
from training.data.pictures import read_picture
from training.data.sources import data_spec, load_data
from training.networks.header import read


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of twenty pictures."""
    root = tmp_path / "photos"
    fill(root / "cat", 20)
    fill(root / "dog", 20, first=100)
    return root


def fill(folder: Path, count: int, first: int = 0, mode: str = "RGB") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        (folder / f"{seed:04}.png").write_bytes(file_of(noise(seed, mode=mode)))


def loaded(folder: Path, **wanted: Any) -> tuple[Dataset, Dataset]:
    return load_data(data_spec(str(folder), **wanted))


def rows(*parts: Dataset) -> set[tuple[bytes, str]]:
    """Every image with its class name."""
    return {
        (image.numpy().tobytes(), part.class_names[label])
        for part in parts
        for image, label in zip(part.images, part.labels, strict=True)
    }


def test_sub_folders_are_classes_in_the_order_of_their_names(photos: Path) -> None:
    fill(photos / "Zebra, wild", 10, first=200)
    fill(photos / "été", 10, first=300)
    train, test = loaded(photos, image_size=32, licence="CC0")
    assert train.class_names == ("Zebra, wild", "cat", "dog", "été")
    assert (len(train), len(test)) == (54, 6)
    assert train.images.shape == (54, 3, 32, 32)
    assert (train.images.dtype, train.labels.dtype) == (torch.uint8, torch.int64)
    assert (train.name, train.licence) == ("photos", "CC0")
    own = read_picture((photos / "dog/0107.png").read_bytes(), 32).transpose(2, 0, 1)
    assert (own.tobytes(), "dog") in rows(train, test)
    assert len(rows(train, test)) == 60


def test_what_is_held_out_depends_on_the_files_contents_alone(photos: Path) -> None:
    train, test = loaded(photos)
    assert torch.bincount(test.labels).tolist() == [2, 2]
    assert len(set(train.labels[:12].tolist())) == 2  # classes are mixed
    for path in list((photos / "cat").iterdir()):
        path.rename(path.with_name(f"renamed-{path.stem[::-1]}"))  # without a suffix, too
    again, test_again = loaded(photos)
    assert again.digest() == train.digest()
    assert test_again.digest() == test.digest()
    assert not rows(train) & rows(test)
    assert loaded(photos, image_size=32)[0].digest() != train.digest()


def people(root: Path, count: int = 12, each: int = 2) -> Path:
    """Two classes, each with ``each`` pictures of as many people: ``<class>/p03-1.png``."""
    for label in range(2):
        (root / f"{label}").mkdir(parents=True)
        for person in range(count):
            for shot in range(each):
                data = file_of(noise(1000 * label + 10 * person + shot))
                (root / f"{label}" / f"p{person:02}-{shot}.png").write_bytes(data)
    return root


@pytest.mark.parametrize("pattern", [r"p\d+", r"p(\d+)-"])
def test_pictures_of_a_group_are_held_out_together(tmp_path: Path, pattern: str) -> None:
    root = people(tmp_path / "hands")
    train, test = loaded(root, groups=pattern)
    assert (len(train), len(test)) == (40, 8)  # two of twelve: the first tenth and no less
    held = rows(test)
    for person in range(12):
        own = root.glob(f"*/p{person:02}-*")
        sides = {(loaded_picture(path), path.parent.name) in held for path in own}
        assert len(sides) == 1, person
    again = loaded(root, groups=pattern)[1]
    assert torch.equal(again.images, test.images)


def loaded_picture(path: Path) -> bytes:
    """A file's pixels as in a dataset of the default size."""
    return read_picture(path.read_bytes(), 28).transpose(2, 0, 1).tobytes()


def test_a_folder_a_person_is_a_group_too(tmp_path: Path) -> None:
    for path in people(tmp_path / "flat").glob("*/*.png"):
        folder = tmp_path / "hands" / path.parent.name / path.name[:3]
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name[4:])
    assert len(loaded(tmp_path / "hands", groups="^[^/]+/")[1]) == 8


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("q", "finds no group in 48 paths, such as 'p"),
        (r"\.png", "finds one group, '.png', and needs at least two"),
        ("(", "is not a regular expression for groups"),
    ],
)
def test_groups_that_cannot_be_are_refused(tmp_path: Path, pattern: str, message: str) -> None:
    root = people(tmp_path / "hands")
    with pytest.raises((DataError, ValueError), match=re.escape(message)):
        loaded(root, groups=pattern)


def test_groups_are_for_folders_without_a_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--holdout-groups is for folders; mnist has a test set"):
        load_data(data_spec("mnist", tmp_path, groups="p"))
    people(tmp_path / "hands" / "train")
    people(tmp_path / "hands" / "test")
    with pytest.raises(DataError, match="has train/ and test/: leave out --holdout-groups"):
        loaded(tmp_path / "hands", groups="p")


def test_sub_folders_train_and_test_are_the_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "train/cat", 12)
    fill(tmp_path / "train/dog", 9, first=100)
    fill(tmp_path / "test/dog", 4, first=200)
    loaded(tmp_path)
    told = "test has no readable picture of these classes: cat. They will not be"
    assert told in capsys.readouterr().err
    fill(tmp_path / "test/cat", 1, first=250)
    train, test = loaded(tmp_path)
    assert capsys.readouterr().err == ""
    assert train.class_names == test.class_names == ("cat", "dog")
    assert torch.bincount(train.labels).tolist() == [12, 9]
    assert torch.bincount(test.labels).tolist() == [1, 4]
    for side in ("train", "test"):  # under whatever name the eye takes for the same
        (tmp_path / side).rename(tmp_path / side.capitalize())
    assert loaded(tmp_path)[0].digest() == train.digest()
    fill(tmp_path / "Test/cow", 1, first=300)
    with pytest.raises(DataError, match="Test has classes that train/ does not have: cow"):
        loaded(tmp_path)


def test_a_folder_around_the_classes_is_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "shoes/boot", 12)
    fill(tmp_path / "shoes/sneaker", 12, first=100)
    assert loaded(tmp_path)[0].class_names == ("shoes",)
    said = capsys.readouterr().err
    assert "are in sub-folders: shoes. If those are the classes, name their parent folder" in said
    assert f"such as {tmp_path}/shoes" in said
    loaded(tmp_path / "shoes")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("no_graphs")
def test_a_run_whose_pictures_have_changed_says_which_and_can_be_published_unmeasured(
    photos: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["cgan", "--data", str(photos), "--preset", "dense", "--threads", "1"]
    main([*command, "--max-steps", "1"])
    run = "runs/cgan-dense-001"
    kept = sorted((photos / "dog").iterdir())
    for path in kept[:3]:
        path.unlink()
    said = re.escape("'dog' has ") + r"1[0-9] images instead of 18"
    assert re.search(said, failure("cgan", "--resume", run, "--threads", "1"))
    publish = ["publish", run, "--threads", "1"]
    assert re.search(said, failure(*publish))
    main([*publish, "--no-figures"])
    assert "it is published all the same, but without what is fitted" in capsys.readouterr().err
    about = read(Path("models_store/photos-cgan-v1.safetensors")).description
    config = json.loads(Path(run, "config.json").read_text())
    assert about.data["training_images"] == 36
    assert about.data["digest"] == config["data"]["digest"]


def test_a_flat_folder_is_one_class(tmp_path: Path) -> None:
    fill(tmp_path, 30, mode="L")
    train, test = loaded(tmp_path)
    assert (len(train), len(test)) == (27, 3)
    assert train.images.shape[1:] == (1, 28, 28)
    assert train.class_names == ("unlabelled",)
    assert train.licence == "unknown"


def test_hidden_loose_empty_and_unreadable_things_are_left_out_and_named(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = loaded(photos)[0].digest()
    assert capsys.readouterr().err == ""
    (photos / "cat/.hidden.png").write_bytes(file_of(noise(900)))
    fill(photos / ".thumbnails", 5, first=910)
    fill(photos / "cat/.cache", 5, first=920)
    (photos / "README.txt").write_text("photos of cats and dogs")
    (photos / "birds").mkdir()
    for index in range(7):
        (photos / f"dog/note{index}.txt").write_text("no picture")
    (photos / "dog/zz-dangling.png").symlink_to("nowhere.png")
    os.mkfifo(photos / "cat/pipe.png")
    (photos / "cat/new\nline.png").write_bytes(b"")
    assert loaded(photos)[0].digest() == whole
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"left out, empty class folders in {photos} (1): birds"
    assert said[1] == f"left out, files of no class, directly in {photos} (1): README.txt"
    assert said[2].startswith("left out, unusable files (10): cat/'new\\nline.png' ")
    assert "cat/pipe.png (not a regular file)" in said[2]
    assert said[2].endswith(" and 5 more")
    assert len(said) == 3


def test_a_picture_in_two_classes_is_counted_with_an_example(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "dog/copy.png").write_bytes((photos / "cat/0003.png").read_bytes())
    (photos / "dog/saved.bmp").write_bytes(file_of(noise(5), "BMP"))  # cat/0005.png, saved anew
    (photos / "cat/twice.png").write_bytes((photos / "cat/0007.png").read_bytes())  # of one class
    loaded(photos)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the same picture is in several classes (2 pictures), such as in cat (")
    examples = ("cat (0003.png) and dog (copy.png)", "cat (0005.png) and dog (saved.bmp)")
    assert any(example in line for example in examples)


def test_links_are_followed_but_not_in_a_circle(photos: Path, tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere/deeper", 10, first=400)
    (photos / "horse").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/deeper/round").symlink_to(tmp_path / "elsewhere")
    (photos / "cat/up").symlink_to(photos)
    (photos / "dog/one-more.png").symlink_to(tmp_path / "elsewhere/deeper/0400.png")
    train, test = loaded(photos)
    counts = torch.bincount(torch.cat([train.labels, test.labels])).tolist()
    assert dict(zip(train.class_names, counts, strict=True)) == {"cat": 20, "dog": 21, "horse": 10}


def test_accents_written_apart_are_joined_in_a_class_name(photos: Path) -> None:
    fill(photos / "cafe\u0301", 5, first=500)  # as macOS writes it
    assert loaded(photos)[0].class_names == ("caf\u00e9", "cat", "dog")
    fill(photos / "caf\u00e9", 5, first=600)
    with pytest.raises(DataError, match=r"two folders in .* are both called 'café': rename one"):
        loaded(photos)


# What is refused.


def no_picture(root: Path) -> None:
    root.mkdir()


def only_text(root: Path) -> None:
    (root / "cat").mkdir(parents=True)
    (root / "cat/a.txt").write_text("no picture")


def too_few(root: Path) -> None:
    fill(root / "cat", 9)
    fill(root / "dog", 9, first=50)


def one_of_a_class(root: Path) -> None:
    fill(root / "cat", 20)
    fill(root / "dog", 1, first=50)


def all_of_a_class_unreadable(root: Path) -> None:
    fill(root / "cat", 20)
    (root / "dog").mkdir()
    (root / "dog/a.heic").write_bytes(b"no picture")


def the_same_file_over_and_over(root: Path) -> None:
    fill(root / "cat", 20)
    (root / "dog").mkdir()
    for index in range(20):
        (root / f"dog/{index}.png").write_bytes(file_of(noise(0)))


def grey_among_colours(root: Path) -> None:
    fill(root / "cat", 20)
    fill(root / "dog", 7, first=50, mode="L")


def train_without_test(root: Path) -> None:
    fill(root / "train/cat", 20)
    fill(root / "valid/cat", 20)


def no_train_pictures(root: Path) -> None:
    (root / "train/cat").mkdir(parents=True)
    fill(root / "test/cat", 20)


def long_name(root: Path) -> None:
    fill(root / ("c" * 65), 20)


def unprintable_name(root: Path) -> None:
    fill(root / "cat\ndog", 20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_picture, "has no pictures. Put them into {root}/<class>/, a sub-folder for each class"),
        (only_text, "has no pictures"),
        (too_few, "16 pictures for training and 2 for the test; at least 20 in all"),
        (one_of_a_class, "classes in {root} with fewer than 2 readable pictures: dog (1); add"),
        (all_of_a_class_unreadable, "with fewer than 2 readable pictures: dog (0)"),
        (the_same_file_over_and_over, "classes whose files are all copies of one: dog; add others"),
        (grey_among_colours, "7 grey and 20 colour pictures: use --image-channels 3"),
        (train_without_test, "has train/ but no test/: add one, or name {root}/train"),
        (no_train_pictures, "test has classes that train/ does not have: cat"),
        (long_name, "is not 1 to 64 printable characters: rename it"),
        (unprintable_name, r"'cat\ndog' in {root} is not 1 to 64 printable characters: rename it"),
    ],
)
def test_a_folder_that_cannot_be_used_says_what_to_do(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    root = tmp_path / "photos"
    make(root)
    with pytest.raises(DataError, match=re.escape(message.format(root=root))):
        loaded(root)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_among_colours_is_fine_where_the_depth_is_said(tmp_path: Path, channels: int) -> None:
    grey_among_colours(tmp_path / "photos")
    train, _ = loaded(tmp_path / "photos", image_channels=channels)
    assert train.images.shape == (24, channels, 28, 28)


def test_more_pictures_than_memory_holds_are_refused_before_they_are_read(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "read_picture", lambda *_: pytest.fail("it was read"))
    message = "has 40 pictures, but only about 39 of 3 x 64 x 64 fit into this machine's"
    with pytest.raises(DataError, match=message):
        load_folder(data_spec(str(photos), image_size=64), memory=39 * 2 * 3 * 64 * 64)


def test_a_folder_that_may_not_be_looked_into_is_named(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: permissions do not keep root out."""

    def scandir(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"cannot read the folder .*photos.*: Permission denied"):
        loaded(photos)


def test_a_file_over_the_limit_is_left_out_unread(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = loaded(photos)[0].digest()
    with (photos / "cat/huge.png").open("wb") as file:
        file.truncate(folder_module.MAX_FILE_BYTES + 1)  # sparse
    assert loaded(photos)[0].digest() == whole
    assert "cat/huge.png (over 256 MB)" in capsys.readouterr().err
