"""HTML pages for people: the models, a model's card, the kinds of errors. Their JSON has the same
content."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from app.errors import ServiceError
from app.rendering.html import page
from app.rendering.schemas import ModelCard, ModelList

_KINDS = {
    "gan": "A GAN: samples what it was trained on.",
    "cgan": "A conditional GAN: samples a given label.",
    "vae": "A VAE: samples, encodes a picture to a point in its latent space, and decodes it.",
    "graph": "A generator imported from elsewhere: its graphs are all that is known of it here.",
}
_CAPTIONS = {
    "samples": "uncurated samples; of a VAE, below test images with their reconstructions",
    "morph": "interpolation between samples, in equal steps through the latent space",
    "nearest": "for each class the sample closest to a training image, with the nearest training "
    "images below",
    "map": "test images in the latent space",
    "curves": "losses and metrics during training",
    "film": "the same samples during training, the first picture at the top",
}
_LIMITS = (
    "It can generate only what its training set shows. The figures above say whether it "
    "reproduces training images: copies, memorised, nearest."
)


def card_page(card: ModelCard, root: str) -> str:
    """One model's card."""
    facts = {
        "kind": card.kind,
        "operations": ", ".join(card.operations),
        "labels": ", ".join(card.labels) or "none",
        "latent dimensions": card.latent_dim,
        "latent": "; ".join(
            f"{part.name} {' x '.join(map(str, part.shape))}, {part.distribution}"
            for part in card.latent
        ),
        "image": " x ".join(map(str, card.image_shape)) + " (channels, height, width)",
        "digest": card.digest,
        "reproducibility here": card.reproducibility,
        "runs on": f"{card.engine}, {card.device}",
    }
    pictures = "".join(
        f'<figure><img src="{escape(address)}" alt="{escape(_CAPTIONS.get(shows, shows))}">'
        f"<figcaption>{escape(_CAPTIONS.get(shows, shows).capitalize())}.</figcaption></figure>\n"
        for shows, address in card.pictures.items()
    )
    parts = [
        f"<p>{escape(_KINDS.get(card.kind, card.kind))}</p>\n",
        pictures,
        _section("Model", facts),
        _section("Data", card.data),
        _section("Training", card.training),
        _section("Figures", card.metrics),
        f"<h2>Limits</h2>\n<p>{escape(_LIMITS)}</p>\n",
    ]
    return page(card.name, "".join(parts), root)


def models_page(models: ModelList, root: str) -> str:
    """The served models, and the files that were refused."""
    items = "".join(
        f'<li><a href="{root}/models/{escape(card.name)}">{escape(card.name)}</a>: '
        f"{escape(_KINDS.get(card.kind, card.kind))}"
        f"{' The default.' if card.name == models.default else ''}</li>\n"
        for card in models.models
    )
    aliases = _section("Aliases", models.aliases)
    refused = _section("Refused files", models.refused) if models.refused else ""
    return page("Models", f"<ul>\n{items}</ul>\n{aliases}{refused}", root)


def problems_page(problems: Mapping[str, type[ServiceError]], root: str) -> str:
    """Every kind of error."""
    items = "".join(
        f'<li>{error.status} <a href="{root}/problems/{slug}">{escape(error.title)}</a></li>\n'
        for slug, error in sorted(problems.items(), key=lambda item: (item[1].status, item[0]))
    )
    return page("Problems", f"<p>Every kind of error response.</p>\n<ul>\n{items}</ul>\n", root)


def problem_page(error: type[ServiceError], root: str) -> str:
    """One kind of error."""
    return page(
        error.title,
        f"<p>Status {error.status}.</p>\n<p>{escape(error.about)}</p>\n"
        f"<p>Example: <q>{escape(error.example)}</q></p>\n",
        root,
    )


def _section(title: str, values: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n'
        for name, value in _flat(values)
    )
    return f"<h2>{escape(title)}</h2>\n<table>\n{rows}</table>\n" if rows else ""


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested objects, one pair for each line of a table."""
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, list):
            yield name, ", ".join(map(_text, value))
        else:
            yield name, _text(value)


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
