"""What a run shows while it goes on: log lines, pictures, curves, and progress on the terminal."""

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from torch import Tensor

from training.runs.curves import save_curves
from training.data.dataset import import_torchvision
from training.networks.files import write_atomically
from training.runs.run_folder import DIVERGED, TrainingError, writing

LOG = "losses.jsonl"
SECONDS_BETWEEN_LINES = 30.0  # of progress, where stderr is no terminal


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended the run after a whole step, which the argument names; it is saved."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """The objects of a run's log, up to a line that a kill or a full disk cut off."""
    records = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
            record["step"]
        except (ValueError, KeyError, TypeError):
            break
        records.append(record)
    return records


class LossLog:
    """``losses.jsonl``: one object a report. Resuming drops the lines after the state's step.

    A line has ``step``, ``epoch`` and ``images`` (seen so far), then losses with ``images_per_s``,
    or what an epoch's end measured.
    """

    def __init__(self, folder: Path, resumed_step: int) -> None:
        self.path = folder / LOG
        kept = [record for record in read_log(self.path) if record["step"] <= resumed_step]
        with writing(self.path):  # whole: a kill in the midst must not take the log along
            write_atomically(self.path, "".join(json.dumps(record) + "\n" for record in kept).encode())

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            TrainingError: it cannot be written.
        """
        with writing(self.path), self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def write_grid(path: Path, images: Tensor, columns: int) -> None:
    """Pixels (N, C, H, W) in [0, 1] as one PNG, ``columns`` a row, two pixels apart.

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
    with writing(path):
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


@contextmanager
def progress_of(total_steps: int, done: int, batch_images: int) -> Iterator[Any]:
    """A tqdm bar on a terminal; elsewhere, such as in a log file, a line every half minute."""
    from tqdm import tqdm  # of the extra: a lean environment gets as far as a clear error

    if sys.stderr.isatty():
        with tqdm(
            total=total_steps,
            initial=done,
            unit=" images",
            unit_scale=batch_images,
            dynamic_ncols=True,
            mininterval=0.5,
        ) as bar:
            yield bar
    else:
        yield _Lines(total_steps, done, batch_images, tqdm.format_interval)


class _Lines:
    """What of tqdm's bar the loops use, as whole lines: a bar in a file is one line of \\r."""

    def __init__(self, total: int, done: int, batch_images: int, interval: Any) -> None:
        self.total, self.n, self.batch_images, self.interval = total, done, batch_images, interval
        self.first, self.started = done, time.monotonic()
        self.last = self.started
        self.postfix = ""
        self.silent = True

    def update(self, steps: int = 1) -> None:
        self.n += steps
        # The first losses are written at once.
        due = time.monotonic() - self.last >= SECONDS_BETWEEN_LINES
        if due or (self.silent and self.postfix):
            self.silent = False
            self.last = time.monotonic()
            rate = (self.n - self.first) / (self.last - self.started)
            print(
                f"step {self.n}/{self.total} ({self.n / self.total:.0%}), "
                f"{self.n * self.batch_images:,} images, {rate * self.batch_images:.0f} images/s, "
                f"ETA {self.interval((self.total - self.n) / rate)}"
                f"{self.postfix and ', '}{self.postfix}",
                file=sys.stderr,
                flush=True,
            )

    def set_postfix_str(self, text: str, _refresh: bool) -> None:
        self.postfix = text


class Interrupts:
    """As a context manager, takes Ctrl-C and SIGTERM: the first sets ``stop``, so that a loop can
    end after a whole step and save; a second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self.stop = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.signal(number, self._ask_to_stop)
                self._stack.callback(signal.signal, number, before)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _ask_to_stop(self, number: int, _frame: FrameType | None) -> None:
        if self.stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop = True


class Recorder:
    """A run's reports: to its folder, to the terminal, and to TensorBoard where that is asked for.

    As a context manager it also takes Ctrl-C and SIGTERM, as ``Interrupts``.

    Args:
        folder: The run's folder; None = write nothing and stay silent (a dry run, and all but
            rank 0 of several processes).
        step: Steps that the run has behind it.
        total_steps, batch_images, steps_per_epoch: Of the whole run.
        tensorboard: Write its event files as well.
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
        self._interrupts = Interrupts()
        self.log = LossLog(folder, step) if folder else None
        self.board: Any = None
        if folder and tensorboard:
            # What came after the state that is taken up does not count any more.
            writer = summary_writer_class()
            self.board = writer(str(folder / "tensorboard"), purge_step=step + 1)
        self.stack = ExitStack()
        self.bar: Any = None
        self.since: float | None = None  # clock and step of the last line, for images_per_s
        self.since_step = step

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self.folder:
                self.bar = stack.enter_context(
                    progress_of(self.total_steps, self.step, self.batch_images)
                )
            if self.board:
                stack.callback(self.board.close)
            stack.enter_context(self._interrupts)
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
    def stop_asked(self) -> bool:
        """Whether Ctrl-C or SIGTERM has come."""
        return self._interrupts.stop

    def advance(self) -> None:
        """One step more is done."""
        self.step += 1
        if self.bar is not None:
            self.bar.update()

    def losses(self, values: Mapping[str, float]) -> None:
        """A line of the log; the bar shows it until the next.

        Raises:
            TrainingError: a loss is not finite, or the line cannot be written.
        """
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(f"{name} is {value} at step {self.step}: {DIVERGED}")
        # The first line after a start has no rate: it would count the loading of torch.
        now, rate = time.monotonic(), None
        if self.since is not None:
            images = (self.step - self.since_step) * self.batch_images
            rate = round(images / (now - self.since), 1)
        self.since, self.since_step = now, self.step
        self._write({**values, "images_per_s": rate})
        if self.bar is not None:
            text = " ".join(f"{name} {value:.3f}" for name, value in values.items())
            self.bar.set_postfix_str(text, False)

    def measured(self, name: str, value: float) -> None:
        """A line of the log with what an epoch's end measured."""
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

    def picture(self, name: str, grid: Tensor, columns: int) -> None:
        """``samples/<name>.png``, and the same for TensorBoard."""
        if self.folder is None:
            return
        save_grid(self.folder / "samples" / f"{name}.png", grid, columns)
        if self.board:
            from torchvision.utils import make_grid

            image = make_grid(grid.cpu(), nrow=columns, padding=2, pad_value=0.25)
            self.board.add_image("samples", image, self.step)

    def curves(self) -> None:
        """Draw ``curves.png`` anew from the log."""
        if self.folder:
            save_curves(self.folder / "curves.png", read_log(self.folder / LOG))
