"""A run's reports: the log of losses, pictures, curves, TensorBoard."""

import json
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from training.data.dataset import import_torchvision
from training.networks.files import write_atomically
from training.runs.curves import save_curves
from training.runs.errors import DIVERGED, TrainingError, write_errors
from training.runs.interrupts import GracefulStop
from training.runs.progress import progress_of

LOG = "losses.jsonl"
CURVES = "curves.png"


class RunReporter:
    """Writes a run's reports to its folder, the terminal and, if requested, TensorBoard.

    As a context manager it also handles Ctrl-C and SIGTERM (``GracefulStop``).

    Args:
        folder: The run's folder; None = write and show nothing (a dry run, and every process but
            rank 0).
        step: Finished steps.
        total_steps, batch_images, steps_per_epoch: Of the whole run.
        tensorboard: Write event files as well.
    """

    def __init__(
        self,
        folder: Path | None,
        step: int,
        total_steps: int,
        batch_images: int,
        steps_per_epoch: int,
        tensorboard: bool = False,
    ) -> None:
        self.folder = folder
        self.step = step
        self.total_steps = total_steps
        self.batch_images = batch_images
        self.steps_per_epoch = steps_per_epoch
        self._stop = GracefulStop()
        self.log = LossLog(folder, step) if folder else None
        self.board: Any = None
        if folder and tensorboard:
            # Events after the restored state are discarded.
            writer = summary_writer_class()
            self.board = writer(str(folder / "tensorboard"), purge_step=step + 1)
        self.stack = ExitStack()
        self.bar: Any = None
        self.since: float | None = None  # clock at the last line, for images_per_s
        self.since_step = step

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self.folder:
                self.bar = stack.enter_context(
                    progress_of(self.total_steps, self.step, self.batch_images)
                )
            if self.board:
                stack.callback(self.board.close)
            stack.enter_context(self._stop)
            self.stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.__exit__(kind, error, trace)

    @property
    def stop_requested(self) -> bool:
        """Whether Ctrl-C or SIGTERM was received."""
        return self._stop.requested

    def advance(self) -> None:
        """Count one finished step."""
        self.step += 1
        if self.bar is not None:
            self.bar.update()

    def losses(self, values: Mapping[str, float]) -> None:
        """Write a line of the log; the progress bar shows it until the next.

        Raises:
            TrainingError: a loss is not finite, or the line cannot be written.
        """
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(f"{name} is {value} at step {self.step}: {DIVERGED}")
        # The first line after a start has no rate: it would include start-up time.
        now, rate = time.monotonic(), None
        if self.since is not None:
            images = (self.step - self.since_step) * self.batch_images
            rate = round(images / (now - self.since), 1)
        self.since, self.since_step = now, self.step
        self._write({**values, "images_per_s": rate})
        if self.bar is not None:
            text = " ".join(f"{name} {value:.3f}" for name, value in values.items())
            self.bar.set_postfix_str(text, False)

    def measurement(self, name: str, value: float) -> None:
        """Write a figure measured at the end of an epoch as a line of the log."""
        self._write({name: value})

    def _write(self, values: Mapping[str, float | None]) -> None:
        if self.log is None:
            return
        images = self.step * self.batch_images
        position = round(self.step / self.steps_per_epoch, 4)
        self.log.write({"step": self.step, "epoch": position, "images": images, **values})
        if self.board:
            for name, value in values.items():
                if value is not None:
                    self.board.add_scalar(name, value, self.step)

    @property
    def early_picture(self) -> str | None:
        """Name of the picture that is due after this step, besides those of epochs; None = none.

        Most happens first, so they are due at powers of two.
        """
        due = self.step == 1 or (self.step >= 32 and self.step & (self.step - 1) == 0)
        return f"step-{self.step:07d}" if due and self.step < self.steps_per_epoch else None

    def picture(self, name: str, grid: Tensor, columns: int) -> None:
        """Write ``samples/<name>.png``, and the same for TensorBoard."""
        if self.folder is None:
            return
        save_grid(self.folder / "samples" / f"{name}.png", grid, columns)
        if self.board:
            from torchvision.utils import make_grid

            image = make_grid(grid.cpu(), nrow=columns, padding=2, pad_value=0.25)
            self.board.add_image("samples", image, self.step)

    def draw_curves(self) -> None:
        """Draw ``curves.png`` from the log."""
        if self.folder:
            save_curves(self.folder / CURVES, read_log(self.folder / LOG))


class LossLog:
    """``losses.jsonl``: one JSON object a line. Resuming drops the lines after the state's step.

    A line has ``step``, ``epoch`` and ``images`` (seen so far), then losses with ``images_per_s``,
    or a figure measured at the end of an epoch.
    """

    def __init__(self, folder: Path, resumed_step: int) -> None:
        self.path = folder / LOG
        kept = [line for line in read_log(self.path) if line["step"] <= resumed_step]
        with write_errors(self.path):  # atomically: a kill at this moment must not lose the log
            write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            TrainingError: it cannot be written.
        """
        with write_errors(self.path), self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, up to one that a kill or a full disk cut off."""
    lines = []
    for text in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
            line["step"]
        except (ValueError, KeyError, TypeError):
            break
        lines.append(line)
    return lines


def write_grid(path: Path, images: Tensor, columns: int) -> None:
    """Pixels (N, C, H, W) in [0, 1] as one PNG, ``columns`` images a row, two pixels apart.

    Raises:
        OSError: it cannot be written.
    """
    import_torchvision()
    from torchvision.utils import save_image

    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(images.cpu(), path, nrow=columns, padding=2, pad_value=0.25)


def save_grid(path: Path, images: Tensor, columns: int) -> None:
    """The same for a picture in a run's folder.

    Raises:
        TrainingError: it cannot be written.
    """
    with write_errors(path):
        write_grid(path, images, columns)


def summary_writer_class() -> Any:
    """TensorBoard's SummaryWriter.

    Raises:
        TrainingError: the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            "--tensorboard needs the package tensorboard: pip install tensorboard"
        ) from error
    return SummaryWriter
