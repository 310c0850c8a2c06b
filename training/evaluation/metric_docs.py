"""What each figure means, and tables of figures for the terminal and the card."""

from collections.abc import Mapping
from typing import Any, NamedTuple

MEANINGS = {
    "samples": "generated samples; none rejected, no truncation",
    "seed": "seed of those samples",
    "real_images": "real training images that the samples are compared with and the floors are "
    "measured on; distances between distributions use as many samples",
    "test_images": "real test images",
    "judge_version": "version of the judge; figures of different versions are not comparable",
    "judge_accuracy": "accuracy of the judge on real test images",
    "judge_accuracy_worst": "the same for the worst label",
    "judge_accuracy_train": "the same on training images, on which it was trained",
    "frechet_test": "Fréchet distance to the test images, in the judge's features",
    "frechet_test_ratio": "that divided by its floor, the distance of as many real training images",
    "frechet_train": "Fréchet distance to all training images",
    "frechet_train_ratio": "that divided by its floor, which is low: its images are among them",
    "kid_test": "kernel distance (KID) to the test images, in the judge's features",
    "kid_train": "kernel distance to all training images",
    "precision": "samples within the manifold of real images: are they plausible?",
    "recall": "real images within the manifold of samples: is everything generated?",
    "density": "real images' neighbourhoods that contain a sample, relative to the expected number",
    "coverage": "real images with a sample in their neighbourhood",
    "conditional_accuracy": "samples that the judge classifies as their label",
    "conditional_accuracy_worst": "the same for the worst label",
    "conditional_accuracy_worst_label": "that label",
    "class_kl_to_uniform": "KL divergence of the samples' classes from uniform, nats",
    "diversity": "mean distance between two samples of a label, in the judge's features, divided "
    "by that of two real images; mean over labels",
    "diversity_worst": "the same for the worst label",
    "diversity_worst_label": "that label",
    "exact_duplicates": "samples equal to an earlier one in every pixel",
    "near_duplicates": "samples closer to another one than 99.9 % of real images are to theirs",
    "training_copies": "samples equal to a training image in every pixel",
    "memorised": "samples less than a third as far from the nearest training image as from the "
    "next different one, in pixels",
    "nearest_pixels_ratio": "median distance to the nearest training image, in pixels, divided by "
    "that of test images",
    "nearest_pixels_closer": "samples closer to it than 99 % of test images are",
    "nearest_features_ratio": "the same ratio in the judge's features",
    "nearest_features_closer": "samples closer than 99 % of test images, in the judge's features",
    "membership_auc": "area under the ROC curve of telling training from test images by the "
    "distance to the nearest sample; 0.5 = not at all",
    "membership_tpr": "training images found so where 1 % of test images are mistaken for some",
    "membership_loss_auc": "the same area by the negative ELBO of the image",
    "membership_loss_tpr": "training images found so where 1 % of test images are mistaken for "
    "some",
    "histogram_distance": "L1 distance between the pixel histograms of samples and training "
    "images, 0 to 2",
    "black_pixels": "share of pixels that are exactly black",
    "cas": "test accuracy of a classifier trained on samples alone (CAS)",
    "cas_gap_points": "percentage points below the same classifier trained on real images",
    "cas_images": "images that it is trained on",
    "negative_elbo_nats": "negative ELBO of the test images, grey levels as Bernoulli means, "
    "nats an image",
    "reconstruction_nats": "of which reconstruction",
    "kl_nats": "of which KL divergence from the prior",
    "negative_elbo_binarised_nats": "negative ELBO of the test images binarised at random",
    "nll_binarised_nats": "their negative log-likelihood by importance sampling, nats an image",
    "nll_standard_error": "its standard error, if not all test images were weighted",
    "nll_samples": "draws for each image",
    "nll_images": "weighted images",
    "reconstruction_mse": "mean squared error of reconstructed test images, pixels in 0 to 1",
    "reconstruction_ssim": "structural similarity of reconstructed test images, 1 = equal",
    "reconstruction_accuracy": "reconstructed test images that the judge classifies correctly",
    "reconstruction_frechet_test": "Fréchet distance of reconstructed test images to "
    "the test images",
    "reconstruction_frechet_test_ratio": "that divided by the floor of samples",
    "active_units": "latent dimensions whose mu varies by more than 0.01 over the test images",
    "latent_dimensions": "latent dimensions in all",
    "kl_per_dimension_nats": "KL divergence from N(0, 1) in each latent dimension",
}

# A figure's counterpart for real images has its name with one of these suffixes, or is listed.
BESIDE = ("_floor", "_real")
BESIDE_ELSEWHERE = {
    "conditional_accuracy": "judge_accuracy",
    "conditional_accuracy_worst": "judge_accuracy_worst",
    "reconstruction_accuracy": "judge_accuracy",
    "reconstruction_frechet_test": "frechet_test_floor",
    "active_units": "latent_dimensions",
}

