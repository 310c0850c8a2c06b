"""A torch module to an ONNX model of any batch size: its inputs, and what torch cannot export."""

import dataclasses
import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.importing.errors import GeneratorError
from training.importing.onnx_file import OPSET, at_allowed_opset
from training.importing.options import Options
from training.importing.torch_pass import Method
from training.networks.graph.config import Noise

# What authors call the argument of the class.
_LABEL_NAMES = ("label", "labels", "y", "c", "cls", "class_labels", "class_label", "classes")

_FIXED_BATCH = (
    "the batch is fixed in its code: where view, reshape, expand or repeat has a number of rows, "
    "write x.size(0) or -1"
)


def named_noise(latent: Sequence[Noise]) -> tuple[Noise, ...]:
    """Noise inputs with names for a graph that is exported here."""
    if not latent:
        raise GeneratorError("the shape of the latent is not known: give --latent, such as 100")
    return tuple(
        dataclasses.replace(part, name=part.name or ("z" if not index else f"noise{index}"))
        for index, part in enumerate(latent)
    )


def label_place(module: nn.Module, method: str) -> int | None:
    """Which argument of the method is the label, by its name; None = not told, so the last."""
    names = list(_parameters(module, method))
    return next((i for i, name in enumerate(names) if name.lower() in _LABEL_NAMES), None)


def takes_label(module: nn.Module, method: str) -> bool:
    """Whether an encoder takes a label beside the picture."""
    needed = [
        one
        for one in _parameters(module, method).values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    return label_place(module, method) is not None or len(needed) > 1


def _parameters(module: nn.Module, method: str) -> Mapping[str, inspect.Parameter]:
    found = getattr(module, method)
    try:
        return inspect.signature(
            found.forward if isinstance(found, nn.Module) else found
        ).parameters
    except (TypeError, ValueError):  # of compiled code
        return {}


def torch_inputs(noise: Sequence[Noise], options: Options, place: int | None) -> dict[str, Tensor]:
    """Two rows of each input of the method that makes images, in the order of its arguments."""
    inputs = {part.name: torch.randn(2, *part.shape) for part in noise}
    for part in noise:
        if part.distribution == "categorical":
            inputs[part.name] = torch.zeros(2, *part.shape)
            inputs[part.name][..., 0] = 1
    return with_label(inputs, options, place) if options.labels else inputs


def with_label(
    inputs: Mapping[str, Tensor], options: Options, place: int | None
) -> dict[str, Tensor]:
    """Inputs with two labels at a place among them; None = the last."""
    classes = len(options.labels)
    index = torch.arange(2) % classes
    one_hot = options.label_form == "one_hot"
    label = nn.functional.one_hot(index, classes).float() if one_hot else index
    places = list(inputs.items())
    places.insert(len(places) if place is None else place, ("label", label))
    return dict(places)


def export(method: Method, inputs: Mapping[str, Tensor], outputs: Sequence[str], name: str) -> Any:
    """An ONNX model of a method, for any batch size.

    Raises:
        GeneratorError: torch cannot export it; says why as far as that is known.
    """
    batch = torch.export.Dim("batch", min=1, max=2**16)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    # Distributions would branch on values to check them.
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter warns about its own use of torch
            program = torch.onnx.export(
                method,
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=(tuple({0: batch} for _ in inputs),),  # of *inputs
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except (Exception, SystemExit) as error:
        raise GeneratorError(f"{name}: {_why(error)}") from error
    finally:
        torch.distributions.Distribution.set_default_validate_args(__debug__)  # torch's default
    assert program is not None
    model = program.model_proto
    if any(end.type.tensor_type.shape.dim[0].HasField("dim_value") for end in model.graph.input):
        raise GeneratorError(f"{name}: {_FIXED_BATCH}")
    return at_allowed_opset(model, name)


def _why(error: BaseException) -> str:
    """What an exporter's error means, and what to do."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(texts) < 10:
        texts.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    text = "\n".join(texts)
    if "Constraints violated" in text or "specialized" in text or "marked batch" in text:
        return _FIXED_BATCH
    if "data-dependent" in text or "DataDependent" in text or "unbacked" in text:
        return (
            "a shape or a branch depends on values (an if on a tensor, .item(), masks, "
            "nonzero): rows of a batch could not share a pass; write it with torch.where"
        )
    if "No decompositions" in text or "No ONNX function" in text or "not supported" in text:
        wanted = next((line for line in text.splitlines() if "aten" in line), "")
        return f"torch has no ONNX operator for a part of it: {wanted.strip()[:200]}"
    lines = [line for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return f"torch cannot export it: {lines[-1].strip()[:300]}"
