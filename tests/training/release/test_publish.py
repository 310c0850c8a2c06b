"""Releasing a run: checkpoint, card, picture, curves."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.training.networks.checkpoints import with_metadata
from tests.training.tiny import (
    CPU,
    assert_same,
    failure,
    measured,
    small,
    state,
)
from training.__main__ import main
from training.data.sources import data_spec, load_data
from training.evaluation import cas, judge, measures
from training.evaluation.evaluate import Effort, draw
from training.evaluation.judge_networks import ChoosingJudge, PublishingJudge
from training.evaluation.measures import class_shares
from training.evaluation.metric_docs import BESIDE, MEANINGS, rows
from training.evaluation.metric_sensitivity import BY_HEART, DAMAGES
from training.loops import heldout, prior_fit
from training.networks import build
from training.networks.checkpoint import load
from training.networks.configs import GanConfig
from training.networks.graph.network import with_graphs
from training.networks.graph.onnx_file import portable_graphs
from training.presets import PRESETS
from training.release import publish, tone_curve
from training.release.card import card
from training.release.class_frequencies import offsets_for
from training.release.portable import quantise
from training.release.published import STORE
from training.release.tone_curve import with_tone_curve
from training.runs.run_folder import new_run_folder, write_config


@dataclasses.dataclass(frozen=True)
class Published:
    """A trained and published run, in a working folder of its own."""

    kind: str
    here: Path
    data_root: Path
    printed: str

    @property
    def name(self) -> str:
        return f"mnist-{self.kind}-v1"

    @property
    def path(self) -> Path:
        return self.here / "models_store" / f"{self.name}.safetensors"


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure with a judge of one epoch, sixty samples, and twenty for CAS."""
    monkeypatch.setattr(ChoosingJudge, "epochs", 1)
    monkeypatch.setattr(PublishingJudge, "epochs", 1)
    monkeypatch.setattr(judge, "BATCH", 20)
    monkeypatch.setattr(judge, "LEAST_STEPS", 1)
    monkeypatch.setattr(Effort.__init__, "__defaults__", (60, 20, 3, 10))
    monkeypatch.setattr(cas, "STEPS", 2)
    monkeypatch.setattr(measures, "KID_SUBSETS", 2)
    monkeypatch.setattr(prior_fit, "BATCH", 16)
    monkeypatch.setattr(tone_curve, "SAMPLES", 200)
    monkeypatch.setattr(quantise, "TABLE", 256)
    monkeypatch.setattr(quantise, "CALIBRATION", 64)


@pytest.fixture(scope="module", params=["gan", "cgan", "vae"])
def published(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mnist_writer: Callable[[Path], Path],
) -> Published:
    kind = request.param
    parent = tmp_path_factory.mktemp(f"published-{kind}")
    root, here = mnist_writer(parent / "data"), parent / "here"
    here.mkdir()
    prior = ["--prior-steps", "3"] if kind == "vae" else []
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as monkeypatch:
        quick(monkeypatch)
        monkeypatch.setattr(heldout, "SAMPLES", 60)
        monkeypatch.chdir(here)
        main([kind, *small(root), "--seed", "3", *prior])
        read, write = os.pipe()
        with os.fdopen(read) as reader:
            with os.fdopen(write, "w") as writer:
                monkeypatch.setattr(sys, "stdout", writer)
                main(["publish", f"runs/{kind}-compact-001", "--threads", "1"])
                monkeypatch.undo()
            printed = reader.read()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    return Published(kind, here, root, printed)


@pytest.fixture
def at_published(
    published: Published, monkeypatch: pytest.MonkeyPatch, no_graphs: None
) -> Published:
    """Its working folder; what is published there now has no graphs."""
    quick(monkeypatch)
    monkeypatch.chdir(published.here)
    return published


