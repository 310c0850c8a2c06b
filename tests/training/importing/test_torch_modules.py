"""Torch modules become checkpoints; what would keep one from being served is told in words."""

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.importing import generators
from tests.training.tiny import failure
from training import GeneratorError, publish_module
from training.__main__ import main
from training.importing.options import noise_inputs
from training.importing.torch_module import load_module
from training.importing.torch_pass import Method
from training.networks.graph.config import GraphConfig
from training.networks.header import read

HERE = "tests.training.importing.generators"
COUNT = itertools.count(1)
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
    assert "compared with torch on 256 samples" in said
    assert "rows alone and among others: the same bits" in said
    description = read(tmp_path / "store/mine.safetensors").description
    assert description.graphs["generate"].samples == 256
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
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (generators.Autoencoder, {}),
        (generators.ConditionalAutoencoder, {"labels": ["a", "b"], "label_form": "one_hot"}),
    ],
)
def test_an_autoencoders_two_methods_are_published(
    tmp_path: Path, kind: type[nn.Module], options: dict[str, Any]
) -> None:
    config = published(tmp_path, kind(), latent=3, method="decode", encode="encode", **options)
    assert config.num_classes == len(options.get("labels", []))
    assert config.operations == ("generate", "decode", "encode")
    assert config.posterior == ("mu", "logvar")
    assert config.output.range == "0..1"
    graphs = read(tmp_path / "mine.safetensors").description.graphs
    assert graphs["encode"].samples == 256
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


@pytest.mark.slow
def test_a_few_samples_may_differ_where_a_rounding_decides(tmp_path: Path) -> None:
    torch.manual_seed(0)
    said: list[str] = []
    published(tmp_path / "few", generators.Chooses(0.003), say=said.append)
    assert any("of 256 samples differ in part by over 1e-03" in line for line in said)
    message = reason(tmp_path / "many", generators.Chooses(0.1))
    assert "the exported graph differs from torch by" in message


def test_a_latent_of_another_shape_is_told(tmp_path: Path) -> None:
    message = reason(tmp_path, generators.Flat(), latent=7)
    assert "fails on inputs of shapes [2, 7]" in message
    assert "are --latent and the labels what it takes?" in message


@pytest.mark.parametrize(
    ("change", "reason_given"),
    [
        (lambda x: None, "returns a NoneType; return the images as one tensor"),
        (lambda x: [], "returns a list of nothing"),
        (lambda x: (None, x), "returns a tuple of NoneType, Tensor; return the images as one tens"),
        (lambda x: {"a": x, "b": x}, "returns a dict with the tensors a, b; return the images"),
        (lambda x: x.numpy(), "returns a ndarray"),
        (lambda x: x.mean(), "2 rows in give an output of shape []; its first axis has to be the"),
        (lambda x: x[:0], "2 rows in give an output of shape [0, 16]"),
        (lambda x: torch.complex(x, x), "returns torch.complex64 numbers, torch.strided; return d"),
        (lambda x: x.to_sparse(), "returns torch.float32 numbers, torch.sparse_coo; return dense"),
        (lambda x: sys.exit(0), "it fails on inputs of shapes [2, 5]: SystemExit: 0"),
        (lambda x: x.bfloat16() @ x.T, "dtype; got: c10::BFloat16 and float|inputs and weights a"),
        (lambda x: x + torch.zeros(1, device="meta"), "take that of an input, as in device=z.dev"),
        (lambda x: x * next(COUNT), "a second pass with the same inputs gives something else"),
    ],
)
def test_what_is_no_batch_of_images_is_told_before_an_export(
    tmp_path: Path, change: Callable[[Tensor], Any], reason_given: str
) -> None:
    message = reason(tmp_path, generators.Changed(change))
    assert any(part in message for part in reason_given.split("|"))


