"""Makes a checkpoint of a generator from elsewhere: tried, described, with a picture and a card."""

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.importing.card import card, write_picture
from training.importing.errors import GeneratorError
from training.importing.generator import Decoder, Floats, InTorch, Quantise, Say, with_encoder
from training.importing.onnx_file import read_onnx
from training.importing.options import Options, noise_inputs
from training.importing.signature import image_shape
from training.importing.torch_export import (
    export,
    label_place,
    named_noise,
    takes_label,
    torch_inputs,
    with_label,
)
from training.importing.torch_pass import Method, as_served, check_layers, check_pass, run_torch
from training.importing.trial import EXACT, SLOW_S, Trial
from training.networks.checkpoint import save
from training.networks.configs import GRAPH, Operation
from training.networks.files import CheckpointError
from training.networks.graph.config import RANGES
from training.networks.graph.onnx_file import graph_path
from training.networks.graph.rows import Feed
from training.networks.header import Description, read

QUEUE_MS = 1000  # the service's default of max_queue_ms, by which a slow generator is judged


def import_onnx(
    path: Path,
    encoder: Path | None,
    options: Options,
    say: Say = print,
    quantise: Quantise | None = None,
) -> Path:
    """Import an exported graph.

    Args:
        path: Of ``generate``, or of ``decode`` where there is an encoder.
        encoder: Of ``encode``; None = none.
        options: What the file does not say.
        say: Gets what was found, line by line.
        quantise: Makes a graph portable (``training.release.portable.imported``); None = as it is.

    Returns:
        The checkpoint.

    Raises:
        GeneratorError: it cannot be served; says why and what to do.
    """
    model = read_onnx(path)
    other = None if encoder is None else read_onnx(encoder)
    return _publish(model, other, options, say, path.name, {}, quantise)


def publish_module(
    module: nn.Module,
    *,
    name: str,
    latent: Any,
    store: str | Path = "models_store",
    labels: Sequence[str] = (),
    output: tuple[float, float] | None = None,
    method: str = "forward",
    encode: str | None = None,
    label_form: str = "index",
    say: Say = print,
    **options: Any,
) -> Path:
    """Publish a module that is in memory, so that the service can serve it.

    It is left as it is: on its device, in its mode and its type of numbers.

    Args:
        module: Its ``method`` takes a batch of latents, then labels if there are classes, and
            returns images (B, C, H, W), (B, H, W, C), or rows of pixels.
        name: To serve it under.
        latent: The shape of one image's noise: ``100``, ``(100, 1, 1)``, ``"4x8x8:uniform"``; or
            for several inputs in the order of the arguments a list of such shapes and texts.
        store: Folder of checkpoints.
        labels: Class names by index.
        output: Numbers of black and of full intensity; None = told by the samples.
        method: That makes images.
        encode: Method that makes latents of images (B, C, H, W); None = none.
        label_form: ``index``, int64 (B,), or ``one_hot``, float32 (B, K).
        say: Gets what was found, line by line.
        options: More fields of ``training.importing.options.Options``.

    Returns:
        The checkpoint, ready to be served.

    Raises:
        GeneratorError: it cannot be served as it is; says why and what to do.
    """
    if isinstance(labels, str | int):
        raise GeneratorError(f"labels are {labels!r}; give a list of names: ['cat', 'dog']")
    text = None
    if output is not None:
        given = tuple(output) if isinstance(output, Iterable) else ()
        text = next((key for key, pair in RANGES.items() if pair == given), None)
        if text is None:
            raise GeneratorError(f"output is {output}; allowed: (0, 1), (-1, 1), (0, 255)")
    chosen = Options(
        name=name,
        store=Path(store),
        labels=tuple(map(str, labels)),
        latent=noise_inputs(latent),
        range=text,
        label_form=label_form if labels else None,
        **options,
    )
    return import_torch(module, method, encode, chosen, say)


def import_torch(
    module: nn.Module,
    method: str,
    encode: str | None,
    options: Options,
    say: Say = print,
    quantise: Quantise | None = None,
) -> Path:
    """Import a torch module: export it, and compare it with torch. As ``import_onnx``."""
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise GeneratorError(
            f"it is a {type(module).__name__}, not a torch.nn.Module of Python code"
        )
    for name in filter(None, (method, encode)):
        found = getattr(module, name, None)
        if not callable(found) or getattr(found, "__func__", None) is nn.Module.forward:
            raise GeneratorError(
                f"{type(module).__name__} has no method {name}{_listed(type(module))}"
            )
    check_layers(module)
    with as_served(module):
        return _import_served(module, method, encode, options, say, quantise)


def _listed(kind: type) -> str:
    """The methods of a class that are its author's."""
    own = [c for c in kind.__mro__ if issubclass(c, nn.Module) and c is not nn.Module]
    names = [n for c in own for n, value in vars(c).items() if callable(value) and n[0] != "_"]
    return f"; its methods are {', '.join(dict.fromkeys(names))[:300]}" if names else ""


def _import_served(
    module: nn.Module,
    method: str,
    encode: str | None,
    options: Options,
    say: Say,
    quantise: Quantise | None,
) -> Path:
    """As ``import_torch``, of a module ``as_served``."""
    noise = named_noise(options.latent)
    inputs = torch_inputs(noise, options, label_place(module, method))
    decoder, images = _decoder_pass(module, method, inputs, options)
    name = type(module).__name__
    say(f"{name}: {method} gives {list(images.shape[1:])} for each latent; exporting it")
    model = export(decoder, inputs, ["image"], f"{name}.{method}")
    references: dict[Operation, InTorch] = {"generate": _in_torch(decoder, list(inputs))}
    other = None
    if encode is not None:
        shape = image_shape(tuple(images.shape[1:]), options)[0]
        encoder = Method(module, encode, encodes=True)
        taken, outputs = _encoder_pass(encoder, shape, options, takes_label(module, encode))
        names = ["mu", "logvar"][: len(outputs)] if len(outputs) == 2 else ["latent"]
        say(f"{name}: {encode} gives {', '.join(names)}; exporting it")
        other = export(encoder, taken, names, f"{name}.{encode}")
        references["encode"] = _in_torch(encoder, list(taken))
    options = dataclasses.replace(options, latent=noise)
    return _publish(model, other, options, say, name, references, quantise)


