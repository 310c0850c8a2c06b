"""A generator's graphs, described and tried: the one that makes images, and the encoder's."""

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.importing.errors import GeneratorError
from training.importing.onnx_file import finish, rename_input, with_image_input, with_image_output
from training.importing.options import Options
from training.importing.signature import (
    assigned_inputs,
    checked_range,
    ends_of,
    image_shape,
    picture_and_label,
)
from training.importing.trial import Trial, run, session_of, try_graph
from training.networks.configs import Operation
from training.networks.golden import golden_inputs, output_digest
from training.networks.graph.config import MAX_BATCH, GraphConfig, Pixels
from training.networks.graph.rows import Feed, decoder_feed, encoder_feed, from_graph
from training.networks.header import Graph
from training.networks.noise import latents_of_seeds

Say = Callable[[str], object]
Floats = NDArray[np.float32]
Quantise = Callable[[bytes, GraphConfig], bytes]
InTorch = Callable[[Feed], list[Floats]]  # what torch computes of a graph's inputs

MAX_DIFFERENCE = 1e-3  # from torch, of a pixel's range
# Share of the samples of which one place may differ by more. Where a network chooses (the nearest
# code, a sign), a rounding decides between two that are equally near, here and there in a few
# samples; what is exported wrongly is wrong at its place in nearly all of them.
MOST_APART = 0.05
PICTURES = 80  # samples in the card's picture
SAMPLES = 256  # compared with torch, where they take so little time and memory; else the trial's
MOST_COMPARED_MS, MOST_COMPARED_BYTES = 5e3, 2**26


