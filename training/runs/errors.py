"""Errors that end a run, with what to do about them."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

STATE = "state.safetensors"  # in a run's folder; whether it exists decides the advice
DIVERGED = (
    "not finite, so training diverged. Lower the learning rates, or raise --r1-gamma (GAN) or "
    "--kl-warmup-epochs (VAE)"
)


class TrainingError(Exception):
    """The command cannot continue; the message says why and what to do."""


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn errors of writing ``path``, a run's folder or a file in it, into a TrainingError.

    Raises:
        TrainingError: the file could not be written; the message says how to continue.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        saved = any((folder / STATE).exists() for folder in (path.parent, path.parent.parent))
        then = (
            f"The last saved state is whole: {_remedy(error)}, then continue with --resume"
            if saved
            else f"No state is saved yet: {_remedy(error)}, or name another folder with --runs"
        )
        # Without the path that OSError's text repeats.
        reason = (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
        raise TrainingError(f"could not write {path}: {reason}. {then}") from error


def _remedy(error: OSError | SafetensorError) -> str:
    if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "make it writable"
    return "free some space"


def one_line(error: Exception) -> str:
    """An error's text in one line; of torch's lists of mismatches, the heading and the first."""
    return " ".join(line.strip() for line in str(error).splitlines()[:2])
