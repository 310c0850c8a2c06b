"""``publish``, ``evaluate``, ``export``, ``export-triton`` and ``judge``."""

import argparse
import dataclasses
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from training.cli.arguments import new_data_spec
from training.cli.importing import import_generator
from training.data.dataset import DataError, Dataset, DataSpec
from training.data.sources import DEFAULT, data_spec, load_data
from training.evaluation.evaluate import Effort, evaluate, reference_for
from training.evaluation.judge import judge_path, load_judge, save_weights, train_judge
from training.evaluation.judge_networks import ChoosingJudge, Judge, PublishingJudge
from training.evaluation.judged_reference import JudgedReference
from training.evaluation.likelihood import check_effort
from training.evaluation.metric_docs import plain_table, rounded
from training.evaluation.metric_sensitivity import measure_damages, sensitivity_table
from training.evaluation.reference import Reference
from training.importing.errors import GeneratorError
from training.importing.graph_network import GraphNetwork
from training.networks.checkpoint import load
from training.networks.configs import GRAPH
from training.networks.files import CheckpointError
from training.networks.gan import Generator
from training.networks.graph.network import with_graphs
from training.networks.graph.onnx_file import graph_path, portable_graphs
from training.networks.header import Description, read
from training.networks.vae import VAE
from training.optim.hardware import pick_device
from training.release.export import export_checkpoint
from training.release.fit_table import stated_holdout, unseen_pictures
from training.release.publish import publish
from training.release.published import check_data, data_of
from training.release.requantise import requantise
from training.release.triton import export_triton
from training.runs.errors import TrainingError


def publish_run(arguments: argparse.Namespace) -> None:
    """``publish``."""
    publish(
        arguments.run,
        arguments.store,
        arguments.name,
        arguments.data,
        arguments.data_root,
        pick_device(arguments.device),
        arguments.best,
        measured=not arguments.no_figures,
        portable=not arguments.float,
    )


def evaluate_published(arguments: argparse.Namespace) -> None:
    """``evaluate``."""
    names = list(arguments.names)
    if bool(names or arguments.all) == arguments.damage:
        raise TrainingError("name checkpoints of the store, or use --all, or --damage alone")
    effort = Effort(nll_samples=arguments.nll_samples, nll_images=arguments.nll_images)
    usual = Effort.nll_samples, Effort.nll_images
    if arguments.quick and (arguments.nll_samples, arguments.nll_images) != usual:
        raise TrainingError(
            "--quick leaves out the likelihood: drop it, or --nll-samples and --nll-images"
        )
    if not arguments.damage:
        known = _check_published(arguments.store, names)
        names = known if arguments.all else names
    device = pick_device(arguments.device)
    if arguments.quick:
        effort = dataclasses.replace(effort, cas_images=0, nll_samples=0)
    if arguments.json:
        arguments.json.open("a").close()  # an unwritable file fails before minutes of work
    if arguments.damage:
        reference = reference_for(*load_data(_data_spec(arguments)), device, effort)
        figures = measure_damages(reference.judged.judge, reference.train, reference.test, effort)
        print(sensitivity_table(figures))
        _write_json(arguments.json, figures)
        return
    # For the same reason all are read and compared with their data before the first is measured.
    sets: dict[DataSpec, tuple[Dataset, Dataset]] = {}
    loaded, skipped = {}, []
    for name in names:
        path = arguments.store / f"{name}.safetensors"
        try:
            network, description = _load(path)
            spec = data_of(path, description, arguments.data, arguments.data_root)
            if spec not in sets:
                sets[spec] = load_data(spec)
            train, test = (part.in_order_of(description.labels) for part in sets[spec])
            check_data(path, description, train)
            if isinstance(network, VAE) and effort.nll_samples:
                check_effort(effort.nll_samples, effort.nll_images, len(test))
        except (DataError, CheckpointError, GeneratorError) as error:
            if not arguments.all:
                raise
            skipped.append(f"{name}: {error}")
            continue
        loaded[name] = network, description, (spec, train.class_names), (train, test)
    # Shared by the checkpoints of one data set whose labels are in one order.
    references: dict[tuple[DataSpec, tuple[str, ...]], Reference] = {}
    figures = {}
    for name, (network, description, data, parts) in loaded.items():
        if data not in references:
            references[data] = reference_for(*parts, device, effort)
        if not (arguments.float or isinstance(network, GraphNetwork)):
            path = arguments.store / f"{name}.safetensors"
            network = with_graphs(network, portable_graphs(path, description))
        figures[name] = evaluate(network.to(device), references[data], effort)
        print(f"\n{name}\n{plain_table(figures[name], description.metrics)}", flush=True)
        _write_json(arguments.json, figures)
    _write_json(arguments.json, figures)
    if skipped:
        raise TrainingError("not measured: " + "; ".join(skipped))


