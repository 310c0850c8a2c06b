"""The figures of networks whose faults are known."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.evaluation.conftest import QUICK, Oracle, Painter, make_cgan
from training.data.dataset import Dataset, to_pixels
from training.evaluation import measures
from training.evaluation.evaluate import Effort, draw, evaluate
from training.evaluation.judged_reference import SEED
from training.evaluation.metric_docs import (
    CHOOSING,
    FIRST_VERSION,
    MEANINGS,
    markdown_table,
    plain_table,
    rows,
)
from training.evaluation.reference import Reference
from training.networks.configs import VaeConfig
from training.networks.gan import Generator
from training.networks.vae import VAE
from training.optim.losses import kl_to_standard_normal


def test_a_perfect_conditional_network_scores_1_in_every_label(reference: Reference) -> None:
    figures = evaluate(Painter(), reference, QUICK)
    assert figures["judge_accuracy"] == figures["judge_accuracy_train"] == 1
    assert figures["judge_accuracy_worst"] == 1
    assert figures["conditional_accuracy"] == 1
    assert figures["conditional_accuracy_worst"] == 1
    assert figures["class_kl_to_uniform"] == figures["class_kl_to_uniform_real"] == 0
    assert (figures["samples"], figures["seed"]) == (40, SEED)


def test_real_images_drawn_again_score_what_real_images_score(reference: Reference) -> None:
    figures = reference.compare(reference.train.images, reference.train.labels)
    assert figures["frechet_test"] == pytest.approx(0, abs=1e-6)
    assert figures["frechet_train"] == pytest.approx(0, abs=1e-6)
    for name, value in figures.items():
        # Real images stand in for samples in membership inference, but others than these.
        if f"{name}_real" in figures and not name.startswith("membership"):
            assert value == figures[f"{name}_real"], name
    assert figures["precision"] == figures["recall"] == figures["coverage"] == 1
    assert figures["diversity"] == figures["diversity_worst"] == 1
    assert figures["histogram_distance"] == 0


def test_a_label_drawn_as_another_is_found_and_named(reference: Reference) -> None:
    figures = evaluate(Painter({3: 8}), reference, QUICK)
    assert figures["conditional_accuracy"] == 0.9
    assert figures["conditional_accuracy_worst"] == 0
    assert figures["conditional_accuracy_worst_label"] == 3
    right = evaluate(Painter(), reference, QUICK)
    assert figures["class_kl_to_uniform"] > right["class_kl_to_uniform"] == 0
    assert figures["coverage"] <= right["coverage"]


def test_a_collapsed_unconditional_network_is_seen_by_all_but_precision(
    reference: Reference,
) -> None:
    figures = evaluate(Painter(num_classes=0), reference, QUICK)
    assert figures["class_kl_to_uniform"] == pytest.approx(math.log(10), abs=1e-3)
    assert figures["precision"] == 1
    assert figures["recall"] < 0.2
    assert figures["coverage"] < 0.2
    assert figures["diversity"] == figures["diversity_worst"] == 0
    assert figures["exact_duplicates"] == 39
    assert figures["exact_duplicates_real"] == 0
    assert figures["near_duplicates"] == 1
    assert "conditional_accuracy" not in figures


def test_distances_are_of_as_many_samples_as_real_images(painted: Dataset) -> None:
    few = Reference(Oracle(), painted, painted, 20)
    figures = few.compare(draw(Painter(), 400, SEED)[0], None)
    whole = measures.frechet_distance(
        few.judged.subsample(few.judged.judge.features(to_pixels(draw(Painter(), 400, SEED)[0]))),
        few.judged.judged_test.features,
    )
    assert figures["frechet_test"] == pytest.approx(whole)
    assert len(few.judged.subsample(torch.zeros(400, 3))) == few.count_figures["real_images"] == 20
    assert len(few.judged.subsample(torch.zeros(7, 3))) == 7


def test_a_judge_that_errs_on_real_images_is_said_to(painted: Dataset) -> None:
    painted.labels[:10] = 0  # nine of forty are now wrong
    figures = evaluate(Painter(), Reference(Oracle(), painted, painted, 40), QUICK)
    assert figures["judge_accuracy"] == 31 / 40
    assert figures["judge_accuracy_worst"] == pytest.approx(4 / 13, rel=1e-3)


def test_the_floor_is_what_as_many_real_images_score(painted: Dataset) -> None:
    few = Reference(Oracle(), painted, painted, 20)
    figures = evaluate(Painter({3: 8}), few, dataclasses.replace(QUICK, samples=20))
    for name in ("test", "train"):
        floor = figures[f"frechet_{name}_floor"]
        assert floor > 0
        assert figures[f"frechet_{name}_ratio"] == pytest.approx(
            figures[f"frechet_{name}"] / floor, rel=1e-2
        )


def test_cas_tells_right_labels_from_wrong_ones(reference: Reference) -> None:
    effort = dataclasses.replace(QUICK, cas_images=1000)
    right, wrong = (
        evaluate(painter, reference, effort)
        for painter in (Painter(), Painter({k: 9 - k for k in range(10)}))
    )
    assert right["cas_images"] == 40  # not more than there are real ones
    assert right["cas_gap_points"] == pytest.approx(100 * (right["cas_real"] - right["cas"]))
    assert right["cas"] > 0.3
    assert wrong["cas"] < 0.2
    assert "cas" not in evaluate(Painter(num_classes=0), reference, effort)


def make_vae(prior_layers: int = 0) -> VAE:
    """Encoder and decoder are the same for any number of layers; the prior is far from N(0, I)."""
    torch.manual_seed(0)
    vae = VAE(VaeConfig("dense", 2, image_size=8, channels=(4,), prior_layers=prior_layers))
    for parameter in vae.prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return vae.eval().requires_grad_(False)


def test_a_vae_gets_figures_of_its_reconstructions(reference: Reference, painted: Dataset) -> None:
    figures = evaluate(make_vae(), reference, QUICK)
    total = figures["reconstruction_nats"] + figures["kl_nats"]
    assert figures["negative_elbo_nats"] == pytest.approx(total, rel=2e-3)
    back = make_vae().decode(make_vae().encode(to_pixels(painted.images))[0])
    mse = (back - to_pixels(painted.images)).square().mean().item()
    assert figures["reconstruction_mse"] == pytest.approx(mse, rel=1e-3)
    # Untrained, it gives back one grey: right for the few whose class that grey is.
    assert 0 <= figures["reconstruction_accuracy"] <= 0.2
    assert figures["reconstruction_frechet_test"] > figures["frechet_test_floor"]
    assert -1 <= figures["reconstruction_ssim"] < 1
    assert 0 <= figures["active_units"] <= figures["latent_dimensions"] == 2
    assert len(figures["kl_per_dimension_nats"]) == 2
    assert "nll_binarised_nats" not in figures


def test_the_likelihood_is_better_than_the_bound(reference: Reference) -> None:
    effort = dataclasses.replace(QUICK, nll_samples=50, nll_images=1000)
    figures = evaluate(make_vae(), reference, effort)
    assert figures["nll_binarised_nats"] < figures["negative_elbo_binarised_nats"]
    assert (figures["nll_samples"], figures["nll_images"]) == (50, 40)
    assert figures["nll_standard_error"] == 0


def test_without_a_learned_prior_the_kl_is_near_its_closed_form(painted: Dataset) -> None:
    many = Dataset(
        painted.name,
        painted.licence,
        painted.images.repeat(50, 1, 1, 1),
        painted.labels.repeat(50),
        painted.class_names,
    )
    vae = make_vae()
    mu, logvar = vae.encode(to_pixels(painted.images))
    expected = kl_to_standard_normal(mu, logvar).mean().item()
    figures = evaluate(vae, Reference(Oracle(), many, many, 40), QUICK)
    # 2,000 draws of a figure that varies by about 1 nat.
    assert figures["kl_nats"] == pytest.approx(expected, abs=0.1)


def test_a_learned_prior_counts_in_the_kl_and_not_in_reconstructions(reference: Reference) -> None:
    plain = evaluate(make_vae(), reference, QUICK)
    learned = evaluate(make_vae(prior_layers=3), reference, QUICK)
    assert learned["kl_nats"] > plain["kl_nats"] + 0.1  # it was fitted to nothing
    for name in ("reconstruction_nats", "reconstruction_mse", "reconstruction_accuracy"):
        assert learned[name] == plain[name]


def test_figures_are_the_same_each_time(painted: Dataset, tmp_path: Path) -> None:
    def measured(network: Generator | VAE, seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        fresh = Reference(Oracle(), painted, painted, 40, tmp_path / str(seed))
        return evaluate(network, fresh, Effort(40, 40, 5, 10))

    for network in (make_vae(), make_cgan()):
        assert measured(network, 1) == measured(network, 2)


def test_every_figure_has_its_meaning_and_stands_in_the_tables_once(reference: Reference) -> None:
    figures: dict[str, Any] = {}
    for network in (make_vae(), Painter()):
        figures |= evaluate(network, reference, Effort(40, 40, 5, 10))
    shown = rows(figures)
    assert all(row.meaning for row in shown)
    assert {row.name for row in shown} == set(MEANINGS)
    real = {row.name: row.real for row in shown}
    assert real["recall"] == str(figures["recall_real"])
    assert real["frechet_test"] == str(figures["frechet_test_floor"])
    assert real["conditional_accuracy"] == str(figures["judge_accuracy"])
    assert real["membership_auc"] == str(figures["membership_auc_real"])
    card, plain = markdown_table(figures), plain_table(figures, {"recall": 0.125})
    for row in shown:
        assert card.count(f"| {row.name} | {row.value} |") == 1
        assert plain.count(f"\n{row.name} ") == 1
    (line,) = (line for line in plain.splitlines() if line.startswith("recall"))
    assert line.split()[1:4] == [str(figures["recall"]), str(figures["recall_real"]), "0.125"]


class Careless(Oracle):
    """Takes every image for a 0."""

    name, version = "careless", 7

    def classify(self, features: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.zeros(len(features)).long(), 10).float()


@pytest.mark.parametrize("network", [Painter(), make_vae()], ids=["cgan", "vae"])
def test_the_judge_that_chose_has_a_column_of_its_own(
    network: Generator | VAE, painted: Dataset, tmp_path: Path
) -> None:
    alone = evaluate(network, Reference(Oracle(), painted, painted, 40, tmp_path), QUICK)
    both = Reference(Oracle(), painted, painted, 40, tmp_path, choosing=Careless())
    figures = evaluate(network, both, QUICK)
    chosen = figures.pop(CHOOSING)
    assert figures == alone  # the choosing judge changes nothing of what is published
    assert (figures["judge_version"], chosen["judge_version"]) == (0, 7)
    assert (figures["judge_accuracy"], chosen["judge_accuracy"]) == (1, 0.1)
    of_judge = {"frechet_test", "recall", "class_kl_to_uniform", "nearest_features_ratio"}
    if isinstance(network, VAE):
        of_judge |= {"reconstruction_accuracy", "reconstruction_frechet_test_ratio"}
    else:
        of_judge |= {"conditional_accuracy", "diversity"}
        assert (figures["conditional_accuracy"], chosen["conditional_accuracy"]) == (1, 0.1)
    assert of_judge <= chosen.keys()
    assert not {"training_copies", "histogram_distance", "membership_auc"} & chosen.keys()

    name, value = "recall", chosen["recall"]
    figures |= {CHOOSING: chosen}
    head, _, *lines = markdown_table(figures).splitlines()
    assert "By the choosing judge" in head
    assert {line.count("|") for line in lines} == {head.count("|")}
    (row,) = (row for row in rows(figures) if row.name == name)
    assert (row.choosing, row.choosing_real) == (str(value), str(chosen["recall_real"]))
    # A checkpoint of before has figures of one judge, which chose too.
    stated = {"judge_version": FIRST_VERSION, "recall": 0.125}
    by_one, by_other = plain_table(figures, stated).split("\n\n")
    assert stated_beside("recall", by_one) == "-"
    assert stated_beside("recall", by_other) == "0.125"
    assert stated_beside("recall", plain_table(figures, figures)) == str(figures["recall"])


def stated_beside(name: str, table: str) -> str:
    """The third number of a figure's first line in a plain table."""
    return next(line.split()[3] for line in table.splitlines() if line.startswith(f"{name} "))
