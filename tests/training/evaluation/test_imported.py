"""An imported generator is measured like ours, on the noise of its own distribution."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import graphs
from tests.training.data.photos import file_of, noise
from tests.training.evaluation.conftest import QUICK
from tests.training.tiny import failure
from training.__main__ import main
from training.data.dataset import Dataset
from training.evaluation import cas, judge
from training.evaluation.evaluate import Effort, draw, evaluate
from training.evaluation.reference import Reference
from training.importing.errors import GeneratorError
from training.importing.graph_network import GraphNetwork
from training.networks.graph.config import GraphConfig, LabelInput, Noise
from training.networks.header import read


def network(folder: Path, **changes: object) -> GraphNetwork:
    config = graphs.config(noise=(Noise("z", (6,), "uniform"),), **changes)
    path = graphs.write(folder / "x.safetensors", config)
    return GraphNetwork(path, read(path).description)


def test_its_samples_are_those_of_consecutive_seeds(tmp_path: Path) -> None:
    made = network(tmp_path, image_shape=(1, 8, 8))
    levels, labels = draw(made, 20, 3)
    assert labels is None
    z = made.latents(60, 20)
    assert float(z.abs().max()) <= 1
    assert torch.equal(levels, (made.generate(z) * 255).round().to(torch.uint8))
    assert len(np.unique(levels.numpy())) > 10


def test_it_gets_the_figures_that_ours_get(tmp_path: Path, reference: Reference) -> None:
    made = network(
        tmp_path, image_shape=(1, 8, 8), label=LabelInput("label", "index"), num_classes=10
    )
    figures = evaluate(made, reference, QUICK)
    assert figures["samples"] == QUICK.samples
    assert figures["frechet_test"] > 0
    assert 0 <= figures["conditional_accuracy"] <= 1


def test_an_autoencoders_reconstructions_are_measured(tmp_path: Path, reference: Reference) -> None:
    config = graphs.autoencoder(("latent",), image_shape=(1, 8, 8), noise=(Noise("z", (2, 3)),))
    path = graphs.write(tmp_path / "x.safetensors", config)
    figures = evaluate(GraphNetwork(path, read(path).description), reference, QUICK)
    assert 0 < figures["reconstruction_mse"] < 1
    assert figures["reconstruction_frechet_test"] > 0
    assert "negative_elbo_nats" not in figures


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge and a classifier that train for a few steps, and few samples; all else is real."""
    monkeypatch.setattr(judge, "LEAST_STEPS", 4)
    monkeypatch.setattr(cas, "STEPS", 2)
    monkeypatch.setattr(Effort.__init__, "__defaults__", (40, 20, 3, 10))


@pytest.fixture
def pictures(here: Path) -> Path:
    """A folder of cats and dogs."""
    for first, name in enumerate(("cat", "dog")):
        (here / "pets" / name).mkdir(parents=True)
        for seed in range(12):
            picture = file_of(noise(100 * first + seed, mode="RGB"))
            (here / "pets" / name / f"{seed}.png").write_bytes(picture)
    return here / "pets"


PETS = ("dog", "cat")  # a generator's labels need not be in the order of the folders' names


def imported(folder: Path, config: GraphConfig, *options: str) -> None:
    (folder / "pets.onnx").write_bytes(graphs.decoder_graph(config))
    if config.input:
        (folder / "encoder.onnx").write_bytes(graphs.encoder_graph(config))
        options = (*options, "--encoder", "encoder.onnx")
    main(["import", "pets.onnx", "--name", "pets", "--store", "store", *options])


def test_the_command_measures_an_import_against_a_folder(
    here: Path, pictures: Path, few_steps: None, capsys: pytest.CaptureFixture[str]
) -> None:
    label = LabelInput("label", "index")  # its encoder takes one too
    config = graphs.autoencoder(image_shape=(3, 8, 8), label=label, num_classes=2)
    imported(here, config, "--labels", ",".join(PETS))
    graphs.write(here / "store/wide.safetensors", graphs.config(image_shape=(1, 8, 9)))
    rest = ["--store", "store", "--threads", "1"]
    assert "stated as 'unknown': name with --data a folder" in failure("evaluate", "pets", *rest)
    message = failure("evaluate", "--all", "--data", "pets", "--json", "x.json", *rest)
    assert "not measured: wide: store/wide.safetensors makes images of 1 x 8 x 9" in message
    said = capsys.readouterr().out
    assert "training the publishing judge on 22 images, once" in said
    figures = json.loads(Path("x.json").read_text())["pets"]
    assert figures["samples"] == 40
    for name in (
        "frechet_test",
        "kid_test",
        "recall",
        "cas",
        "conditional_accuracy",
        "reconstruction_mse",
    ):
        assert name in figures
        assert f"\n{name} " in said
    assert len(list(Path("runs/judges").glob("pets-*.safetensors"))) > 0


def test_classes_are_brought_into_the_order_of_a_generators_labels() -> None:
    images = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1)
    data = Dataset("pets", "none", images, torch.tensor([0, 1, 1]), ("cat", "dog"))
    ordered = data.in_order_of(PETS)
    assert ordered.class_names == PETS
    assert ordered.labels.tolist() == [1, 0, 0]
    assert torch.equal(ordered.images, images)
    assert data.in_order_of(("dog", "cow")) is data


def test_images_that_no_judge_can_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="measured are square ones in grey or RGB"):
        network(tmp_path, image_shape=(4, 8, 8))
