"""A torch module to an ONNX model of any batch size; and what would keep it from being served."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from training.importing.errors import GeneratorError
from training.importing.onnx_file import OPSET, at_allowed_opset

# Names under which modules of well-known libraries return what they compute, best first.
_IMAGES = ("sample", "reconstruction", "images", "recon_x", "x", "pixels")
_MEANS = ("embedding", "mean", "mu", "latents", "latent", "z", "quantized")
_VARIANCES = ("log_covariance", "logvar", "log_var")
_RANDOM = (
    *("rand", "randn", "rand_like", "randn_like", "randint", "bernoulli", "bernoulli_", "normal"),
    *("normal_", "uniform_", "multinomial", "native_dropout", "exponential_", "randperm"),
)

_FIXED_BATCH = (
    "the batch is fixed in its code: where view, reshape, expand or repeat has a number of rows, "
    "write x.size(0) or -1"
)


class Method(nn.Module):
    """One method of a module as a module whose outputs are tensors.

    Args:
        as_image: The input that the method takes as an image of one pixel, (B, C, 1, 1) for (B, C).
    """

    def __init__(
        self, module: nn.Module, method: str, *, encodes: bool, as_image: int | None = None
    ) -> None:
        super().__init__()
        self.module = module
        self._method, self._encodes, self._as_image = method, encodes, as_image

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs that are served: images, or a latent, or mean and log-variance."""
        if self._as_image is not None:
            at, label = self._as_image, inputs[self._as_image]
            inputs = (*inputs[:at], label[:, :, None, None], *inputs[at + 1 :])
        result = getattr(self.module, self._method)(*inputs)
        return _latents(result) if self._encodes else (_image(result),)


def _attributes(result: Any, names: Sequence[str]) -> Tensor | None:
    for name in names:
        value = result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)
        if isinstance(value, Tensor):
            return value
    return None


def _image(result: Any) -> Tensor:
    if isinstance(result, Tensor):
        return result
    found = (
        None
        if isinstance(result, tuple) and type(result) is tuple
        else _attributes(result, _IMAGES)
    )
    if found is None and isinstance(result, tuple | list) and isinstance(result[0], Tensor):
        found = result[0]
    if found is None:
        raise GeneratorError(
            f"it returns a {type(result).__name__}; return the images as one tensor"
        )
    return found


def _latents(result: Any) -> tuple[Tensor, ...]:
    if isinstance(result, Tensor):
        return (result,)
    if type(result) in (tuple, list) and all(isinstance(part, Tensor) for part in result[:2]):
        mean, *others = result[:2]
        same = bool(others) and others[0].shape == mean.shape
        return (mean, others[0]) if same else (mean,)
    posterior = getattr(result, "latent_dist", result)  # diffusers' AutoencoderKL
    mean, variance = _attributes(posterior, _MEANS), _attributes(posterior, _VARIANCES)
    if mean is None:
        raise GeneratorError(
            f"encode returns a {type(result).__name__}; return mu and logvar, or one latent"
        )
    return (mean,) if variance is None else (mean, variance)


class _RandomFinder(TorchDispatchMode):
    """Notes which layer draws random numbers."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []
        self._stack: list[str] = []
        self._hooks = []
        for name, layer in module.named_modules():
            label = f"{name.removeprefix('module.') or 'the module'} ({type(layer).__name__})"
            self._hooks.append(layer.register_forward_pre_hook(self._entering(label)))
            self._hooks.append(layer.register_forward_hook(self._left))

    def _entering(self, label: str) -> Callable[..., None]:
        return lambda *_: self._stack.append(label)

    def _left(self, *_: object) -> None:
        self._stack.pop()

    def __torch_dispatch__(
        self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.name().partition("::")[2].partition(".")[0]
        if name in _RANDOM:
            self.found.append(f"{name} in {self._stack[-1] if self._stack else 'the module'}")
        return function(*args, **(kwargs or {}))

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


def check_layers(module: nn.Module) -> None:
    """Refuse layers whose rows depend on each other by design.

    Raises:
        GeneratorError: names them.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None:
            raise GeneratorError(
                f"layer {name} ({type(layer).__name__}) has no running averages, so it normalises "
                "by the batch that an image happens to be in; train it with "
                "track_running_stats=True"
            )


def check_pass(method: Method, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """One pass in torch, which draws nothing and is the same a second time.

    Raises:
        GeneratorError: it fails, or draws random numbers; says where.
    """
    finder = _RandomFinder(method)
    try:
        with torch.no_grad(), finder:
            outputs: tuple[Tensor, ...] = method(*inputs)
    except GeneratorError:
        raise
    except Exception as error:  # the user's code may raise anything
        shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GeneratorError(
            f"it fails on inputs of shapes {shapes}: {type(error).__name__}: {text[:300]}; are "
            "--latent and the labels what it takes?"
        ) from error
    finally:
        finder.close()
    if finder.found:
        listed = "; ".join(dict.fromkeys(finder.found))
        advice = (
            "dropout is left on: F.dropout needs training=self.training"
            if "dropout" in listed or "bernoulli" in listed
            else "an image would not depend on its seed alone: make the noise an argument of "
            "forward and name it with --latent"
        )
        raise GeneratorError(f"it draws random numbers inside ({listed[:300]}): {advice}")
    if any(layer.training for layer in method.module.modules()):
        raise GeneratorError("it switches itself to training mode in its pass; remove self.train()")
    return outputs


def export(method: Method, inputs: Mapping[str, Tensor], outputs: Sequence[str], name: str) -> Any:
    """An ONNX model of a method, for any batch size.

    Raises:
        GeneratorError: torch cannot export it; says why as far as that is known.
    """
    batch = torch.export.Dim("batch", min=1, max=2**16)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
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
    except Exception as error:
        raise GeneratorError(f"{name}: {_why(error)}") from error
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
