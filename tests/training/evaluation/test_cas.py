"""CAS on made-up digits: right images teach, wrong labels and few styles do not; kept once made."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.data.dataset import Dataset
from training.evaluation import cas
from training.evaluation.cas import accuracy, real_classifier, train_classifier


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cas, "STEPS", 40)
    monkeypatch.setattr(cas, "BATCH", 20)


def test_right_labels_teach_and_wrong_ones_do_not(digits: Dataset) -> None:
    assert accuracy(train_classifier(digits.images, digits.labels, 10), digits) > 0.9
    wrong = (digits.labels + 1) % 10
    assert accuracy(train_classifier(digits.images, wrong, 10), digits) < 0.1


def test_a_label_left_out_is_never_named(digits: Dataset) -> None:
    kept = digits.labels != 9
    classifier = train_classifier(digits.images[kept], digits.labels[kept], 10)
    assert 0.8 < accuracy(classifier, digits) <= 0.9


def test_training_is_a_function_of_the_images_and_disturbs_no_one(digits: Dataset) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train_classifier(digits.images, digits.labels, 10)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    second = train_classifier(digits.images, digits.labels, 10).state_dict()
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second[name]), name
    assert not first.training
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_fewer_images_than_a_batch_colour_and_odd_sizes_will_do() -> None:
    images = torch.randint(0, 256, (7, 3, 12, 20), dtype=torch.uint8)
    classifier = train_classifier(images, torch.arange(7) % 2, 2)
    assert classifier(images / 255).shape == (7, 2)


def test_the_real_classifier_is_trained_once_and_kept(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = torch.arange(30)
    first = real_classifier(digits, chosen, tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name == f"made-up-{digits.digest()[:12]}-cas-30-v{cas.VERSION}.safetensors"

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(cas, "train_classifier", never)
    again = real_classifier(digits, chosen, tmp_path)
    assert torch.equal(first(digits.images / 255), again(digits.images / 255))
    with pytest.raises(AssertionError, match="trained again"):
        real_classifier(replace(digits, images=255 - digits.images), chosen, tmp_path)
