"""A store as a model repository of NVIDIA Triton: its ONNX graphs as they are, and what they take.

Triton runs the bare graphs. Their inputs are latents and label indices, and their outputs pixels in
0 to 1: seeds, recipes, PNG and checks of labels are the service's.

Source: the model configuration of the Triton Inference Server, ``model_config.proto``.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from training.networks.configs import GRAPH, Operation
from training.networks.files import CheckpointError
from training.networks.graph.onnx_file import read_graph
from training.networks.header import Description, read

MAX_BATCH = 64  # images; as GENSERVE_MAX_N, a request's most
_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.DOUBLE: "TYPE_FP64",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.BOOL: "TYPE_BOOL",
}


def export_triton(store: Path, folder: Path) -> list[str]:
    """Write the repository.

    Model ``NAME`` generates; ``NAME.encode`` and ``NAME.decode`` are an autoencoder's other two, as
    in the service's own Open Inference Protocol.

    Args:
        store: Of published checkpoints.
        folder: Of the repository; it must not exist.

    Returns:
        The models' names.

    Raises:
        CheckpointError: a checkpoint or a graph is damaged, or none has graphs.
        FileExistsError: there is a folder.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; name a new folder, or delete it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    names = []
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        unfinished = Path(scratch) / "repository"
        for checkpoint in sorted(store.glob("*.safetensors")):
            description = read(checkpoint).description
            for operation, graph in description.graphs.items():
                imported = description.kind == GRAPH
                data = read_graph(checkpoint, operation, graph, imported)
                suffix = "" if operation == "generate" else f".{operation}"
                name = f"{checkpoint.stem}{suffix}"
                version = unfinished / name / "1"
                version.mkdir(parents=True)
                (version / "model.onnx").write_bytes(data)
                config = model_config(name, data, description, operation)
                (unfinished / name / "config.pbtxt").write_text(config)
                names.append(name)
        if not names:
            raise CheckpointError(
                f"no checkpoint in {store} has graphs: python -m training export NAME FOLDER"
            )
        shutil.move(unfinished, folder)
    return names


def model_config(name: str, data: bytes, description: Description, operation: Operation) -> str:
    """``config.pbtxt`` of a graph.

    Args:
        name: The model's.
        data: The graph.
        description, operation: What it is, for ``parameters``.
    """
    graph = onnx.load_from_string(data).graph
    values = [*graph.input, *graph.output]
    batched = all(_sides(value)[:1] == [-1] for value in values)
    parameters = {"operation": operation, "kind": description.kind, "digest": description.digest}
    if description.labels and operation == "generate":
        parameters["labels"] = ",".join(description.labels)
    return "\n".join(
        [
            "# Written by `python -m training export-triton`.",
            f'name: "{name}"',
            'backend: "onnxruntime"',
            f"max_batch_size: {MAX_BATCH if batched else 0}",
            _tensors("input", graph.input, batched),
            _tensors("output", graph.output, batched),
            *(["dynamic_batching { }"] if batched else []),
            *(
                f'parameters {{ key: "{key}" value {{ string_value: "{_escaped(value)}" }} }}'
                for key, value in parameters.items()
            ),
            "",
        ]
    )


def _sides(value: onnx.ValueInfoProto) -> list[int]:
    """A tensor's shape; -1 = any."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]


def _tensors(kind: str, values: Sequence[onnx.ValueInfoProto], batched: bool) -> str:
    """``input`` or ``output`` of the configuration."""
    entries = []
    for value in values:
        sides = _sides(value)[batched:]
        # Triton knows no tensor without sides: one number a row goes in as a row of one number.
        dims, reshape = (sides, "") if sides else ([1], " reshape { shape: [ ] }")
        kind_of = _TYPES[value.type.tensor_type.elem_type]
        entries.append(
            f'  {{ name: "{_escaped(value.name)}" data_type: {kind_of} dims: {dims}{reshape} }}'
        )
    return f"{kind} [\n" + ",\n".join(entries) + "\n]"


def _escaped(text: str) -> str:
    """As a string of protobuf's text format."""
    return "".join(
        c
        if c.isprintable() and c not in '"\\' and ord(c) < 128
        else "".join(f"\\{byte:03o}" for byte in c.encode())
        for c in text
    )
