"""Torch modules become checkpoints; what would keep one from being served is told in words."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.training.importing import generators
from tests.training.tiny import failure
from training import GeneratorError, publish_module
from training.__main__ import main
from training.importing.torch_module import load_module, load_weights
from training.networks.graph.config import GraphConfig
from training.networks.header import read

HERE = "tests.training.importing.generators"
SCRIPT = Path(__file__).with_name("script.py.txt")


def published(folder: Path, module: nn.Module, **options: Any) -> GraphConfig:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"latent": 5, "name": "mine", "store": folder, "say": lambda _: None}
    config = read(publish_module(module, **(defaults | options))).description.network
    assert isinstance(config, GraphConfig)
    return config


def reason(folder: Path, module: nn.Module, **options: Any) -> str:
    with pytest.raises(GeneratorError) as caught:
        published(folder, module, **options)
    assert not list(folder.glob("*"))  # nothing is left behind
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.slow
def test_the_seed_articles_generator_is_imported_from_its_pth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(generators.Flat().state_dict(), tmp_path / "generator.pth")
    main(
        [
            *("import", f"{HERE}:Flat", "--weights", str(tmp_path / "generator.pth")),
            *("--latent", "5", "--range", "-1..1", "--name", "mine", "--licence", "MIT"),
            *("--store", str(tmp_path / "store")),
        ]
    )
    said = capsys.readouterr().out
    assert "which is your own code" in said
    assert "compared with torch on 64 samples" in said
    assert "rows alone and among others: the same bits" in said
    description = read(tmp_path / "store/mine.safetensors").description
    assert description.graphs["generate"].samples == 64
    assert description.graphs["generate"].max_difference < 1e-5
    config = description.network
    assert isinstance(config, GraphConfig)
    assert config.image_shape == (1, 4, 4)
    assert config.max_batch == 64
    assert (tmp_path / "store/mine.png").exists()
    assert "licence MIT" in (tmp_path / "store/mine.md").read_text()
    assert "exists; choose another --name" in failure(
        *("import", f"{HERE}:Flat", "--latent", "5", "--name", "mine"),
        *("--store", str(tmp_path / "store")),
    )


@pytest.mark.slow
def test_a_module_in_memory_is_published_with_labels_and_batch_norm(tmp_path: Path) -> None:
    module = generators.Convolutional().train()
    config = published(
        tmp_path,
        module,
        latent=(2, 1, 1),
        labels=["a", "b", "c"],
        label_form="one_hot",
        output=(-1, 1),
    )
    assert config.num_classes == 3
    assert config.label is not None
    assert config.label.form == "one_hot"
    assert config.noise[0].shape == (2, 1, 1)
    assert config.image_shape == (3, 4, 4)
    assert config.output.range == "-1..1"


@pytest.mark.slow
def test_a_one_hot_label_may_be_taken_as_an_image_of_one_pixel(tmp_path: Path) -> None:
    labels = ["a", "b", "c"]
    options = {"latent": (2, 1, 1), "labels": labels, "label_form": "one_hot"}
    config = published(tmp_path, generators.LabelAsImage(), **options)
    assert config.label is not None
    assert config.label.form == "one_hot"
    assert config.image_shape == (1, 4, 4)


@pytest.mark.slow
def test_a_label_is_given_to_the_argument_that_is_called_so(tmp_path: Path) -> None:
    config = published(tmp_path, generators.LabelFirst(), latent=2, labels=["a", "b"])
    assert config.label is not None
    assert config.label.form == "index"


@pytest.mark.slow
def test_an_autoencoders_two_methods_are_published(tmp_path: Path) -> None:
    config = published(
        tmp_path, generators.Autoencoder(), latent=3, method="decode", encode="encode"
    )
    assert config.operations == ("generate", "decode", "encode")
    assert config.posterior == ("mu", "logvar")
    assert config.output.range == "0..1"
    graphs = read(tmp_path / "mine.safetensors").description.graphs
    assert graphs["encode"].samples == 64
    assert graphs["encode"].max_difference < 1e-5


@pytest.mark.parametrize(
    ("module", "reason_given"),
    [
        (generators.WithDropout, "dropout is left on: F.dropout needs training=self.training"),
        (generators.DrawsInside, "draws random numbers inside (randn_like in noisy (Inner)): an"),
        (generators.WithoutAverages, "layer norm (BatchNorm1d) has no running averages"),
    ],
)
def test_what_makes_rows_depend_on_chance_or_each_other_is_named(
    tmp_path: Path, module: type[nn.Module], reason_given: str
) -> None:
    assert reason_given in reason(tmp_path, module())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "reason_given"),
    [
        (generators.NormalisesByBatch, "rows depend on each other: an image changes by"),
        (generators.FixedBatch, "the batch is fixed in its code: where view, reshape"),
        (generators.Branches, "a shape or a branch depends on values"),
        (generators.NotFinite, "sample 0 has values that are not finite"),
        (generators.Unbounded, "the samples run from -"),
        (generators.NoImage, "rows of [7], which are no image"),
    ],
)
def test_what_cannot_be_served_is_told_with_what_to_do(
    tmp_path: Path, module: type[nn.Module], reason_given: str
) -> None:
    torch.manual_seed(0)
    assert reason_given in reason(tmp_path, module())


def test_a_latent_of_another_shape_is_told(tmp_path: Path) -> None:
    message = reason(tmp_path, generators.Flat(), latent=7)
    assert "fails on inputs of shapes [2, 7]" in message
    assert "are --latent and the labels what it takes?" in message


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_are_read_and_have_to_fit(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(1)
    trained, fresh = generators.Flat(), generators.Flat()
    path = tmp_path / f"weights.{suffix}"
    write = torch.save if suffix == "pth" else save_file
    write(trained.state_dict(), path)
    load_weights(fresh, path)
    z = torch.randn(3, 5)
    assert torch.equal(fresh(z), trained(z))
    with pytest.raises(GeneratorError, match=r"size mismatch .* built with other arguments"):
        load_weights(generators.Flat(hidden=9), path)
    with pytest.raises(GeneratorError, match=r"does not fit Convolutional: .* are missing"):
        load_weights(generators.Convolutional(), path)


def test_weights_among_others_are_found_or_asked_for(tmp_path: Path) -> None:
    module, path = generators.Flat(), tmp_path / "x.pth"
    state = module.state_dict()
    parallel = {f"module.{name}": value for name, value in state.items()}
    torch.save({"epoch": 3, "netG": parallel, "netD": {"w": torch.zeros(1)}}, path)
    load_weights(generators.Flat(), path)
    torch.save({"one": state, "two": state}, path)
    with pytest.raises(GeneratorError, match="holds weights of one, two: choose with --key"):
        load_weights(module, path)
    load_weights(module, path, "two")


def test_a_pickled_module_is_refused_without_running_it(tmp_path: Path) -> None:
    path = tmp_path / "whole.pth"
    torch.save(generators.Flat(), path)
    with pytest.raises(GeneratorError, match=r"holds more than numbers.*state_dict"):
        load_weights(generators.Flat(), path)


def test_of_a_script_only_what_the_class_needs_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT.read_text())
    module = load_module("train.py:Generator", {}, ["--size", "3"])
    assert module(torch.zeros(2, 5)).shape == (2, 1, 3, 3)
    assert not (tmp_path / "images").exists()
    with pytest.raises(GeneratorError, match="options of its command line are given with --argv"):
        load_module("train.py:Generator", {})
    with pytest.raises(GeneratorError, match=r"train.py has no Discriminator"):
        load_module("train.py:Discriminator", {})


def test_nothing_under_a_scripts_main_guard_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "guarded.py").write_text(
        "from torch import nn\nG = nn.Linear(2, 4)\n"
        "if __name__ == '__main__':\n    import nowhere\n    G = nowhere.train(G)\n"
    )
    assert isinstance(load_module("guarded.py:G", {}), nn.Linear)


def test_code_that_imports_torchvision_is_read_though_its_operators_are_of_another_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unmatched.py").write_text(
        "from pathlib import Path\nfrom torch import nn\nif not Path('tried').exists():\n"
        "    Path('tried').touch()\n"
        "    raise RuntimeError('operator torchvision::nms does not exist')\nG = nn.Linear(2, 4)\n"
    )
    assert isinstance(load_module("unmatched:G", {}), nn.Linear)
    assert "torchvision" in sys.modules


def test_a_path_that_names_no_module_is_told() -> None:
    with pytest.raises(GeneratorError, match="names no module: write package"):
        load_module("generator", {})
    with pytest.raises(GeneratorError, match="nowhere cannot be imported: ModuleNotFoundError"):
        load_module("nowhere:Generator", {})
    with pytest.raises(GeneratorError, match=r"Flat\(latent.* with {'depth': 3} fails"):
        load_module(f"{HERE}:Flat", {"depth": 3})
    with pytest.raises(GeneratorError, match=r"gives a Tensor, not a torch\.nn\.Module"):
        load_module("torch:zeros", {"size": (1,)})


@pytest.mark.parametrize("name", ["generator.pth", "g.safetensors"])
def test_weights_without_their_class_are_refused_with_the_command_to_use(name: str) -> None:
    message = failure("import", name, "--name", "mine")
    assert f"genserve import mymodel:Generator --weights {name} --latent 100" in message


@pytest.mark.slow
def test_the_public_names_are_there_and_cost_nothing_before_they_are_used() -> None:
    program = (
        "import sys, training; assert 'torch' not in sys.modules; "
        "print(*(getattr(training, name).__name__ for name in training.__all__))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "publish_module" in done.stdout.split()
