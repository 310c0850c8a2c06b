"""A function of tensors on a GPU, recorded once a shape and played back.

A small generator's pass is a dozen kernels that take microseconds each, so that launching them one
by one from Python takes longer than they do. A CUDA graph launches all of them at once
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Function = Callable[..., tuple[Tensor, ...]]
_WARM_UPS = 3  # passes before the recording, in which libraries choose their algorithms


class Recorded:
    """One function at one shape. Used by one thread, the one that makes it.

    Args:
        function: Of tensors on the GPU; must neither wait for the GPU nor depend on their values.
        inputs: An example; kept, and written over by each call.
        pool: Memory shared with the other recordings, whose results are then overwritten as well.
    """

    def __init__(self, function: Function, inputs: tuple[Tensor, ...], pool: Any) -> None:
        self._inputs = inputs
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._outputs = function(*inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The results for inputs of the recorded shapes, on the CPU or the GPU. They are valid
        until the next call of any recording of the pool."""
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._graph.replay()
        return self._outputs


class Recorder:
    """Functions by name, recorded for each shape when it first comes.

    Args:
        functions: By name; see ``Recorded``.
    """

    def __init__(self, functions: dict[str, Function]) -> None:
        self._functions = functions
        self._recorded: dict[tuple[object, ...], Recorded | Function] = {}
        self._pool: Any = None  # torch's type of it has no public name

    def __call__(self, name: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The results, on the GPU; valid until the next call."""
        key = (name, *(tensor.shape for tensor in inputs))
        if key not in self._recorded:
            self._recorded[key] = self._record(name, inputs)
        return self._recorded[key](*inputs)

    def _record(self, name: str, inputs: tuple[Tensor, ...]) -> Recorded | Function:
        function = self._functions[name]
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        # Copies: what is given may be the caller's, and is on the CPU.
        kept = tuple(tensor.to("cuda", copy=True) for tensor in inputs)
        try:
            return Recorded(function, kept, self._pool)
        except torch.OutOfMemoryError:
            raise  # it may fit later
        except RuntimeError:  # something in it cannot be recorded: slower, but as right
            log.exception("%s of %s is not recorded", name, [list(i.shape) for i in inputs])
            return lambda *given: function(*(tensor.to("cuda") for tensor in given))
