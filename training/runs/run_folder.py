"""A run's folder: its config, the state from which it resumes, and its best weights.

The state is a safetensors file too: modules, optimisers and random generators as named tensors,
so neither training nor serving ever unpickles anything.
"""

import dataclasses
import errno
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from training.config import AnyRun, as_json, from_json
from training.presets import PRESETS
from training.data.dataset import DataSpec
from training.optim.hardware import Update
from training.networks.files import write_atomically

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STATE = "state.safetensors"
BEST = "best.safetensors"
DIVERGED = (
    "not finite, so training diverged. Lower the learning rates, or raise --r1-gamma (GAN) or "
    "--kl-warmup-epochs (VAE)"
)


class TrainingError(Exception):
    """The run cannot go on; the message says why and what to do."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around whatever writes ``path``, a run's folder or in one: what failed is said, not traced.

    Raises:
        TrainingError: the file could not be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        saved = any((folder / STATE).exists() for folder in (path.parent, path.parent.parent))
        then = (
            f"The last saved state is whole: {_mend(error)}, then continue with --resume"
            if saved
            else f"No state is saved yet: {_mend(error)}, or name another place with --runs"
        )
        raise TrainingError(f"could not write {path}: {_reason(error)}. {then}") from error


def _reason(error: OSError | SafetensorError) -> str:
    """Without the path, which the message has already."""
    return (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]


def _mend(error: OSError | SafetensorError) -> str:
    if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "make it writable"
    return "free some room"


def next_run_folder(parent: Path, kind: str, preset: str) -> Path:
    """``<parent>/<kind>-<preset>-NNN`` with the first free number; it is not made."""
    number = 1
    while (folder := parent / f"{kind}-{preset}-{number:03d}").exists():
        number += 1
    return folder


def new_run_folder(parent: Path, kind: str, preset: str) -> Path:
    """Make the next run folder, also when two runs race.

    Raises:
        TrainingError: it cannot be made.
    """
    if parent.exists() and not parent.is_dir():
        raise TrainingError(f"{parent} is a file, not a folder of runs; name a folder with --runs")
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = next_run_folder(parent, kind, preset)
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Meanwhile no other process trains in a run's folder: two would write each other's state.

    Where the system has no locks of this kind, nobody is kept out.

    Raises:
        TrainingError: another process does.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise TrainingError(
            f"another process trains in {folder}; stop it first, or start a new run"
        ) from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(handle)


def write_config(folder: Path, kind: str, preset: str, run: AnyRun, data: DataSpec) -> None:
    """Store what the run resolved to, before its first step: whole, or the old one stays.

    So is the revision of the code; of a continued run, after those that have trained it before.

    Raises:
        TrainingError: it cannot be written.
    """
    made_by, known = _revision(), revisions(folder)
    config = {
        "revisions": [*known, *[made_by] * (made_by not in known[-1:])],
        "kind": kind,
        "preset": preset,
        "data": dataclasses.asdict(data),
        "run": as_json(run),
    }
    with writing(folder / "config.json"):
        write_atomically(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def read_config(folder: Path) -> tuple[str, str, AnyRun, DataSpec]:
    """kind, preset, settings and data of a run folder.

    Raises:
        TrainingError: there is none, or another version of the program wrote it.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        kind, preset = config["kind"], config["preset"]
        if kind not in PRESETS or preset not in PRESETS[kind]:
            raise ValueError(f"it has no preset {preset!r} of a kind {kind!r}")
        run = from_json(kind, config["run"])
        # Runs of before there was a choice of data say only where MNIST lies.
        about = config.get("data") or {"source": "mnist", "root": config["data_root"]}
        counts = tuple((str(name), int(count)) for name, count in about.get("counts", ()))
        data = DataSpec(**{**about, "counts": counts})
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TrainingError(
            f"{folder} is no run folder: it has no config.json{_runs_beside(folder)}"
        ) from error
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise TrainingError(f"{folder}/config.json is not one of this version: {error}") from error
    return kind, preset, run, data


def revisions(folder: Path) -> list[str]:
    """The revisions of the code that trained a run, in their order; none without a config."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except OSError:
        return []
    known = config.get("revisions", ["unknown"])  # the oldest runs do not tell
    return [str(revision) for revision in known] if isinstance(known, list) else ["unknown"]


def _revision() -> str:
    """The source's commit, with + when files have changed since; unknown outside a checkout."""
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip()


def _runs_beside(folder: Path, most: int = 5) -> str:
    """The newest run folders where ``folder`` was looked for, else in runs/, as half a sentence."""
    for parent in (folder.parent, Path("runs")):
        found = [path.parent for path in parent.glob("*/config.json")]
        if found:
            found.sort(key=lambda path: (path.stat().st_mtime, path.name), reverse=True)
            more = f" and {len(found) - most} more" if len(found) > most else ""
            return f"; there are {', '.join(map(str, found[:most]))}{more}"
    return ""


def _optimizer_tensors(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{name}.{index}.{key}": value
        for index, entries in state.items()
        for key, value in entries.items()
    }


