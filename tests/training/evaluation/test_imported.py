"""An imported generator is measured like ours, on the noise of its own distribution."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import graphs
from tests.training.evaluation.conftest import QUICK
from training.evaluation.evaluate import draw, evaluate
from training.evaluation.reference import Reference
from training.importing.errors import GeneratorError
from training.importing.graph_network import GraphNetwork
from training.networks.graph.config import LabelInput, Noise
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


def test_images_that_no_judge_can_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match="measured are square ones in grey or RGB"):
        network(tmp_path, image_shape=(4, 8, 8))