class Decoder:
    """The graph that makes images: its config is found, and it is tried."""

    def __init__(self, model: Any, options: Options, source: str, operation: Operation) -> None:
        self.operation = operation
        self._options, self._source, self._model = options, source, model
        ends = ends_of(model, source)
        self._noise, self._label = assigned_inputs(ends, options, source)
        wanted = options.range
        self._output = ends.outputs[0]
        self.data = finish(model, source)
        session = session_of(self.data, source)
        shape = self._first_shape(session)
        self.image_shape, layout, reshaped = image_shape(shape, options)
        if reshaped:
            row = self.image_shape
            self._output = with_image_output(model, self._output, row)
            self.data = finish(model, source)
            session = session_of(self.data, source)
        self._session = session
        self.config = self._config(layout, wanted or "0..1")
        self.graph = Graph(hashlib.sha256(self.data).hexdigest(), 0, 0.0, 0.0)

    def _config(self, layout: str, pixels: str) -> GraphConfig:
        options = self._options
        first = self._noise[0].distribution
        truncation = options.truncation
        if truncation is None:
            truncation = first not in ("sphere", "categorical")
        try:
            return GraphConfig(
                architecture="graph",
                graphs=("decode", "encode") if self.operation == "decode" else ("generate",),
                noise=self._noise,
                label=self._label,
                num_classes=len(options.labels),
                image_shape=self.image_shape,
                output=Pixels(self._output, layout, pixels),
                input=Pixels("pending") if self.operation == "decode" else None,
                posterior=("pending",) if self.operation == "decode" else (),
                truncation=truncation,
                mean_latent=options.mean_latent,
                max_batch=MAX_BATCH,
            )
        except ValueError as error:
            raise GeneratorError(f"{self._source}: {error}") from error

    def _feed(self, indices: NDArray[np.int64], config: GraphConfig | None = None) -> Feed:
        config = config or self.config
        labels = indices % config.num_classes if config.num_classes else None
        return decoder_feed(config, latents_of_seeds(config, indices.tolist()), labels)

    def _first_shape(self, session: Any) -> tuple[int, ...]:
        self.image_shape = (1, 1, 1)
        config = self._config("NCHW", "0..1")
        try:
            (output,) = run(session, [self._output], self._feed(np.arange(2), config), self._source)
        except MemoryError as error:
            raise GeneratorError(f"{self._source}: {error}; it cannot be served") from error
        if len(output) != 2:
            raise GeneratorError(
                f"{self._source}: 2 rows in give an output of shape {list(output.shape)}; its "
                "first axis has to be the batch"
            )
        return output.shape[1:]

    def _ask_about_classes(self, say: Say) -> None:
        """Tell if an index beyond the classes gives images too.

        A table of embeddings fails beyond its end; codes made of an index are all zero there, so
        that the next index gives the same image.
        """
        label, classes = self.config.label, self.config.num_classes
        if label is None or label.form != "index":
            return
        images = []
        for index in (classes, classes + 1):
            feed = self._feed(np.arange(1)) | {label.name: np.array([index])}
            with contextlib.suppress(GeneratorError, MemoryError):
                images += run(self._session, [self._output], feed, self._source)
        if images and not (len(images) == 2 and np.array_equal(images[0], images[1])):
            say(f"label {classes} gives an image too: are there more classes than {classes}?")

    def quantised(self, quantise: Quantise, say: Say, before: Floats) -> tuple[Trial, Floats]:
        """Make it portable; tells what that costs in likeness. As ``tried``.

        Args:
            quantise: Makes the graph portable.
            say: Gets the cost.
            before: Images of the same seeds, in floating point.
        """
        self.data = quantise(self.data, self.config)
        self._session = session_of(self.data, self._source)
        output = dataclasses.replace(self.config.output, range="0..255")
        self.config = dataclasses.replace(self.config, output=output)
        self._options = dataclasses.replace(self._options, range="0..255")
        trial, images = self.tried(lambda _: None, None)
        count = min(len(before), len(images))
        apart = np.abs(np.rint(before[:count] * 255) - images[:count] * 255)
        golden, labels = golden_inputs(self.config, self.operation, self.config.max_batch)
        rows = decoder_feed(self.config, golden, labels)
        (raw,) = run(self._session, [self._output], rows, self._source)
        self.graph = Graph(
            hashlib.sha256(self.data).hexdigest(),
            count,
            float(apart.max() / 255),
            float((apart > 0).mean()),
            float(apart.mean()),
            output_digest([from_graph(raw, self.config, len(raw))]),
        )
        say(
            f"portable: of {count} images the pixels differ by {apart.mean():.2g} of 255 levels on "
            f"average, at most {apart.max():.0f}; {(apart > 1).mean():.1%} by more than one"
        )
        return trial, images

    def tried(self, say: Say, reference: InTorch | None) -> tuple[Trial, Floats]:
        """What the trial found, and images (n, C, H, W) in [0, 1]. Sets the config and graph."""
        largest = self._options.max_batch or MAX_BATCH
        (raw,), trial = try_graph(self._session, [self._output], self._feed, self._source, largest)
        pixels = checked_range(raw, self._options.range, self._source, say)
        config = dataclasses.replace(
            self.config,
            max_batch=trial.max_batch,
            output=dataclasses.replace(self.config.output, range=pixels),
        )
        self.config = config
        if (
            len(raw) > 1
            and float(np.ptp(from_graph(raw, config, len(raw)), axis=0).max()) < 1 / 255
        ):
            say("every sample is the same image: are these the weights, and is the latent used?")
        self._ask_about_classes(say)
        wanted = _samples(trial, raw, PICTURES if trial.milliseconds < 200 else len(raw))
        (raw,) = _more([raw], wanted, trial.max_batch, self._pass)
        images = from_graph(raw, config, len(raw))
        if reference is not None:
            expected = np.concatenate(
                [reference(self._feed(part))[0] for part in _parts(0, len(raw), trial.max_batch)]
            )
            theirs = from_graph(expected.reshape(raw.shape), config, len(raw))
            difference = _difference(np.abs(theirs - images), self._source, say)
            differing = float((np.rint(theirs * 255) != np.rint(images * 255)).mean())
            say(f"compared with torch on {len(raw)} samples: largest difference {difference:.1e}")
            self.graph = dataclasses.replace(
                self.graph,
                samples=len(raw),
                max_difference=difference,
                differing_pixels=differing,
            )
        return trial, images

    def _pass(self, indices: NDArray[np.int64]) -> list[Floats]:
        return run(self._session, [self._output], self._feed(indices), self._source)


def _samples(trial: Trial, rows: Floats, otherwise: int) -> int:
    """SAMPLES, if so many rows are had in little time and memory."""
    cheap = trial.milliseconds * SAMPLES < MOST_COMPARED_MS
    return SAMPLES if cheap and rows[0].nbytes * SAMPLES <= MOST_COMPARED_BYTES else otherwise


