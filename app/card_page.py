"""A model's card as a page to read; the same figures as JSON are what /models/{name} gives."""

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from app.schemas import ModelCard

_KINDS = {"gan": "GAN", "cgan": "Conditional GAN", "vae": "Variational autoencoder"}
_SHOWN = {
    "samples": "Samples, none chosen.",
    "morph": "From the first image of each row to its last, through the latent space.",
    "nearest": "The samples that come closest to a training image; below each its nearest ones.",
    "map": "Test images by their place in the latent space, brought to two dimensions.",
    "curves": "Losses and measures against images seen.",
}
_SAMPLES_OF_VAE = (
    "Two rows of test images, each over its reconstruction; then samples, none chosen."
)
_LIMITS = {
    "gan": "It cannot be asked for a class, and cannot tell where in its latent space a picture "
    "lies.",
    "cgan": "It cannot tell where in its latent space a picture lies.",
    "vae": "Where it is unsure it shows the average, so its samples are soft.",
}
# A row of the table of figures in a card that training.publish wrote.
_ROW = re.compile(r"^\| ([a-z0-9_]+) \| [^|]* \| [^|]* \| ([^|]+) \|$", re.MULTILINE)
_OF_REAL = ("_real", "_floor")  # what real images score beside a figure


def meanings(markdown: str) -> dict[str, str]:
    """What each figure means, from the card beside the checkpoint."""
    return dict(_ROW.findall(markdown))


def card_page(card: ModelCard, means: Mapping[str, str]) -> str:
    """HTML of a whole card: facts, recipe, figures, pictures, limits.

    Args:
        card: As /models/{name} gives it.
        means: A sentence by figure, as far as it is known.
    """
    pinned = f"{card.name}@{card.digest[:12]}"
    said = _SHOWN | ({"samples": _SAMPLES_OF_VAE} if card.kind == "vae" else {})
    samples = card.pictures.get("samples")
    first = _picture(samples, said["samples"]) if samples else ""
    others = [(shows, at) for shows, at in card.pictures.items() if shows != "samples"]
    licence = f"{card.data.get('name', 'unknown')}, licence {card.data.get('licence', 'unknown')}"
    facts = {
        "Kind": _KINDS.get(card.kind, card.kind),
        "Labels": ", ".join(card.labels) or "none",
        "Latent dimensions": card.latent_dim,
        "Image": " × ".join(map(str, card.image_shape)) + " (channels, height, width)",
        "Operations": ", ".join(card.operations),
        "Reproducibility": f"{card.reproducibility}, with {card.engine} on {card.device}",
        "Data": licence,
        "Digest": card.digest,
    }
    recipe = {k: v for k, v in card.training.items() if not isinstance(v, dict)}
    parts = [
        f"<h1>{escape(card.name)}</h1>",
        f'<p><a href="/#board?model={escape(pinned)}">See and touch it</a> · '
        '<a href="/#models">Beside the others</a> · <a href="/models">All, as JSON</a></p>',
        first,
        _table(facts),
        "<h2>Recipe</h2>",
        _table(recipe),
        "<h2>Figures</h2>",
        _figures(card.metrics, means),
        "<h2>Pictures</h2>" if others else "",
        *(_picture(at, f"{said.get(shows, shows)} ({licence})") for shows, at in others),
        "<h2>Limits</h2>",
        "<p>It knows what its training set shows and nothing else. "
        f"{_LIMITS.get(card.kind, '')}</p>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(card.name)} · Genserve</title>\n"
        '<link rel="icon" href="/generate?seed=42&amp;scale=2">\n'
        '<link rel="stylesheet" href="/static/page.css">\n'
        '</head>\n<body>\n<main class="whole-card">\n' + "\n".join(filter(None, parts)) + "\n"
        "</main>\n</body>\n</html>\n"
    )


def _picture(address: str, caption: str) -> str:
    told = escape(caption)
    image = f'<img src="{escape(address)}" alt="{told}" loading="lazy">'
    return f"<figure>{image}<figcaption>{told}</figcaption></figure>"


def _row(*cells: object) -> str:
    first, *rest = (escape(_value(cell)) for cell in cells)
    return f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest)


def _value(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)


def _table(rows: Mapping[str, Any]) -> str:
    body = "".join(_row(name.replace("_", " "), value) for name, value in rows.items())
    return f"<table><tbody>{body}</tbody></table>"


def _figures(metrics: Mapping[str, Any], means: Mapping[str, str]) -> str:
    rows = []
    for name, value in metrics.items():
        if name.endswith(_OF_REAL) and name.rpartition("_")[0] in metrics:
            continue
        real = next((metrics[name + end] for end in _OF_REAL if name + end in metrics), "")
        rows.append(_row(name.replace("_", " "), value, real, means.get(name, "")))
    heads = "".join(
        f'<th scope="col">{head}</th>' for head in ("Figure", "Value", "Real images", "Meaning")
    )
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Figures"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
