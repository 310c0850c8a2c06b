"""Networks on ONNX Runtime, from the graphs that were exported beside the checkpoint; CPU only."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.engines.backend import Backend, EngineName, Floats, Labels, Output
from training.networks.configs import NetworkConfig, Operation
from training.networks.files import errors_naming
from training.networks.graph.config import GraphConfig
from training.networks.graph.onnx_file import graph_path, read_graph
from training.networks.header import Description

# Type and shape of inputs and of outputs, by name.
_Signature = tuple[dict[str, tuple[object, ...]], dict[str, tuple[object, ...]]]
# ONNX Runtime's severity. Errors are raised, too, and what it writes could wait for its reader.
_LOG_FATAL = 4


def session_options(threads: int) -> ort.SessionOptions:
    """How every session runs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _LOG_FATAL
    # Threads that spin until the next pass would take the core from the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _signature(config: NetworkConfig, operation: Operation, portable: bool) -> _Signature:
    """Type and shape, without the batch, of an operation's inputs and outputs, by name."""
    z = ("tensor(float)", config.latent_dim)
    pixels = ("tensor(float)", *config.image_shape)
    if operation == "encode":
        return {"images": pixels}, {"mu": z, "logvar": z}
    inputs: dict[str, tuple[object, ...]] = {"z": z}
    if config.num_classes:
        inputs["labels"] = ("tensor(int64)",)
    if portable:
        return inputs, {"levels": ("tensor(uint8)", *config.image_shape)}
    return inputs, {"pixels": pixels}


class OnnxBackend(Backend):
    """See ``Backend``.

    Args:
        checkpoint: The checkpoint's file; its graphs are beside it.
        description: Of that checkpoint; it lists the graphs.
        threads: CPU threads of one pass.

    Raises:
        CheckpointError: a graph is missing, altered, not allowed, or not of this network. The
            message names the file.
    """

    engine: ClassVar[EngineName] = "onnx"
    # A row costs nearly the same in every batch, so more sizes would save next to nothing, and
    # each takes a part of the start-up to probe.
    sizes = (1, 2, 4, 8, 16, 32, 64)

    def __init__(self, checkpoint: Path, description: Description, threads: int) -> None:
        self.device, self.threads = "cpu", threads
        # No graph has a loop (``training.networks.graph.onnx_file``), and a single thread waits for
        # none.
        self.bounded_time = threads == 1
        network = description.network
        assert not isinstance(network, GraphConfig)  # see ``imported_backend``
        self._sessions: dict[Operation, ort.InferenceSession] = {}
        for operation, graph in description.graphs.items():
            data = read_graph(checkpoint, operation, graph)
            with errors_naming(graph_path(checkpoint, operation)):
                session = ort.InferenceSession(
                    data, session_options(threads), providers=["CPUExecutionProvider"]
                )
                wanted = _signature(network, operation, bool(graph.golden))
                _check(session, wanted, operation)
            self._sessions[operation] = session
        self._outputs = {
            operation: [output.name for output in session.get_outputs()]
            for operation, session in self._sessions.items()
        }

    def run(self, operation: Operation, batch: Floats, labels: Labels | None) -> tuple[Output, ...]:
        feed: dict[str, NDArray[np.float32] | NDArray[np.int64]]
        feed = {"images" if operation == "encode" else "z": batch}
        if labels is not None:
            feed["labels"] = labels
        return tuple(self._sessions[operation].run(self._outputs[operation], feed))


def _check(session: ort.InferenceSession, wanted: _Signature, operation: Operation) -> None:
    """Refuse a graph whose inputs or outputs are not those of the network's operation.

    Raises:
        ValueError: they are not; the message gives both.
    """
    for ends, expected in zip((session.get_inputs(), session.get_outputs()), wanted, strict=True):
        actual = {end.name: (end.type, *end.shape[1:]) for end in ends}
        if actual != expected:
            raise ValueError(f"it has {actual} where {operation} has {expected}")
        if any(isinstance(end.shape[0], int) for end in ends):
            raise ValueError("it takes one batch size only")
