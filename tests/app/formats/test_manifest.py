"""The names of pictures in an archive, and the list of them."""

import csv
from io import StringIO

from app.formats.manifest import MANIFEST_HEADER, Manifest


def test_names_sort_by_class_and_number_whatever_the_classes_are_called() -> None:
    manifest = Manifest(["../../etc", "a/b", *(f"class {index}" for index in range(2, 12))])
    files = [manifest.path(index, label) for index in (2, 10, 999) for label in (2, 10, 0)]
    assert manifest.path(3, 0) == "00/00000003.png"
    by_number = sorted(files, key=lambda file: tuple(int(part[:8]) for part in file.split("/")))
    assert sorted(files) == by_number
    assert Manifest(["a"] * 10).path(7, 7) == "7/00000007.png"
    assert Manifest([]).path(7, None) == "images/00000007.png"


def test_the_list_is_read_by_a_csv_reader_whatever_the_classes_are_called() -> None:
    classes = ["plain", 'quo"te', "com,ma", "T-shirt/top", "ça"]
    manifest = Manifest(classes)
    rows = [manifest.row(index, index, 100 + index) for index in range(len(classes))]
    text = MANIFEST_HEADER.decode() + "".join([*rows, manifest.row(5, None, None)])
    *read, last = csv.DictReader(StringIO(text))
    assert [row["name"] for row in read] == classes
    assert [row["file_name"] for row in read] == [f"{i}/{i:08d}.png" for i in range(5)]
    assert [(row["label"], row["seed"]) for row in read] == [
        (str(i), str(100 + i)) for i in range(5)
    ]
    assert last == {"file_name": "images/00000005.png", "label": "", "name": "", "seed": ""}
