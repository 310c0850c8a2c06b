"""A run's tensors: the state from which it resumes, and its best weights.

Both are safetensors files. Modules, optimisers and random generators are named tensors, so neither
training nor serving ever unpickles anything.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from training.optim.hardware import Update
from training.runs.errors import DIVERGED, TrainingError, one_line, write_errors

BEST = "best.safetensors"


class RunState:
    """What a run must restore to continue bit for bit on the CPU.

    Args:
        modules: name -> network, parameters and buffers.
        updates: name -> optimiser (its settings come from the config, its moments from here) and
            the loss scale of fp16.
        noise: The loop's own CPU generator. Torch's global one (dropout) is stored as well.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        updates: Mapping[str, Update],
        noise: torch.Generator,
    ) -> None:
        self.modules = modules
        self.updates = updates
        self.noise = noise
        self.step = 0  # finished steps
        self.seconds = 0.0  # spent training, over all restarts
        self.carried: dict[str, float] = {}  # further numbers of the loop, kept over a restart

    def save(self, path: Path) -> None:
        """Write the state atomically.

        Raises:
            TrainingError: a weight or a moment is not finite, or the file cannot be written. An
                earlier state is unchanged.
        """
        tensors = {"rng.noise": self.noise.get_state(), "rng.torch": torch.get_rng_state()}
        for name, module in self.modules.items():
            weights = module.state_dict()
            self._check_finite(f"weights of the {name}", weights)
            tensors |= {f"{name}.{key}": value for key, value in weights.items()}
        for name, update in self.updates.items():
            moments = _optimizer_tensors(name, update.optimizer)
            self._check_finite(f"moments of {name}", moments)
            tensors |= moments
        metadata = {
            "step": str(self.step),
            "seconds": repr(self.seconds),
            "carried": json.dumps(self.carried),
            "scalers": json.dumps({n: u.scaler.state_dict() for n, u in self.updates.items()}),
        }
        _write_tensors(path, tensors, metadata)

    def _check_finite(self, what: str, tensors: Mapping[str, Tensor]) -> None:
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise TrainingError(f"{what} at step {self.step}: {DIVERGED}")

    def load(self, path: Path) -> None:
        """Restore the state that ``save`` wrote there; without a file, stay at step 0.

        Raises:
            TrainingError: the file is damaged, or of another network.
        """
        if not path.exists():
            return
        try:
            self._load(path)
        except (SafetensorError, OSError, LookupError, ValueError, RuntimeError) as error:
            raise TrainingError(
                f"cannot resume from {path}: {one_line(error)}; start a new run"
            ) from error

    def _load(self, path: Path) -> None:
        metadata, tensors = read_tensors(path)
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        self.carried = json.loads(metadata["carried"])
        self.noise.set_state(tensors["rng.noise"])
        torch.set_rng_state(tensors["rng.torch"])
        for name, module in self.modules.items():
            prefix = f"{name}."
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        scalers = json.loads(metadata["scalers"])
        for name, update in self.updates.items():
            optimizer = update.optimizer
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            entries: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"{name}."):
                    _, index, entry = key.split(".")
                    parameter = parameters[int(index)]
                    if value.shape == parameter.shape:
                        # In the weight's memory layout: the fused step reads both in memory order.
                        value = torch.empty_like(parameter, requires_grad=False).copy_(value)
                    entries.setdefault(int(index), {})[entry] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
            if scalers.get(name):
                update.scaler.load_state_dict(scalers[name])


class BestWeights:
    """The averaged weights of the epoch with the best measurement, in ``best.safetensors``.

    Args:
        state: Of the run; it keeps the best figure over a restart.
        measure: Name of the figure; lower is better. Another measure starts from infinity.
    """

    def __init__(self, state: RunState, measure: str) -> None:
        self.state = state
        self.measure = measure

    @property
    def value(self) -> float:
        """The lowest figure so far; infinity without one."""
        return self.state.carried.get(f"best.{self.measure}", float("inf"))

    def offer(self, folder: Path, network: nn.Module, value: float) -> None:
        """Save the network if its figure is the lowest so far.

        Raises:
            TrainingError: the file cannot be written.
        """
        if value < self.value:
            self.save(folder, network, self.state.step, value, self.state.seconds)
            self.state.carried[f"best.{self.measure}"] = value

    def save(
        self, folder: Path, network: nn.Module, step: int, value: float, seconds: float
    ) -> None:
        """Write the network of a step with its figure and the training time until then."""
        metadata = {
            "step": str(step),
            "seconds": repr(seconds),
            "measure": self.measure,
            "value": repr(value),
        }
        _write_tensors(folder / BEST, network.state_dict(), metadata)


def load_best(folder: Path, network: nn.Module) -> dict[str, str]:
    """Load the best weights into the network; returns the file's metadata.

    Raises:
        TrainingError: the file is missing or damaged.
    """
    path = folder / BEST
    if not path.exists():
        raise TrainingError(f"{folder} has no {BEST}: no epoch has been measured yet")
    try:
        metadata, weights = read_tensors(path)
        network.load_state_dict(weights)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{path} is damaged: {one_line(error)}") from error
    return metadata


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a state or best file.

    Raises:
        TrainingError: it may not be read. ValueError, OSError, SafetensorError: it is damaged.
    """
    try:
        path.open("rb").close()  # safe_open reports an unreadable file as missing
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror or error}") from error
    with safe_open(path, "pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if missing := [key for key in ("step", "seconds") if key not in metadata]:
        raise ValueError(f"its header lacks {' and '.join(missing)}")
    return metadata, tensors


def _optimizer_tensors(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{name}.{index}.{key}": value
        for index, entries in state.items()
        for key, value in entries.items()
    }


def _write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write to a temporary name, flush to disk, then rename: neither a kill nor a power failure
    damages the old file.

    Raises:
        TrainingError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with write_errors(path):
        try:
            save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary, metadata)
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # like the other files of the folder
            os.replace(temporary, path)
        except (OSError, SafetensorError):
            temporary.unlink(missing_ok=True)
            raise