def _decoder_pass(
    module: nn.Module, method: str, inputs: Mapping[str, Tensor], options: Options
) -> tuple[Method, Tensor]:
    """The method, which takes a one-hot label as a row or as an image of one pixel; its images."""
    rows = list(inputs.values())
    decoder = Method(module, method, encodes=False)
    try:
        return decoder, check_pass(decoder, rows)[0]
    except GeneratorError:
        if options.label_form == "one_hot":
            at = list(inputs).index("label")
            decoder = Method(module, method, encodes=False, as_image=at)
            with contextlib.suppress(GeneratorError):  # then something else is wrong
                return decoder, check_pass(decoder, rows)[0]
        raise


def _encoder_pass(
    encoder: Method, shape: tuple[int, int, int], options: Options, labelled: bool
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """What encode takes, with pictures as images or as rows of pixels; and what it gives."""
    images = torch.rand(2, *shape)
    tries = []
    for pictures in (images, images.flatten(1)):
        inputs = {"picture": pictures}
        if labelled and options.labels:
            inputs = with_label(inputs, options, label_place(encoder.module, encoder.name))
        tries.append(inputs)
    fits = "does it take pictures of this shape?"
    try:
        return tries[0], check_pass(encoder, list(tries[0].values()), fits)
    except GeneratorError as error:
        try:
            return tries[1], check_pass(encoder, list(tries[1].values()), fits)
        except GeneratorError:
            raise error from None


def _in_torch(method: Method, names: Sequence[str]) -> InTorch:
    """The method as a function of a graph's inputs."""

    def compute(feed: Feed) -> list[Floats]:
        tensors = [torch.from_numpy(np.ascontiguousarray(feed[name])) for name in names]
        return [output.float().numpy() for output in run_torch(method, tensors)]

    return compute


def _publish(
    model: Any,
    encoder: Any,
    options: Options,
    say: Say,
    source: str,
    references: Mapping[Operation, InTorch],
    quantise: Quantise | None,
) -> Path:
    """Try the graphs, describe them, and write the checkpoint."""
    path = options.store / f"{options.name}.safetensors"
    if path.exists() and not options.replace:
        raise GeneratorError(f"{path} exists; choose another --name, or replace it with --replace")
    generator = Decoder(model, options, source, "decode" if encoder is not None else "generate")
    trial, images = generator.tried(say, references.get("generate"))
    config, files = generator.config, {generator.operation: generator.data}
    graphs = {generator.operation: generator.graph}
    if encoder is not None:
        config, data, graph = with_encoder(
            encoder, config, options, source, images, references.get("encode"), say
        )
        files["encode"], graphs["encode"] = data, graph
    if quantise is not None:
        if encoder is not None:
            raise GeneratorError("--portable is for images alone; leave the encoder out")
        trial, images = generator.quantised(quantise, say, images)
        config, files = generator.config, {generator.operation: generator.data}
        graphs = {generator.operation: generator.graph}
    _say_trial(say, trial)
    description = Description(
        kind=GRAPH,
        network=config,
        labels=options.labels,
        data={
            "name": options.data,
            "source": options.source or "imported",
            "licence": options.licence,
            "fit": options.fit,
        },
        training={
            "imported_from": source,
            "note": options.note,
            "milliseconds_an_image": round(trial.milliseconds, 3),
            "largest_batch_megabytes": round(trial.megabytes, 1),
            "torch": torch.__version__,
        },
        graphs=graphs,
    )
    with tempfile.TemporaryDirectory(
        prefix=f".{options.name}.", dir=_folder(options.store)
    ) as made:
        staged = Path(made) / path.name
        for operation, content in files.items():
            graph_path(staged, operation).write_bytes(content)
        digest = save(staged, None, description)
        try:
            read(staged)  # as the service will
        except CheckpointError as error:
            raise GeneratorError(str(error).replace(str(staged), source)) from error
        write_picture(staged.with_suffix(".png"), images)
        staged.with_suffix(".md").write_text(card(options.name, description, digest, trial))
        # The checkpoint last: a service that starts meanwhile finds all that it refers to.
        for file in sorted(Path(made).iterdir(), key=lambda one: one.suffix == ".safetensors"):
            shutil.move(file, options.store / file.name)
    say(f"published {path}, digest {digest[:12]}; serve it with: genserve serve")
    say(f"and request: /generate?model={options.name}&seed=42")
    return path


def _folder(store: Path) -> Path:
    store.mkdir(parents=True, exist_ok=True)
    return store


def _say_trial(say: Say, trial: Trial) -> None:
    rows = "the same bits" if trial.difference == EXACT else f"within {trial.difference:.1e}"
    say(
        f"rows alone and among others: {rows}; {trial.milliseconds:.3g} ms an image on one core in "
        f"batches of {trial.max_batch}, {trial.megabytes:.0f} MB"
    )
    if trial.milliseconds > SLOW_S * 1e3:
        waiting = max(1, QUEUE_MS / trial.milliseconds)
        say(
            f"slow: about {waiting:.0f} images may wait before others are refused with 503, since "
            f"nothing waits longer than GENSERVE_MAX_QUEUE_MS = {QUEUE_MS}"
        )