def _replace_file(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Temporary name, then rename, so a kill leaves the old file whole. A loss of power does
    too, for the new one is on the disk before it has the name.

    Raises:
        TrainingError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary, metadata)
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # as all else in a run's folder
            os.replace(temporary, path)
        except (OSError, SafetensorError):
            temporary.unlink(missing_ok=True)
            raise


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What a state or best file says of itself, and its tensors.

    Raises:
        TrainingError: it may not be read. ValueError, OSError, SafetensorError: it is not whole.
    """
    try:
        path.open("rb").close()  # of what may not be read, safe_open says that it is not there
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror or error}") from error
    with safe_open(path, "pt") as file:
        about: dict[str, str] = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if missing := [key for key in ("step", "seconds") if key not in about]:
        raise ValueError(f"its header lacks {' and '.join(missing)}")
    return about, tensors


def in_a_line(error: Exception) -> str:
    """An error's text; of torch's lists of what does not fit, the head and the first."""
    return " ".join(line.strip() for line in str(error).splitlines()[:2])


class RunState:
    """Everything that a run must carry over a restart to continue bit-exactly on the CPU.

    Args:
        modules: name -> network, parameters and buffers.
        updates: name -> optimiser (its settings come from the config, its moments from here) and
            the scale of fp16's loss.
        noise: The loop's own CPU generator. Torch's global one (dropout) is carried as well.
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
        self.step = 0  # steps finished
        self.seconds = 0.0  # time spent training, over all restarts
        self.carried: dict[str, float] = {}  # figures that a loop reports again at later steps

    def save(self, path: Path) -> None:
        """Write the state to a file: a kill meanwhile leaves the old one whole.

        Raises:
            TrainingError: a weight or a moment is not finite, or the file cannot be written. The
                state of before stays.
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
        _replace_file(path, tensors, metadata)

    def _check_finite(self, what: str, tensors: Mapping[str, Tensor]) -> None:
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise TrainingError(f"{what} at step {self.step}: {DIVERGED}")

    def load(self, path: Path) -> None:
        """Take up the state that ``save`` left there, or stay at step 0 if there is none yet.

        Raises:
            TrainingError: the file is damaged, or of another network.
        """
        if not path.exists():
            return
        try:
            self._load(path)
        except (SafetensorError, OSError, LookupError, ValueError, RuntimeError) as error:
            raise TrainingError(
                f"{path} cannot be taken up: {in_a_line(error)}; start a new run"
            ) from error

    def _load(self, path: Path) -> None:
        metadata, tensors = read_tensors(path)
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        self.carried = json.loads(metadata.get("carried", "{}"))
        self.noise.set_state(tensors["rng.noise"])
        torch.set_rng_state(tensors["rng.torch"])
        for name, module in self.modules.items():
            prefix = f"{name}."
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        scalers = json.loads(metadata.get("scalers", "{}"))
        for name, update in self.updates.items():
            optimizer = update.optimizer
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            entries: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"{name}."):
                    _, index, entry = key.split(".")
                    parameter = parameters[int(index)]
                    if value.shape == parameter.shape:
                        # In the weight's own memory layout: the fused step walks both as they lie.
                        value = torch.empty_like(parameter, requires_grad=False).copy_(value)
                    entries.setdefault(int(index), {})[entry] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
            if scalers.get(name):
                update.scaler.load_state_dict(scalers[name])


class Best:
    """The averaged weights of the epoch that measured best, in ``best.safetensors``.

    Args:
        state: Of the run; it carries the best figure over a restart.
        measure: Name of the figure, lower = better. Another measure starts anew.
    """

    def __init__(self, state: RunState, measure: str) -> None:
        self.state = state
        self.measure = measure

    @property
    def value(self) -> float:
        return self.state.carried.get(f"best.{self.measure}", float("inf"))

    def offer(self, folder: Path, network: nn.Module, value: float) -> None:
        """Keep the network if its figure is the lowest so far.

        Raises:
            TrainingError: the file cannot be written.
        """
        if value < self.value:
            self.save(folder, network, self.state.step, value, self.state.seconds)
            self.state.carried[f"best.{self.measure}"] = value

    def save(
        self, folder: Path, network: nn.Module, step: int, value: float, seconds: float
    ) -> None:
        """Write the network of a step, which measured so and has taken so long."""
        metadata = {
            "step": str(step),
            "seconds": repr(seconds),
            "measure": self.measure,
            "value": repr(value),
        }
        _replace_file(folder / BEST, network.state_dict(), metadata)


def load_best(folder: Path, network: nn.Module) -> dict[str, str]:
    """Fill the network with the best weights; what the file says of them.

    Raises:
        TrainingError: there are none, or the file is damaged.
    """
    path = folder / BEST
    if not path.exists():
        raise TrainingError(f"{folder} has no {BEST}: no epoch has been measured yet")
    try:
        about, weights = read_tensors(path)
        network.load_state_dict(weights)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{path} is damaged: {in_a_line(error)}") from error
    return about