def test_images_are_found_in_what_holds_them() -> None:
    z = torch.randn(2, 5)
    wrapped: list[Callable[[Tensor], Any]] = [
        lambda x: (x, None),
        lambda x: {"picture": x, "step": 3},
        lambda x: {"sample": x, "mask": x > 0},
        generators.Held,
    ]
    for change in wrapped:
        module = generators.Changed(change).eval()
        (found,) = Method(module, "forward", encodes=False)(z)
        assert torch.equal(found, module.model(z))


def test_of_a_normal_distribution_mean_and_log_variance_are_taken() -> None:
    posterior = torch.distributions.Normal(torch.zeros(2, 3), torch.full((2, 3), 2.0))
    module = generators.Changed(lambda x: torch.distributions.Independent(posterior, 1))
    mean, logvar = Method(module, "forward", encodes=True)(torch.zeros(2, 5))
    assert torch.equal(mean, torch.zeros(2, 3))
    assert torch.allclose(logvar, torch.full((2, 3), math.log(4.0)))


@pytest.mark.slow
def test_a_module_of_other_numbers_is_served_in_float32_and_left_as_it_is(tmp_path: Path) -> None:
    module = generators.Convolutional().half().train()
    before = {name: (value, value.clone()) for name, value in module.state_dict().items()}
    options = {"latent": (2, 1, 1), "labels": ["a", "b", "c"], "label_form": "one_hot"}
    assert published(tmp_path, module, **options).image_shape == (3, 4, 4)
    assert all(layer.training for layer in module.modules())
    for name, value in module.state_dict().items():
        same, copy = before[name]
        assert value.data_ptr() == same.data_ptr()
        assert torch.equal(value, copy)


def test_modules_without_values_or_python_code_are_refused(tmp_path: Path) -> None:
    assert "it is on the device meta" in reason(tmp_path, generators.Flat().to("meta"))
    assert "layers that get their size in the first pass" in reason(tmp_path, nn.LazyLinear(16))
    with pytest.deprecated_call():
        traced = torch.jit.trace(generators.Flat().eval(), torch.zeros(2, 5))
    assert "not a torch.nn.Module of Python code" in reason(tmp_path, traced)
    message = reason(tmp_path, generators.Autoencoder(), method="decoder")
    assert "has no method decoder; its methods are encode, decode" in message
    message = reason(tmp_path, generators.Autoencoder())
    assert "has no method forward; its methods are encode, decode" in message


@pytest.mark.parametrize(
    ("latent", "shapes"),
    [
        (5, [(5,)]),
        (np.int64(5), [(5,)]),
        ([4, 8, 8], [(4, 8, 8)]),
        ("4x8x8", [(4, 8, 8)]),
        ([5, "2:uniform", (1, 1)], [(5,), (2,), (1, 1)]),
    ],
)
def test_a_latent_is_a_size_a_shape_a_text_or_several(
    latent: Any, shapes: list[tuple[int, ...]]
) -> None:
    assert [part.shape for part in noise_inputs(latent)] == shapes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 5.0}, "latent is 5.0; give a size such as 100, a shape"),
        ({"latent": []}, "latent is []; give a size"),
        ({"latent": 10**30}, "is not 1 to 6 sides of at least 1, with at most 262144 numbers"),
        ({"latent": (5, 0)}, "the latent 5x0 is not"),
        ({"latent": ["5"] * 65}, "65 noise inputs are given; at most 64"),
        ({"labels": "cat,dog"}, "give a list of names"),
        ({"output": (0, 2)}, "output is (0, 2); allowed: (0, 1), (-1, 1), (0, 255)"),
        (
            {"labels": ["a"], "label_form": "onehot"},
            "label_form is 'onehot'; allowed: index, one_hot",
        ),
        ({"image": (16,)}, "image is (16,); it is channels, height and width"),
        ({"name": "My Faces"}, "'My Faces' is not a valid name"),
    ],
)
def test_what_a_notebook_says_is_checked_first(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    assert message in reason(tmp_path, generators.Flat(), **options)


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
