"""A run's folder: its config, its log, its pictures, and the state from which it resumes.

The state is a safetensors file too: modules, optimisers and random generators as named tensors,
so neither training nor serving ever unpickles anything.
"""

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from training.config import AnyRun, as_json, from_json
from training.data import DataSpec, import_torchvision

STATE = "state.safetensors"
DIVERGED = (
    "not finite, so training diverged. Lower the learning rates, or raise --r1-gamma (GAN) or "
    "--kl-warmup-epochs (VAE)"
)


class TrainingError(Exception):
    """The run cannot go on; the message says why and what to do."""


def new_run_folder(parent: Path, kind: str, preset: str) -> Path:
    """Make ``<parent>/<kind>-<preset>-NNN``, the next free number, also when two runs race."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = parent / f"{kind}-{preset}-{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def write_config(folder: Path, kind: str, preset: str, run: AnyRun, data: DataSpec) -> None:
    """Store what the run resolved to, before its first step."""
    config = {
        "kind": kind,
        "preset": preset,
        "data": dataclasses.asdict(data),
        "run": as_json(run),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def read_config(folder: Path) -> tuple[str, str, AnyRun, DataSpec]:
    """kind, preset, settings and data of a run folder.

    Raises:
        TrainingError: there is none, or another version of the program wrote it.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        run = from_json(config["kind"], config["run"])
        # Runs of before there was a choice of data say only where MNIST lies.
        data = DataSpec(**(config.get("data") or {"source": "mnist", "root": config["data_root"]}))
    except FileNotFoundError as error:
        raise TrainingError(f"{folder} is no run folder: it has no config.json") from error
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise TrainingError(f"{folder}/config.json is not one of this version: {error}") from error
    return config["kind"], config["preset"], run, data


def _optimizer_tensors(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{name}.{index}.{key}": value
        for index, entries in state.items()
        for key, value in entries.items()
    }


class RunState:
    """Everything that a run must carry over a restart to continue bit-exactly on the CPU.

    Args:
        modules: name -> network, parameters and buffers.
        optimizers: name -> optimiser (its settings come from the config, its moments from here).
        noise: The loop's own CPU generator. Torch's global one (dropout) is carried as well.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        noise: torch.Generator,
    ) -> None:
        self.modules = modules
        self.optimizers = optimizers
        self.noise = noise
        self.step = 0  # steps finished
        self.seconds = 0.0  # time spent training, over all restarts
        self.carried: dict[str, float] = {}  # figures that a loop reports again at later steps

    def save(self, folder: Path) -> None:
        """Write the state: temporary name, then rename, so a kill leaves the old one whole.

        Raises:
            TrainingError: a weight is not finite, or the file cannot be written. The state of
                before stays.
        """
        for name, module in self.modules.items():
            if not all(bool(t.isfinite().all()) for t in module.state_dict().values()):
                raise TrainingError(f"weights of the {name} at step {self.step}: {DIVERGED}")
        tensors = {"rng.noise": self.noise.get_state(), "rng.torch": torch.get_rng_state()}
        for name, module in self.modules.items():
            tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            tensors |= _optimizer_tensors(name, optimizer)
        metadata = {
            "step": str(self.step),
            "seconds": repr(self.seconds),
            "carried": json.dumps(self.carried),
        }
        temporary = folder / f".{STATE}.tmp"
        try:
            save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary, metadata)
            os.replace(temporary, folder / STATE)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise TrainingError(
                f"could not save {folder / STATE}: {error}. The state of before is still whole: "
                f"free some room, then continue with --resume {folder}"
            ) from error

    def load(self, folder: Path) -> None:
        """Take up the state that ``save`` left, or stay at step 0 if there is none yet.

        Raises:
            TrainingError: the file is damaged, or of another network.
        """
        path = folder / STATE
        if not path.exists():
            return
        try:
            self._load(path)
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise TrainingError(f"{path} cannot be taken up: {reason}; start a new run") from error

    def _load(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        self.carried = json.loads(metadata.get("carried", "{}"))
        self.noise.set_state(tensors["rng.noise"])
        torch.set_rng_state(tensors["rng.torch"])
        for name, module in self.modules.items():
            prefix = f"{name}."
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        for name, optimizer in self.optimizers.items():
            entries: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"{name}."):
                    _, index, entry = key.split(".")
                    entries.setdefault(int(index), {})[entry] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})


class LossLog:
    """``losses.jsonl``: one object a report. Resuming drops the lines after the state's step."""

    def __init__(self, folder: Path, resumed_step: int) -> None:
        self.path = folder / "losses.jsonl"
        kept = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= resumed_step:
                        kept.append(line + "\n")
                except (ValueError, KeyError):
                    break  # a line cut off by a kill
        self.path.write_text("".join(kept))
        self._since, self._images = time.monotonic(), 0

    def write(self, step: int, epoch: float, images: int, losses: Mapping[str, Tensor]) -> str:
        """Append a line; returns it in short, for the progress bar.

        Raises:
            TrainingError: a loss is not finite.
        """
        now = time.monotonic()
        values = {name: float(value) for name, value in losses.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(f"{name} is {value} at step {step}: {DIVERGED}")
        # The first line after a start has no rate: it would count the loading of torch.
        rate = (images - self._images) / (now - self._since) if self._images else None
        record: dict[str, Any] = {"step": step, "epoch": round(epoch, 4), **values}
        record["images_per_s"] = round(rate, 1) if rate else None
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self._since, self._images = now, images
        return " ".join(f"{name} {value:.3f}" for name, value in values.items())


def progress_bar(total_steps: int, done: int, batch_images: int) -> Any:
    """A tqdm bar that counts images; in a log file, a line every half minute."""
    from tqdm import tqdm  # of the extra: a lean environment gets as far as a clear error

    return tqdm(
        total=total_steps,
        initial=done,
        unit=" images",
        unit_scale=batch_images,
        mininterval=0.5 if sys.stderr.isatty() else 30,
    )


def save_grid(path: Path, images: Tensor, columns: int) -> None:
    """Pixels (N, C, H, W) in [0, 1] as one PNG, ``columns`` a row, two pixels apart."""
    import_torchvision()
    from torchvision.utils import save_image

    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(images.cpu(), path, nrow=columns, padding=2, pad_value=0.25)


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is a GPU, else the CPU.

    Raises:
        TrainingError: the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device is cuda, but torch finds no GPU; use --device cpu or auto")
    return torch.device(name)