def test_a_card_says_whether_labels_taught_the_modes_of_z(published: Published) -> None:
    network, description = load(published.path)
    picture = [("samples.png", "80 samples, none chosen.")]
    assert "selects the class" not in card("x", STORE, description, "0" * 64, network, picture)
    if isinstance(description.network, GanConfig) and not description.labels:
        shape = dataclasses.replace(description.network, modes=10)
        taught = dataclasses.replace(description, network=shape)
        shown = card("x", STORE, taught, "0" * 64, network, picture)
        assert "the largest of z's first 10 numbers selects the class." in shown
        assert "Offsets" not in shown
        shape = dataclasses.replace(shape, mode_offsets=(0.1,) * 10)
        taught = dataclasses.replace(description, network=shape)
        assert "Offsets on these numbers" in card("x", STORE, taught, "0" * 64, network, picture)


def test_a_cards_command_finds_the_checkpoint_and_tells_no_path(published: Published) -> None:
    network, description = load(published.path)
    picture = [("samples.png", "80 samples, none chosen.")]
    for store, option in (
        (STORE, ""),
        (Path("models_more"), " --store models_more"),
        (Path("/home/me/my models"), " --store STORE"),
        (Path("../home/me"), " --store STORE"),
        (STORE.resolve(), ""),
    ):
        shown = card("x", store, description, "0" * 64, network, picture)
        assert f"`python -m training evaluate x{option}` measures" in shown
        assert "home" not in shown


def test_a_persons_words_are_no_markup_in_a_card(published: Published) -> None:
    network, description = load(published.path)
    picture = [("samples.png", "80 samples, none chosen.")]
    odd = dataclasses.replace(
        description,
        labels=("a|b", "<b>x<", "[c](http://d)"),
        data={**description.data, "licence": "<i>mine"},
    )
    shown = card("x", STORE, odd, "0" * 64, network, picture)
    assert r"| labels | a\|b, &lt;b&gt;x&lt;, \[c\](http://d) |" in shown
    assert "licence &lt;i&gt;mine." in shown


def test_a_card_says_when_there_are_too_few_real_images(published: Published) -> None:
    network, description = load(published.path)
    picture = [("samples.png", "80 samples, none chosen.")]
    assert description.metrics["real_images"] == 20
    few = "They are compared with 20 real images."
    assert few in card("x", STORE, description, "0" * 64, network, picture)
    many = dataclasses.replace(description, metrics=description.metrics | {"real_images": 1000})
    assert "They are compared" not in card("x", STORE, many, "0" * 64, network, picture)


@pytest.mark.usefixtures("no_graphs")
def test_a_gan_trained_with_labels_draws_classes_with_the_frequencies_of_its_images(
    here: Path,
) -> None:
    main(["gan", "--data", "digits", "--label-modes", "1", "--max-steps", "1"])
    main(["publish", "runs/gan-compact-001", "--no-figures", "--threads", "1"])
    config = load(here / "models_store/digits-gan-v1.safetensors")[1].network
    data, _ = load_data(data_spec("digits", here))
    assert isinstance(config, GanConfig)
    assert config.mode_offsets == offsets_for(class_shares(data.labels, 10))
    assert len(set(config.mode_offsets)) > 1


def test_a_published_checkpoint_is_the_runs_average(published: Published) -> None:
    network, description = load(published.path)
    assert description.kind == published.kind
    run_state = state(published.here / f"runs/{published.kind}-compact-001")
    averaged = {k.removeprefix("ema."): v for k, v in run_state.items() if k.startswith("ema.")}
    assert_same(network.state_dict(), averaged)
    assert description.labels == (tuple("0123456789") if published.kind == "cgan" else ())
    plain = build(published.kind, dataclasses.replace(network.config, tone=()))
    plain.load_state_dict(averaged)
    data, _ = load_data(data_spec("mnist", published.data_root))
    assert with_tone_curve(plain.eval(), data).config == description.network
    if published.kind == "vae":  # a GAN of so few steps may be past mending by a curve
        assert description.network.tone
    assert description.digest[:12] in published.printed
    assert str(published.path.name) in published.printed
    assert "serve it with: python -m app --models-dir models_store\n" in published.printed
    assert f"/generate?model={published.path.stem}\n" in published.printed