def _difference(apart: Floats, name: str, say: Say) -> float:
    """The largest difference of a graph from torch, of samples (n, ...).

    Raises:
        GeneratorError: it is too large at one place in too many of them.
    """
    wrong, worst = ~(apart <= MAX_DIFFERENCE), float(apart.max())  # a NaN is wrong
    samples = int(wrong.reshape(len(apart), -1).any(axis=1).sum())
    if wrong.mean(axis=0).max() > MOST_APART or not math.isfinite(worst):
        raise GeneratorError(
            f"{name}: the exported graph differs from torch by {worst:.1e}, in {samples} of "
            f"{len(apart)} samples by more than {MAX_DIFFERENCE:.0e}"
        )
    if samples:
        say(
            f"{samples} of {len(apart)} samples differ in part by over {MAX_DIFFERENCE:.0e}: it "
            "chooses inside (a nearest code, a sign), where a rounding may decide"
        )
    return worst


def _parts(first: int, end: int, size: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + size, end)) for start in range(first, end, size)]


def _more(
    outputs: list[Floats],
    wanted: int,
    size: int,
    compute: Callable[[NDArray[np.int64]], list[Floats]],
) -> list[Floats]:
    """The outputs and those of the samples that follow, up to ``wanted`` of them."""
    parts = [outputs, *map(compute, _parts(len(outputs[0]), wanted, size))]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def with_encoder(
    model: Any,
    config: GraphConfig,
    options: Options,
    source: str,
    images: Floats,
    reference: InTorch | None,
    say: Say,
) -> tuple[GraphConfig, bytes, Graph]:
    """The config with its encoder, the encoder's graph, and how well it matches torch."""
    name = f"{source} (encode)"
    picture, label = picture_and_label(ends_of(model, name), config, name)
    if label is not None and config.label is not None:
        rename_input(model, label, config.label.name)
    ends = ends_of(model, name)
    _, row = ends.inputs[picture]
    layout = "NCHW"
    shape = config.image_shape
    if row != shape:
        if tuple(row) == (*shape[1:], shape[0]):
            layout = "NHWC"
        elif all(isinstance(n, int) for n in row) and math.prod(map(int, row)) == math.prod(shape):
            picture = with_image_input(model, picture, shape, tuple(map(int, row)))
        elif not all(not isinstance(n, int) or n == m for n, m in zip(row, shape, strict=False)):
            raise GeneratorError(
                f"{name} takes pictures of {list(row)}; decode gives {list(shape)}"
            )
    numbers = options.input_range or options.range or config.output.range
    data = finish(model, name)
    session = session_of(data, name)
    names = list(ends.outputs[:2])
    pixels = Pixels(picture, layout, numbers)
    config = dataclasses.replace(config, input=pixels)
    taken = {end.name for end in session.get_inputs()}

    def feed(indices: NDArray[np.int64]) -> Feed:
        """Pictures that decode made, and the labels that it made them of."""
        indices = indices % len(images)
        labels = indices % config.num_classes if config.num_classes else None
        return encoder_feed(config, images[indices], labels, taken)

    def encoded(indices: NDArray[np.int64]) -> list[Floats]:
        return run(session, list(ends.outputs[:2]), feed(indices), name)

    outputs, trial = try_graph(session, names, feed, name, config.max_batch)
    size = config.latent_dim
    if math.prod(outputs[0].shape[1:]) != size:
        raise GeneratorError(
            f"{name} gives latents of {list(outputs[0].shape[1:])}; decode takes {size} numbers"
        )
    if len(names) == 2 and outputs[1].shape != outputs[0].shape:
        names = names[:1]
    done = dataclasses.replace(
        config,
        posterior=tuple(names),
        max_batch=min(config.max_batch, trial.max_batch),
    )
    graph = Graph(hashlib.sha256(data).hexdigest(), 0, 0.0, 0.0)
    if reference is not None:
        wanted = min(_samples(trial, images, len(outputs[0])), len(images))
        outputs = _more(outputs, wanted, trial.max_batch, encoded)
        expected = [
            reference(given | {"picture": given[picture].reshape(-1, *map(int, row))})
            for part in _parts(0, len(outputs[0]), trial.max_batch)
            for given in [feed(part)]
        ]
        differences = [
            np.abs(one - other) / np.maximum(np.abs(other), 1)
            for one, *others in zip(outputs, *expected, strict=False)
            for other in [np.concatenate(others)]
        ]
        worst = max(_difference(part, name, say) for part in differences)
        graph = dataclasses.replace(graph, samples=len(outputs[0]), max_difference=worst)
    say(f"encode gives {', '.join(names)}: {size} numbers a picture")
    return done, data, graph
