"""Passes of a torch module as it is served; and what would keep it from being that."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from training.importing.errors import GeneratorError, said
from training.importing.trial import MOST_S

# Names under which modules of well-known libraries return what they compute, best first.
_IMAGES = ("sample", "reconstruction", "images", "recon_x", "x", "pixels")
_MEANS = ("embedding", "mean", "mu", "latents", "latent", "z", "quantized")
_VARIANCES = ("log_covariance", "logvar", "log_var")
_RANDOM = (
    *("rand", "randn", "rand_like", "randn_like", "randint", "bernoulli", "bernoulli_", "normal"),
    *("normal_", "uniform_", "multinomial", "native_dropout", "exponential_", "randperm"),
)

# What stands in an error of the user's code, and what to do about it.
_ADVICE = {
    "CUDA": "it names a device in its code: take that of an input, as in device=z.device",
    "device": "it names a device in its code: take that of an input, as in device=z.device",
    "dtype": "inputs and weights are float32: leave .half(), .bfloat16() and .double() out of it",
    "positional argument": "it gets one tensor for each --latent, and the labels if classes are "
    "named with --labels or --classes",
    "allocate memory": "an image may take 512 MiB",
}
_FITS_WHAT = "are --latent and the labels what it takes?"


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
        self.encodes = encodes
        self.name, self._as_image = method, as_image

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs that are served: images, or a latent, or mean and log-variance."""
        if self._as_image is not None:
            at, label = self._as_image, inputs[self._as_image]
            inputs = (*inputs[:at], label[:, :, None, None], *inputs[at + 1 :])
        result = getattr(self.module, self.name)(*inputs)
        return _latents(result) if self.encodes else (_image(result),)


def _table(result: Any) -> dict[str, Any]:
    """What a result holds by name."""
    if isinstance(result, Mapping):
        return dict(result)
    if dataclasses.is_dataclass(result):
        return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return dict(getattr(result, "__dict__", {}))


def _attributes(result: Any, names: Sequence[str]) -> Tensor | None:
    for name in names:
        value = result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)
        if isinstance(value, Tensor):
            return value
    return None


def _image(result: Any) -> Tensor:
    if isinstance(result, Tensor):
        return result
    if isinstance(result, tuple | list):
        if result and isinstance(result[0], Tensor):
            return result[0]
        kinds = ", ".join(type(part).__name__ for part in result[:5])
        raise GeneratorError(
            f"it returns a {type(result).__name__} of {kinds or 'nothing'}; return the images as "
            "one tensor, or first"
        )
    found = _attributes(result, _IMAGES)
    tensors = {name: part for name, part in _table(result).items() if isinstance(part, Tensor)}
    if found is None and len(tensors) == 1:
        (found,) = tensors.values()
    if found is None:
        has = f" with the tensors {', '.join(map(str, tensors))[:200]}" if tensors else ""
        raise GeneratorError(
            f"it returns a {type(result).__name__}{has}; return the images as one tensor"
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
    normal = getattr(posterior, "base_dist", posterior)  # what Independent holds
    if isinstance(normal, torch.distributions.Normal):
        return normal.mean, 2 * normal.scale.log()
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


@contextlib.contextmanager
def as_served(module: nn.Module) -> Iterator[None]:
    """The module as it is served, then again as it was: in eval mode, on the CPU, in float32.

    Raises:
        GeneratorError: it has weights without values or sizes.
    """
    tensors = [*module.parameters(), *module.buffers()]
    for tensor in tensors:
        if nn.parameter.is_lazy(tensor):
            raise GeneratorError(
                "it has layers that get their size in the first pass (such as LazyLinear): give "
                "--weights, or run it once before"
            )
        if tensor.is_meta:
            raise GeneratorError("it is on the device meta, where weights have no values")
    before = [tensor.data for tensor in tensors]
    modes = {layer: layer.training for layer in module.modules()}
    try:
        for tensor in tensors:
            kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
            tensor.data = tensor.data.to("cpu", kind)
        module.eval()
        yield
    finally:
        for tensor, data in zip(tensors, before, strict=True):
            tensor.data = data
        for layer, mode in modes.items():
            layer.training = mode


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


def check_pass(
    method: Method, inputs: Sequence[Tensor], fits: str = _FITS_WHAT
) -> tuple[Tensor, ...]:
    """One pass in torch, which draws nothing and is the same a second time.

    Args:
        method: As it is served (``as_served``).
        inputs: Two rows of each.
        fits: The question that an error of its code raises.

    Raises:
        GeneratorError: it fails, draws random numbers, or returns no rows of numbers; says where.
    """
    finder = _RandomFinder(method)
    started = time.perf_counter()
    try:
        with finder:
            outputs = run_torch(method, inputs, fits)
    finally:
        finder.close()
    took, count = time.perf_counter() - started, len(inputs[0])
    if finder.found:
        listed = "; ".join(dict.fromkeys(finder.found))
        advice = (
            "an image would not depend on its seed alone: make the noise an argument of forward "
            "and name it with --latent"
        )
        if method.encodes:
            advice = "return the mean and the log-variance; the service draws from them"
        if "dropout" in listed or "bernoulli" in listed:
            advice = "dropout is left on: F.dropout needs training=self.training"
        raise GeneratorError(f"it draws random numbers inside ({listed[:300]}): {advice}")
    if any(layer.training for layer in method.module.modules()):
        raise GeneratorError("it switches itself to training mode in its pass; remove self.train()")
    for part in outputs:
        if part.ndim < 2 or len(part) != count:
            raise GeneratorError(
                f"{count} rows in give an output of shape {list(part.shape)}; its first axis has "
                "to be the batch"
            )
        if part.is_complex() or part.layout != torch.strided:
            raise GeneratorError(
                f"it returns {part.dtype} numbers, {part.layout}; return dense real ones"
            )
    if took > 2 * MOST_S * count:  # far too slow, before more passes are made
        raise GeneratorError(
            f"{count} rows take {took:.0f} s in torch; at most {MOST_S:g} s an image can be served"
        )
    again = run_torch(method, inputs, fits)
    if not all(torch.allclose(a, b, equal_nan=True) for a, b in zip(outputs, again, strict=True)):
        raise GeneratorError(
            "a second pass with the same inputs gives something else: it keeps a state between "
            "passes, or depends on the time or on random numbers that are not torch's; an image "
            "has to depend on its seed alone"
        )
    return outputs


def run_torch(
    method: Method, inputs: Sequence[Tensor], fits: str = _FITS_WHAT
) -> tuple[Tensor, ...]:
    """The outputs for copies of the inputs.

    Raises:
        GeneratorError: the user's code fails.
    """
    try:
        with torch.no_grad():
            outputs: tuple[Tensor, ...] = method(*(tensor.clone() for tensor in inputs))
    except GeneratorError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
        text = said(error)
        advice = next((advice for part, advice in _ADVICE.items() if part in text), fits)
        raise GeneratorError(f"it fails on inputs of shapes {shapes}: {text}; {advice}") from error
    return outputs
