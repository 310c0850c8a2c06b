"""A model's card for people to read in a terminal."""

from genserve.results import ModelCard

_COLOURS = {1: "grey", 3: "RGB", 4: "RGBA"}
_FIGURES = 12  # of the card; --json has all


def card_lines(card: ModelCard) -> list[str]:
    """The lines of a card: what the model is, what it was trained on, its first figures."""
    channels, height, width = card["image_shape"]
    data, training = card["data"], card["training"]
    facts = {
        "kind": card["kind"],
        "does": ", ".join(card["operations"]),
        "labels": ", ".join(card["labels"]) or "none",
        "image": f"{width} x {height} {_COLOURS.get(channels, channels)}",
        "latent": f"{card['latent_dim']} numbers",
        "digest": card["digest"][:12],
        "seeds": card["reproducibility"],
        "runs on": f"{card['engine']}, {card['device']}",
        "data": _listed(data, "name", "licence"),
        "images": _listed(data, "training_images"),
        "training": _listed(training, "command"),
        "revision": _listed(training, "revision"),
    }
    lines = [card["name"], *(f"  {name:<10}{text}" for name, text in facts.items() if text)]
    figures = [(k, v) for k, v in card["metrics"].items() if isinstance(v, int | float)]
    if figures:
        lines += ["", "figures"]
        longest = max(len(name) for name, _ in figures[:_FIGURES])
        lines += [f"  {name:<{longest}}  {value:.6g}" for name, value in figures[:_FIGURES]]
        if len(figures) > _FIGURES:
            lines.append(f"  and {len(figures) - _FIGURES} more: --json")
    return lines


def _listed(table: dict[str, object], *names: str) -> str:
    """The values of these names, as far as the table has them."""
    values = [table[name] for name in names if table.get(name) not in (None, "")]
    return ", ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in values)
