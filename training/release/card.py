"""The card of a published checkpoint: its header for people, as Markdown."""

import html
import re
import shlex
from pathlib import Path

from training.evaluation.metric_docs import markdown_table, memorisation_summary
from training.evaluation.reference import SAMPLES
from training.networks.configs import GanConfig
from training.networks.gan import Generator
from training.networks.header import Description
from training.networks.vae import VAE
from training.release.published import STORE

FEW = 1_000  # real images; with fewer, figures are mostly noise


def card(
    name: str,
    store: Path,
    description: Description,
    digest: str,
    network: Generator | VAE,
    pictures: list[tuple[str, str]],
) -> str:
    """The card's text.

    Args:
        store: Folder of the checkpoint; a path outside the working directory is not shown.
        pictures: (file beside the card, caption), the samples first.
    """
    training, data = description.training, description.data
    parameters = sum(p.numel() for p in network.parameters())
    shown = [
        f"![{caption.split(':')[0].rstrip('.')}]({file})\n\n{caption}" for file, caption in pictures
    ]
    pictured = "\n\n".join(shown[1:])
    figures, copies = _figures(description, _evaluate_command(name, store, data))
    knots = len(network.config.tone)
    tone = (
        f" Its last step is a tone curve of {knots} knots, fitted after training to the histogram "
        "of the training images' pixels."
        if knots
        else ""
    )
    return f"""# {name}

{_summary(description)}

{shown[0]}

| | |
| --- | --- |
| kind, architecture | {description.kind}, {description.network.architecture} |
| parameters | {parameters:,} |
| latent dimensions | {network.latent_dim} |
| image | {" x ".join(str(side) for side in network.image_shape)} (channels, height, width) |
| labels | {_escaped(", ".join(description.labels)) or "none"} |
| digest | `{digest}` |

## Data

{data["name"]}, {data["training_images"]:,} training images, licence {_escaped(data["licence"])}.

## Recipe

`{training["command"]}` at revision {training["revision"]}, seed {training["seed"]}:
{training["images_seen"]:,} images seen in {training["seconds"] / 60:.0f} minutes on the machine it
was trained on, torch {training["torch"]}. The header of the checkpoint holds every setting.
Published weights: {training["weights"]}.{tone}

## Bytes

{_bytes(description)}

## Figures

{figures}

## Pictures

{pictured}

## Limits

It can generate only what its training set shows.

{copies}
"""


def _summary(description: Description) -> str:
    """What the network does, in a sentence or two."""
    summary = {
        "gan": "An unconditional GAN: samples of all classes, without a choice of label.",
        "cgan": "A conditional GAN: generates samples of the label in the request.",
        "vae": "A variational autoencoder: samples, encodes and decodes.",
    }[description.kind]
    if isinstance(description.network, GanConfig) and description.network.modes:
        summary += (
            f" It was trained with labels: the largest of z's first {description.network.modes} "
            "numbers selects the class."
        )
        if description.network.mode_offsets:
            summary += (
                " Offsets on these numbers give each class its frequency in the training images."
            )
    return summary


def _bytes(description: Description) -> str:
    """Where a seed gives the same bytes."""
    if not description.portable:
        return (
            "In floating point: a seed gives the same bytes in every batch on one kind of machine. "
            "Another processor or engine may round otherwise."
        )
    differences = ", ".join(
        f"{operation} by {graph.mean_difference:.2g}{'' if operation == 'encode' else ' levels'}"
        for operation, graph in description.graphs.items()
    )
    return (
        "Portable: it is quantised, and a seed gives the same bytes on every machine that gives "
        "the golden digests in its header, which the service checks when it starts. "
        "docs/explanation/same-bytes.md says how. On average it differs from the network in "
        f"floating point: {differences}."
    )


def _evaluate_command(name: str, store: Path, data: dict[str, str]) -> str:
    """The command that measures the checkpoint again, for a working directory like this one."""
    options = " --data FOLDER" if data["source"] == "folder" else ""
    here = Path.cwd()
    place = (here / store).resolve()
    if place != (here / STORE).resolve():
        inside = place.is_relative_to(here.resolve())
        options += f" --store {shlex.quote(str(store)) if inside else 'STORE'}"
    return f"`python -m training evaluate {name}{options}`"


def _figures(description: Description, evaluate_command: str) -> tuple[str, str]:
    """The paragraphs under Figures, and the one about memorised training images."""
    if not description.metrics:
        return (
            f"Not measured: it was published with `--no-figures`. {evaluate_command} measures it.",
            "Whether it repeats training images was not measured.",
        )
    text = f"{evaluate_command} measures them again; docs/explanation/quality.md says how.\n\n"
    if description.portable:
        text += (
            "They are of what is served; with `--float` of the network in floating point, as are "
            "likelihoods always.\n\n"
        )
    real = description.metrics.get("real_images", SAMPLES)
    if real < FEW:
        text += (
            f"They are compared with {real:,} real images. With so few, distances, their floors "
            "and all figures of nearest neighbours are mostly noise.\n\n"
        )
    return text + markdown_table(description.metrics), memorisation_summary(description.metrics)


def _escaped(text: str) -> str:
    """A user's text for a cell of a Markdown table: no markup, and no end of the cell."""
    return re.sub(r"([\\`*_\[\]!|])", r"\\\1", html.escape(text, quote=False))