def test_its_header_tells_data_training_and_metrics(published: Published) -> None:
    description = load(published.path)[1]
    data, _ = load_data(data_spec("mnist", published.data_root))
    assert description.data == {
        "name": "mnist",
        "source": "mnist",
        "fit": "pad",
        "licence": data.licence,
        "training_images": 39 if published.kind == "vae" else 40,
        "digest": data.digest(),
    }
    training = description.training
    assert training["preset"] == "compact"
    assert training["seed"] == 3
    assert training["images_seen"] == (60 if published.kind == "vae" else 80)
    assert training["weights"] == "the last averaged weights of the run"
    assert training["seconds"] >= 0
    assert training["torch"] == torch.__version__
    assert re.fullmatch(r"[0-9a-f]{12}\+?|unknown", training["revision"])
    assert training["run"]["batch_size"] == 10
    metrics = description.metrics
    assert metrics["samples"] == 60
    for name in ("test", "train"):
        assert metrics[f"frechet_{name}"] > 0
        assert metrics[f"frechet_{name}_floor"] > -1e-6  # 0 where all images are in the floor
    assert 0 <= metrics["judge_accuracy"] <= 1
    assert ("conditional_accuracy" in metrics) == (published.kind == "cgan")
    assert ("cas" in metrics) == (published.kind == "cgan")
    assert ("negative_elbo_nats" in metrics) == (published.kind == "vae")
    assert ("nll_binarised_nats" in metrics) == (published.kind == "vae")
    for name in metrics:
        for end in BESIDE:
            name = name.removesuffix(end)
        assert name in MEANINGS
    assert (description.fit is not None) == (published.kind == "vae")


