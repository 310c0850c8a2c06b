"""Graphs that were imported from elsewhere, on ONNX Runtime: what their header says of latents,
labels and pixels, made of the service's own and back.

Such a graph may come from a stranger. It cannot loop, call out or read files
(``training.networks.graph.onnx_file``), but a few of its operators can ask for any memory and take
any time. So all imported graphs of a process share one arena of MAX_MEMORY, from which every value
between their operators comes, and a first pass that takes longer than FIRST_PASS_S is ended: shapes
follow from the batch alone, so that later passes take what the first one took.
"""

import threading
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.engines.backend import Backend, EngineName, Floats, GraphError, Labels
from app.engines.onnx_backend import session_options
from training.networks.configs import Operation
from training.networks.files import errors_naming
from training.networks.graph.config import GraphConfig, Pixels
from training.networks.graph.onnx_file import graph_path, read_graph
from training.networks.graph.rows import (
    Feed,
    decoder_feed,
    encoder_feed,
    from_graph,
    output_names,
)
from training.networks.header import Description

MAX_MEMORY = 2 * 2**30  # bytes; an import chooses batches that take a quarter of it
FIRST_PASS_S = 30.0  # an import chooses batches that take about half a second

_OUTPUT_TYPES = ("tensor(float)", "tensor(float16)", "tensor(double)", "tensor(uint8)")


@cache
def _share_arena() -> None:
    """Make the arena that sessions with ``session.use_env_allocators`` allocate from."""
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"max_mem": MAX_MEMORY}))


def _session(data: bytes, threads: int) -> ort.InferenceSession:
    _share_arena()
    options = session_options(threads)
    options.add_session_config_entry("session.use_env_allocators", "1")
    # It would compute what depends on constants alone while the graph is loaded, and outside of the
    # arena; an import has done that already.
    return ort.InferenceSession(
        data,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["ConstantFolding"],
    )


class ImportedBackend(Backend):
    """See ``Backend``.

    Args:
        checkpoint: The checkpoint's file; its graphs are beside it.
        description: Of that checkpoint; its kind is ``graph``.
        threads: CPU threads of one pass.

    Raises:
        CheckpointError: a graph is missing, altered, not allowed, or not what the header says. The
            message names the file.
    """

    engine: ClassVar[EngineName] = "onnx"

    def __init__(self, checkpoint: Path, description: Description, threads: int) -> None:
        config = description.network
        assert isinstance(config, GraphConfig)
        self.device, self.threads = "cpu", threads
        self.reference = config.max_batch
        self.sizes = tuple(size for size in (1, 2, 4, 8, 16, 32, 64) if size <= config.max_batch)
        # As in ``OnnxBackend``.
        self.bounded_time = threads == 1
        self._config = config
        self._sessions: dict[Operation, ort.InferenceSession] = {}
        for operation, graph in description.graphs.items():
            data = read_graph(checkpoint, operation, graph, imported=True)
            with errors_naming(graph_path(checkpoint, operation)):
                session = _session(data, threads)
                check_signature(session, config, operation)
            self._sessions[operation] = session
        self._timed: set[Operation] = set()  # whose first pass has ended

    def run(self, operation: Operation, batch: Floats, labels: Labels | None) -> tuple[Floats, ...]:
        config = self._config
        if operation == "encode":
            names = {end.name for end in self._sessions["encode"].get_inputs()}
            outputs = self._pass("encode", encoder_feed(config, batch, labels, names))
            latents = [output.reshape(len(batch), -1) for output in outputs]
            if any(part.shape[1] != config.latent_dim for part in latents):
                raise GraphError(
                    f"encode gives {', '.join(str(part.shape[1:]) for part in latents)} numbers "
                    f"a picture; its latent has {config.latent_dim}"
                )
            return tuple(latents)
        decoder: Operation = "generate" if "generate" in self._sessions else "decode"
        (pixels,) = self._pass(decoder, decoder_feed(config, batch, labels))
        try:
            return (from_graph(pixels, config, len(batch)),)
        except ValueError as error:
            raise GraphError(str(error)) from error

    def _pass(self, operation: Operation, feed: Feed) -> list[NDArray[np.float32]]:
        """One pass of a graph, in memory and time that are limited."""
        names = output_names(self._config, operation)
        options = ort.RunOptions()
        timer = None
        if operation not in self._timed:
            timer = threading.Timer(FIRST_PASS_S, setattr, (options, "terminate", True))
            timer.start()
        try:
            outputs = self._sessions[operation].run(names, feed, options)
        except Exception as error:
            if "bfc_arena" in str(error):
                raise GraphError(
                    f"{operation} needs more than the {MAX_MEMORY >> 20} MiB that imported graphs "
                    f"have for a batch of {len(next(iter(feed.values())))}"
                ) from error
            if "terminate" in str(error).lower() and timer and not timer.is_alive():
                raise GraphError(
                    f"{operation} of {len(next(iter(feed.values())))} rows takes over "
                    f"{FIRST_PASS_S:g} s"
                ) from error
            raise
        finally:
            if timer:
                timer.cancel()
        self._timed.add(operation)
        return [np.asarray(output, dtype=np.float32) for output in outputs]


def check_signature(
    session: ort.InferenceSession, config: GraphConfig, operation: Operation
) -> None:
    """Refuse a graph whose inputs or outputs are not what the header says.

    Raises:
        ValueError: they are not; the message says which.
    """
    inputs = {end.name: end for end in session.get_inputs()}
    if operation == "encode":
        assert config.input is not None
        wanted = {config.input.name: ("tensor(float)", _image_row(config, config.input))}
    else:
        wanted = {part.name: ("tensor(float)", part.shape) for part in config.noise}
    # An encoder may take the label or not.
    if config.label is not None and (operation != "encode" or config.label.name in inputs):
        one_hot = config.label.form == "one_hot"
        wanted[config.label.name] = (
            ("tensor(float)", (config.num_classes,)) if one_hot else ("tensor(int64)", ())
        )
    if set(inputs) != set(wanted):
        raise ValueError(f"its inputs are {', '.join(inputs)}; the header has {', '.join(wanted)}")
    for name, (kind, row) in wanted.items():
        if inputs[name].type != kind:
            raise ValueError(f"input {name} is a {inputs[name].type}, not a {kind}")
        _check_shape(f"input {name}", inputs[name].shape, row)
    outputs = {end.name: end for end in session.get_outputs()}
    for name in output_names(config, operation):
        if name not in outputs:
            raise ValueError(f"it has no output {name}; it has {', '.join(outputs)}")
        if outputs[name].type not in _OUTPUT_TYPES:
            raise ValueError(f"output {name} is a {outputs[name].type}, not numbers")
        if operation != "encode":
            _check_shape(f"output {name}", outputs[name].shape, _image_row(config, config.output))


def _image_row(config: GraphConfig, pixels: Pixels) -> tuple[int, ...]:
    channels, height, width = config.image_shape
    return (height, width, channels) if pixels.layout == "NHWC" else (channels, height, width)


def _check_shape(what: str, shape: list[int | str | None], row: tuple[int, ...]) -> None:
    """Refuse a shape other than (batch, *row); a side that the graph does not tell may be any."""
    if not shape and what.startswith("output"):
        return  # ONNX Runtime did not infer it; each pass is checked
    if shape and isinstance(shape[0], int):
        raise ValueError(f"{what} takes a batch of {shape[0]} only")
    known = zip(shape[1:], row, strict=False)
    if len(shape) != 1 + len(row) or any(isinstance(n, int) and n != m for n, m in known):
        raise ValueError(f"{what} has rows of {shape[1:]}, the header says {list(row)}")