def export(arguments: argparse.Namespace) -> None:
    """``export``."""
    _check_published(arguments.store, [arguments.name])
    path = arguments.store / f"{arguments.name}.safetensors"

    def load_images(description: Description) -> tuple[Dataset, Dataset]:
        train, test = load_data(data_of(path, description, arguments.data, arguments.data_root))
        check_data(path, description, train)
        return train, test

    def load_pictures(description: Description) -> Dataset:
        return unseen_pictures(*load_images(description), stated_holdout(description.training))

    if arguments.portable:
        copied = requantise(
            path,
            arguments.folder / f"{arguments.new_name or arguments.name}.safetensors",
            *load_images(read(path).description),
            pick_device(arguments.device),
            measured=not arguments.no_figures,
        )
    else:
        copied = export_checkpoint(path, arguments.folder, load_pictures if arguments.fit else None)
    for operation, graph in read(copied).description.graphs.items():
        print(
            f"{graph_path(copied, operation)}: largest difference from torch "
            f"{graph.max_difference:.1e}, {graph.differing_pixels:.1e} of the 8-bit pixels differ, "
            f"over {graph.samples} samples"
        )


def write_triton(arguments: argparse.Namespace) -> None:
    """``export-triton``."""
    _check_published(arguments.store, [])
    names = export_triton(arguments.store, arguments.folder)
    print(f"{arguments.folder}: {', '.join(names)}")


JUDGES = {judge.name: judge for judge in (ChoosingJudge, PublishingJudge)}


def retrain_judges(arguments: argparse.Namespace) -> None:
    """``judge``: train one or both with the fixed seeds, and compare with those in use."""
    device = pick_device(arguments.device)
    train, test = (part.to(device) for part in load_data(new_data_spec(arguments)))
    kinds = [JUDGES[arguments.which]] if arguments.which else list(JUDGES.values())
    for kind in kinds:
        path = arguments.folder / judge_path(kind, train).name
        if path.exists():
            raise TrainingError(f"{path} exists; name another --folder, or delete it")
    for kind in kinds:
        _retrain_judge(kind, train, test, arguments.folder, device)


def _retrain_judge(
    kind: type[Judge], train: Dataset, test: Dataset, folder: Path, device: torch.device
) -> None:
    in_use = judge_path(kind, train)
    path = folder / in_use.name
    print(f"training the {kind.name} judge on {len(train)} images", flush=True)
    save_weights(train_judge(kind, train, device), path)
    chosen = Reference(load_judge(kind, path, train, device), train, test).chosen
    places = [path, in_use] if in_use.exists() and in_use != path else [path]
    judged = [
        JudgedReference(load_judge(kind, place, train, device), train, test, chosen)
        for place in places
    ]
    for place, one in zip(places, judged, strict=True):
        figures = rounded({"real_images": len(chosen)} | one.judge_figures | one.floors)
        print(f"{place}: {', '.join(f'{name} {value}' for name, value in figures.items())}")
    if len(judged) == 2:
        new, old = (reference.judged_test for reference in judged)
        if torch.equal(new.features, old.features):
            print("the two judges are equal: their figures are comparable")
        else:
            share = float((new.classes == old.classes).double().mean())
            print(
                f"the two judges differ, although they agree on {share:.2%} of the test images: "
                "their figures are not comparable"
            )


COMMANDS = {
    "publish": publish_run,
    "evaluate": evaluate_published,
    "export": export,
    "export-triton": write_triton,
    "judge": retrain_judges,
    "import": import_generator,
}


def _load(path: Path) -> tuple[Generator | VAE | GraphNetwork, Description]:
    """A published checkpoint, of ours or imported."""
    description = read(path).description
    if description.kind == GRAPH:
        return GraphNetwork(path, description), description
    return load(path)


def _data_spec(arguments: argparse.Namespace) -> DataSpec:
    """The data that ``--data`` names, else the default set."""
    source = DEFAULT if arguments.data is None else arguments.data
    return data_spec(source, arguments.data_root)


def _check_published(store: Path, names: Sequence[str]) -> list[str]:
    """The names of all checkpoints in a store.

    Raises:
        TrainingError: one of ``names`` is not among them, or there are none.
    """
    known = sorted(path.stem for path in store.glob("*.safetensors"))
    if not known:
        raise TrainingError(
            f"{store} holds no checkpoints (*.safetensors): publish a run, or name another --store"
        )
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise TrainingError(
                f"{store} has no checkpoint {name!r}; it has {', '.join(known)}"
                f"{f'. Did you mean {near[0]}?' if near else ''}"
            )
    return known


def _write_json(path: Path | None, figures: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n")