CHOOSING = "choosing_judge"  # name of a table of figures: of the judge that chose the weights
FIRST_VERSION = 2  # of a judge that both chose and published, before there were two

Figures = Mapping[str, Any]


class Row(NamedTuple):
    """A figure in a table, as texts; "" = there is none."""

    name: str
    value: str
    real: str  # what real images score
    meaning: str
    choosing: str  # by the judge that chose
    choosing_real: str


def by_judge(figures: Figures) -> tuple[Figures, Figures]:
    """(by the judge that publishes, by the one that chose); {} = not measured by it.

    A checkpoint from before there were two has the figures of one, which chose as well.
    """
    if figures.get("judge_version") == FIRST_VERSION:
        return {}, figures
    return figures, figures.get(CHOOSING, {})


def rounded(figures: Figures) -> dict[str, Any]:
    """Fractions rounded to four significant digits, in lists and tables too; the rest unchanged."""

    def short(value: Any) -> Any:
        if isinstance(value, list):
            return [short(item) for item in value]
        if isinstance(value, dict):
            return rounded(value)
        return float(f"{value:.4g}") if isinstance(value, float) else value

    return {name: short(value) for name, value in figures.items()}


def rows(figures: Figures) -> list[Row]:
    """A row for each figure; that of real images is a column instead of a row of its own, and so
    are those of the choosing judge.

    Unknown figures have a row without a meaning.
    """
    choosing = figures.get(CHOOSING, {})
    partners = {name: _partner(name, figures) for name in figures}
    shown_beside = {name for name in partners.values() if name.endswith(BESIDE)}
    return [
        Row(
            name,
            _text(value),
            _text(figures.get(partners[name], "")),
            MEANINGS.get(name, ""),
            _text(choosing.get(name, "")),
            _text(choosing.get(partners[name], "")),
        )
        for name, value in figures.items()
        if name not in shown_beside and name != CHOOSING
    ]


def _partner(name: str, figures: Figures) -> str:
    """The name of a figure's counterpart for real images; "" if there is none."""
    names = (*(name + end for end in BESIDE), BESIDE_ELSEWHERE.get(name, ""))
    return next((partner for partner in names if partner in figures), "")


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def plain_table(figures: Figures, stated: Figures) -> str:
    """For a terminal: each figure as measured now, of real images, and as the checkpoint states;
    by the judge that publishes, then by the one that chose."""
    published, chosen = by_judge(stated)
    table, choosing = _plain_table(figures, published), figures.get(CHOOSING)
    if not choosing:
        return table
    return (
        f"By the publishing judge\n{table}\n\n"
        f"By the choosing judge\n{_plain_table(choosing, chosen)}"
    )


def _plain_table(figures: Figures, stated: Figures) -> str:
    lines = [f"{'figure':34}{'value':>10}  {'real':>10}  {'stated':>10}  meaning"]
    for row in rows(figures):
        if isinstance(figures[row.name], list):
            lines.append(f"{row.name:34}{row.meaning}:\n    {row.value}")
        else:
            before = _text(stated.get(row.name, "-"))
            numbers = f"{row.value:>10}  {row.real:>10}  {before:>10}"
            lines.append(f"{row.name:34}{numbers}  {row.meaning}")
    return "\n".join(lines)


def markdown_table(figures: Figures) -> str:
    """For a card."""
    if not figures.get(CHOOSING):
        lines = ["| Figure | Value | Real images | Meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(row[:4])} |" for row in rows(figures)]
        return "\n".join(lines)
    lines = ["| Figure | Value | Real images | By the choosing judge | Real images | Meaning |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for row in rows(figures):
        cells = (row.name, row.value, row.real, row.choosing, row.choosing_real, row.meaning)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def memorisation_summary(figures: Figures) -> str:
    """Whether the samples repeat training images, in three sentences."""
    copies, memorised = figures["training_copies"], figures["memorised"]
    real = figures["memorised_real"]
    # 0.001 more than for test images is ten of 10,000 samples: more than chance.
    repeats = copies > figures["training_copies_real"] or memorised > real + 0.001
    verdict = "It repeats training images" if repeats else "It does not repeat training images"
    text = (
        f"{verdict}: of {figures['samples']:,} samples {copies} equal one in every pixel, and "
        f"{100 * memorised:.3g} % (test images: {100 * real:.3g} %) are less than a third as far "
        "from the nearest training image as from the next different one. The median distance to "
        f"the nearest training image is {figures['nearest_pixels_ratio']:.3g} times that of test "
        f"images in pixels, and {figures['nearest_features_ratio']:.3g} times in the judge's "
        "features."
    )
    if "membership_auc" in figures:
        text += (
            " Whether an image was trained on can be told from the samples with an AUC of "
            f"{figures['membership_auc']:.3f} (other training images in their place: "
            f"{figures['membership_auc_real']:.3f}; 0.5 = not at all)"
        )
        if "membership_loss_auc" in figures:
            text += f", and from its loss with {figures['membership_loss_auc']:.3f}"
        text += "."
    return text