def test_an_export_measures_the_fit_table_of_a_vae_that_has_none(
    at_published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = load(at_published.path)[1].fit
    store = tmp_path / "store"
    store.mkdir()
    without = store / at_published.path.name
    for file in at_published.path.parent.glob(f"{at_published.name}.*"):
        shutil.copy(file, store)
    with_metadata(without, lambda metadata: metadata.pop("fit", None))
    assert load(without)[1].fit is None
    places = ["--store", str(store), "--data-root", str(at_published.data_root)]
    main(["export", without.stem, str(tmp_path / "to"), "--fit", *places])
    description = load(tmp_path / "to" / without.name)[1]
    assert description.fit == fit
    assert description.portable  # it keeps its graphs


def test_its_card_and_picture_stand_beside_it(published: Published) -> None:
    description = load(published.path)[1]
    card = published.path.with_suffix(".md").read_text()
    assert card.startswith(f"# {published.name}\n")
    assert f"`{description.digest}`" in card
    assert f"]({published.name}.png)" in card
    assert description.training["command"] in card
    for row in rows(description.metrics):
        assert f"| {' | '.join(row[:4])} |" in card  # no other judge has chosen
    assert "repeat training images: of 60 samples" in card or "repeats training images: of" in card
    with Image.open(published.path.with_suffix(".png")) as picture:
        assert picture.size == (302, 302 if published.kind == "vae" else 242)
    assert "Published weights: the last averaged weights of the run." in card
    knots = len(load(published.path)[0].config.tone)
    assert (f"tone curve of {knots} knots" in card) == bool(knots)
    assert f"]({published.name}-curves.png)" in card
    curves = published.here / f"runs/{published.kind}-compact-001/curves.png"
    copied = published.path.with_name(f"{published.name}-curves.png")
    assert copied.read_bytes() == curves.read_bytes()
    names = {path.name for path in published.path.parent.iterdir()}
    pictures = (".png", "-morph.png", "-nearest.png", "-curves.png", "-film.webp")
    graphs = [f".{operation}.onnx" for operation in description.operations]
    assert names == {
        f"{published.name}{end}" for end in (".safetensors", ".md", *pictures, *graphs)
    }
    assert all(f"]({published.name}{end})" in card for end in pictures)


def test_the_command_in_its_header_trains_the_same_weights(at_published: Published) -> None:
    _, description = load(at_published.path)
    command = shlex.split(description.training["command"])
    assert command[:4] == ["python", "-m", "training", at_published.kind]
    where = ["--data-root", str(at_published.data_root), "--runs", "again", "--threads", "1"]
    main([*command[3:], *where])
    (folder,) = (at_published.here / "again").iterdir()
    assert_same(state(folder), state(at_published.here / f"runs/{at_published.kind}-compact-001"))


def test_the_best_epoch_is_published_where_that_is_asked_for(at_published: Published) -> None:
    folder = at_published.here / f"runs/{at_published.kind}-compact-001"
    main(["publish", str(folder), "--best", "--name", "best-v1", "--store", "best"])
    network, description = load(at_published.here / "best/best-v1.safetensors")
    assert_same(network.state_dict(), load_file(folder / "best.safetensors"))
    (first, second) = measured(folder)
    (name,) = {"frechet_pixels", "heldout_negative_elbo"} & first.keys()
    lowest = min(first, second, key=lambda line: float(line[name]))
    chosen = description.training["weights"]
    assert f"of step {lowest['step']}, whose {name} was the lowest" in chosen
    assert chosen in (at_published.here / "best/best-v1.md").read_text()
    assert description.training["images_seen"] == lowest["images"]


def test_a_damaged_or_missing_best_file_is_one_line(at_published: Published) -> None:
    folder = at_published.here / "without best"
    shutil.copytree(at_published.here / f"runs/{at_published.kind}-compact-001", folder)
    best = folder / "best.safetensors"
    best.write_bytes(best.read_bytes()[:100])
    publish_it = ("publish", str(folder), "--best", "--name", "other-v1", "--store", "best")
    assert "best.safetensors is damaged" in failure(*publish_it)
    best.unlink()
    assert "no epoch has been measured yet" in failure(*publish_it)


def test_publishing_over_a_published_name_is_refused(at_published: Published) -> None:
    before = {path: path.read_bytes() for path in at_published.path.parent.iterdir()}
    message = failure("publish", f"runs/{at_published.kind}-compact-001", "--threads", "1")
    assert f"models_store/{at_published.name}.safetensors exists" in message
    assert "next version" in message
    assert before == {path: path.read_bytes() for path in at_published.path.parent.iterdir()}


def test_what_is_published_is_portable_and_measured_as_it_is_served(published: Published) -> None:
    network, description = load(published.path)
    assert description.portable
    card = published.path.with_suffix(".md").read_text()
    assert "Portable: it is quantised" in card
    served = with_graphs(network, portable_graphs(published.path, description))
    levels, _ = draw(served, 20, 5)
    floating, _ = draw(network, 20, 5)
    assert 0 < float((levels.float() - floating.float()).abs().mean()) < 12


def test_a_run_can_be_published_in_floating_point(
    at_published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(publish, "quantise")
    run = f"runs/{at_published.kind}-compact-001"
    store = ["--store", str(tmp_path), "--threads", "1"]
    main(["publish", run, "--name", "floating-v1", "--no-figures", "--float", *store])
    assert not load(tmp_path / "floating-v1.safetensors")[1].portable
    assert "In floating point" in (tmp_path / "floating-v1.md").read_text()


def test_a_published_checkpoint_is_quantised_without_training(
    at_published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    quick(monkeypatch)
    monkeypatch.chdir(at_published.here)
    places = ["--data-root", str(at_published.data_root), "--threads", "1"]
    export = ["export", at_published.name, str(tmp_path), "--portable", "--as", "next-v2"]
    main([*export, *places])
    network, description = load(tmp_path / "next-v2.safetensors")
    assert description.portable
    original = load(at_published.path)
    for name, weights in original[0].state_dict().items():
        assert torch.equal(network.state_dict()[name], weights)
    # Of the same weights and by the same calibration the same bytes come out.
    assert {op: graph.golden for op, graph in description.graphs.items()} == {
        op: graph.golden for op, graph in original[1].graphs.items()
    }
    assert (tmp_path / "next-v2.md").read_text().startswith("# next-v2\n")
    with pytest.raises(SystemExit):
        main([*export, *places])  # it exists


def test_evaluate_measures_what_the_header_states(
    at_published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data-root", str(at_published.data_root), "--threads", "1", "--json", "x.json"]
    options += ["--nll-samples", "3", "--nll-images", "10"]
    main(["evaluate", "--all", *options])
    metrics = load(at_published.path)[1].metrics
    assert json.loads(Path("x.json").read_text()) == {at_published.name: metrics}
    printed = capsys.readouterr().out.strip()
    name, head, *lines = printed.splitlines()
    assert name == at_published.name
    assert head.split() == ["figure", "value", "real", "stated", "meaning"]
    for figure, value, *_ in rows(metrics):
        assert value in printed
        assert any(line.split()[0] == figure for line in lines), figure


def test_a_quick_evaluation_leaves_out_what_takes_long(at_published: Published) -> None:
    root = ["--data-root", str(at_published.data_root), "--threads", "1"]
    main(["evaluate", at_published.name, "--quick", *root, "--json", "x.json"])
    (figures,) = json.loads(Path("x.json").read_text()).values()
    assert figures["samples"] == 60
    metrics = load(at_published.path)[1].metrics
    assert {name for name in metrics if name not in figures} == {
        "gan": set(),
        "cgan": {"cas", "cas_real", "cas_gap_points", "cas_images"},
        "vae": {"nll_binarised_nats", "nll_standard_error", "nll_samples", "nll_images"},
    }[at_published.kind]
    assert all(metrics[name] == value for name, value in figures.items())


def test_damage_is_measured_without_a_checkpoint(
    made_up_mnist: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(Effort.__init__, "__defaults__", (20, 20, 3, 10))
    main(["evaluate", "--damage", "--data-root", str(made_up_mnist), "--json", "x.json"])
    found = json.loads(Path("x.json").read_text())
    assert list(found) == [*DAMAGES, BY_HEART]
    assert found[BY_HEART]["training_copies"] == 20
    assert found["none"]["training_copies"] == 0
    assert found["none"]["cas_images"] == 20
    assert "| `recall` |" in capsys.readouterr().out


def test_the_judge_is_trained_once_and_kept(at_published: Published) -> None:
    kept_here = (at_published.here / "runs/judges").iterdir()
    (path,) = (path for path in kept_here if "-cas-" not in path.name)
    data, _ = load_data(data_spec("mnist", at_published.data_root))
    assert path.name == f"mnist-{data.digest()[:12]}-v{PublishingJudge.version}.safetensors"
    before = path.read_bytes()
    kept = judge.judge_for(PublishingJudge, data, CPU)
    assert_same(kept.state_dict(), load_file(path))
    assert path.read_bytes() == before
    fresh = judge.judge_for(PublishingJudge, data, CPU, at_published.here / "elsewhere")
    assert_same(kept.state_dict(), fresh.state_dict())  # data and fixed seeds alone
    assert not kept.training
    assert not any(parameter.requires_grad for parameter in kept.parameters())


def test_the_judge_command_trains_the_same_judge_again_and_tells_another_from_it(
    made_up_mnist: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    quick(monkeypatch)
    command = ["judge", "--data-root", str(made_up_mnist), "--threads", "1"]
    command += ["--which", "publishing"]
    main(command)
    data, _ = load_data(data_spec("mnist", made_up_mnist))
    path = judge.judge_path(PublishingJudge, data)
    shown = capsys.readouterr().out
    assert path.exists()
    assert re.search(
        rf"{path}: real_images 20, .*judge_accuracy [0-9.]+, .*frechet_test [0-9]",
        shown,
    )
    assert "the two judges" not in shown  # there is nothing to compare it with
    assert f"error: {path} exists; name another --folder" in failure(*command)

    main([*command, "--folder", "again"])
    assert_same(load_file(Path("again", path.name)), load_file(path))
    assert "the two judges are equal: their figures are comparable" in capsys.readouterr().out

    monkeypatch.setattr(PublishingJudge, "learning_rate", 0.01)
    main([*command, "--folder", "other"])
    shown = capsys.readouterr().out
    assert shown.count("judge_accuracy_worst") == 2
    assert "of the test images: their figures are not comparable" in shown


def test_a_run_without_a_state_is_not_published(made_up_mnist: Path, here: Path) -> None:
    folder = new_run_folder(here / "runs", "gan", "compact")
    settings = PRESETS["gan"]["compact"]
    write_config(folder, "gan", "compact", settings, data_spec("mnist", made_up_mnist))
    assert "has no state.safetensors yet: nothing to publish" in failure("publish", str(folder))
