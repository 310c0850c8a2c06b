"""The files of a published checkpoint, written all together or not at all."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from training.evaluation.evaluate import Effort
from training.evaluation.reference import Reference
from training.networks.configs import Operation
from training.networks.gan import Generator
from training.networks.graph.network import with_graphs
from training.networks.header import Description, read
from training.networks.vae import VAE
from training.release.card import card
from training.release.export import save_with_graphs
from training.release.gallery import Unmeasured, save_gallery
from training.runs.errors import TrainingError


@dataclass(frozen=True)
class Kept:
    """What is left of the run: pictures that are copied if they exist."""

    curves: Path | None
    film: Path | None  # of ``training.runs.film``


def write_release(
    path: Path,
    network: Generator | VAE,
    description: Description,
    portable: Mapping[Operation, bytes],
    real: Reference | Unmeasured,
    effort: Effort,
    kept: Kept,
) -> str:
    """Write a checkpoint, its graphs, pictures and card. Returns the checkpoint's digest.

    Args:
        path: Of the checkpoint.
        network: In floating point.
        description: Its graphs are filled in.
        portable: From ``quantise``; {} = none, it is served in floating point.
        real, effort: What was measured.
        kept: Of the run.

    Raises:
        TrainingError: a file cannot be written.
    """
    name = path.stem
    with _staged(path) as staged:
        digest = save_with_graphs(staged, network, description, portable or None)
        served = with_graphs(network, portable)
        pictures = save_gallery(staged, served, real, effort.samples)
        for source, file, caption in (
            (kept.curves, f"{name}-curves.png", "Losses and measures against images seen."),
            (kept.film, f"{name}-film.webp", _FILM),
        ):
            if source and source.exists():
                shutil.copyfile(source, staged.with_name(file))
                pictures.append((file, caption))
        saved = read(staged).description
        page = card(name, path.parent, saved, digest, network, pictures)
        staged.with_suffix(".md").write_text(page)
    return digest


_FILM = "The same samples during the training, from the first picture at the top to the last."


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """A temporary path for the checkpoint ``path`` and its files: all are published, or none.

    It is in a hidden folder of the store. At the end the files are moved out, the checkpoint last,
    so that a service that starts meanwhile sees no incomplete model. After an error they are
    deleted.

    Raises:
        TrainingError: a file cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".publishing-") as folder:
            staged = Path(folder) / path.name
            yield staged
            for file in sorted(Path(folder).iterdir(), key=lambda file: file == staged):
                file.replace(path.with_name(file.name))
    except OSError as error:
        raise TrainingError(
            f"could not write {path}: {error.strerror or error}. Nothing was published: fix that, "
            "or name another folder with --store, then publish again"
        ) from error
