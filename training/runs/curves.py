"""A run's log as a picture: losses and measurements against images seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.runs.errors import write_errors

POSITION = ("step", "epoch", "images", "images_per_s")
# Panels from the top: label of the y-axis, then the log's names with their legend.
PANELS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "adversarial loss",
        {"loss_d": "discriminator", "loss_g": "generator"},
    ),
    ("probability", {"augment_probability": "of each augmentation"}),
    ("R1 penalty", {"r1": "|∇D(x)|² / 2 at real images"}),
    (
        "nats an image",
        {
            "negative_elbo": "negative ELBO, training",
            "heldout_negative_elbo": "negative ELBO, held out",
            "negative_bound": "negative bound of several draws, training",
            "heldout_negative_bound": "negative bound of several draws, held out",
            "reconstruction": "reconstruction",
            "kl": "KL(q(z|x) ‖ p(z))",
        },
    ),
    (
        "Fréchet distance",
        {
            "frechet_judge": "averaged generator, the judge's features",
            "frechet_pixels": "averaged generator, 7 x 7 pixel means",
        },
    ),
)


def save_curves(path: Path, log: Sequence[Mapping[str, Any]]) -> None:
    """Draw a panel for each group of figures in the log, as PNG; others get a panel of their own.

    Raises:
        TrainingError: the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    named = {name for _, lines in PANELS for name in lines}
    names = dict.fromkeys(name for line in log for name in line)
    others = tuple((n, {n: n}) for n in names if n not in named and n not in POSITION)
    panels = [panel for panel in (*PANELS, *others) if any(name in names for name in panel[1])]
    if not panels:
        return
    # A canvas of its own: no window system, no state shared between pictures.
    figure = Figure(figsize=(8, 2.6 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, (label, lines) in zip(axes, panels, strict=True):
        for name, legend in lines.items():
            points = [(r["images"], r[name]) for r in log if name in r]
            if points:
                few = len(points) <= 40
                axis.plot(*zip(*points, strict=True), label=legend, marker="." if few else None,
                          linewidth=1)  # fmt: skip
        axis.set_ylabel(label)
        axis.legend(  # above the panel, where it hides no curve
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize="small", frameon=False
        )
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("images seen")
    axes[-1].set_xlim(left=0)
    with write_errors(path):
        figure.savefig(path, format="png")
