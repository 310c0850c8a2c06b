"""Which model and which class a request means."""

import unicodedata
from typing import Any, cast

import pytest

from app.core.selection import ModelSelector, pinned_name
from app.engines.store import StoredModel
from app.errors import (
    InvalidParameterError,
    StartupError,
    UnknownModelError,
    WrongModelError,
)
from training.networks.configs import GanConfig, VaeConfig
from training.networks.header import Description

NO_BACKEND = cast(Any, None)  # nothing here runs a model
SHOES = ("ankle boot", "sneaker", "été & 写真", "100%/+")
DIGITS = tuple("0123456789")


def gan(name: str, labels: tuple[str, ...] = ()) -> StoredModel:
    config = GanConfig("dense", latent_dim=2, num_classes=len(labels), channels=(4,))
    kind = "cgan" if labels else "gan"
    return StoredModel(
        name, Description(kind, config, labels, digest="0123456789abcdef" * 4), NO_BACKEND
    )


def vae(name: str, **metrics: float) -> StoredModel:
    config = VaeConfig(latent_dim=3, channels=(4, 4), hidden=8)
    return StoredModel(name, Description("vae", config, metrics=metrics), NO_BACKEND)


def selector(*models: StoredModel, default: str | None = None) -> ModelSelector:
    return ModelSelector({model.name: model for model in models}, default)


def test_without_a_name_the_vae_that_reconstructs_best_encodes() -> None:
    vaes = [vae("a"), vae("b", reconstruction_mse=0.02), vae("c", reconstruction_mse=0.01)]
    selected = selector(gan("d", DIGITS), *vaes)
    assert selected.default_encoder == "c"
    assert selected.encoder(None).name == "c"
    assert selected.encoder("a").name == "a"
    with pytest.raises(WrongModelError, match="d is a cgan, which cannot encode"):
        selected.encoder("d")
    with pytest.raises(WrongModelError, match="no loaded model can encode"):
        selector(gan("d")).encoder(None)


def test_without_a_name_the_first_conditional_model_generates() -> None:
    models = gan("a"), gan("b", DIGITS), gan("c", DIGITS)
    assert selector(*models).resolve(None, None) == (models[1], None)
    assert selector(*models, default="a").resolve(None, None) == (models[0], None)
    assert selector(*models, default="a").resolve(None, "7") == (models[1], 7)
    with pytest.raises(StartupError, match=r"default_model is 'x'; available: a, b, c"):
        selector(*models, default="x")


@pytest.mark.parametrize(
    ("label", "default", "selected"),
    [
        ("sneaker", None, "shoes"),  # the default has no such class
        ("7", None, "digits"),
        ("7", "shoes", "digits"),
        ("3", "shoes", "shoes"),  # an index of the default
    ],
)
def test_a_label_finds_the_model_that_has_such_a_class(
    label: str, default: str | None, selected: str
) -> None:
    model, _ = selector(gan("digits", DIGITS), gan("shoes", SHOES), default=default).resolve(
        None, label
    )
    assert model.name == selected


def test_a_label_that_no_model_has_is_refused_by_the_default() -> None:
    both = selector(gan("digits", DIGITS), gan("shoes", SHOES))
    for name, label in ((None, "nothing"), ("digits", "sneaker")):
        with pytest.raises(InvalidParameterError, match="digits knows 0 to 9"):
            both.resolve(name, label)
    with pytest.raises(WrongModelError, match="no loaded model takes a label"):
        selector(gan("plain")).resolve(None, "7")


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        (("1", "3", "5"), "0"),
        (("01", "02", "03"), "1"),
        (("1", "2", "other"), "0"),
        (("2019", "2020", "1234567"), "1"),
    ],
)
def test_an_index_is_refused_where_names_are_numbers(names: tuple[str, ...], wrong: str) -> None:
    """With classes 1, 3 and 5 a 0 would be class 1: another digit than was asked for."""
    numbers = selector(gan("odd", names))
    assert numbers.resolve(None, names[1])[1] == 1
    with pytest.raises(InvalidParameterError, match=f"knows {', '.join(names)}"):
        numbers.resolve(None, wrong)


def test_accents_of_a_name_may_be_combining() -> None:
    shoes = selector(gan("shoes", SHOES))
    for form in ("NFC", "NFD"):
        assert shoes.resolve(None, unicodedata.normalize(form, SHOES[2]))[1] == 2


@pytest.mark.parametrize("wrong", ["Sneaker", "sneakers"])
def test_a_misspelt_name_is_refused_with_the_nearest(wrong: str) -> None:
    with pytest.raises(InvalidParameterError) as refused:
        selector(gan("shoes", SHOES)).resolve(None, wrong)
    assert "0 to 3, or a name: " in refused.value.detail
    assert refused.value.detail.endswith("did you mean sneaker?")


def test_a_pinned_name_means_one_checkpoint_alone() -> None:
    model = gan("a")
    digest = model.description.digest
    one = selector(model)
    assert pinned_name(model) == f"a@{digest[:12]}"
    for pin in (digest[:12], digest):
        assert one.model(f"a@{pin}") is model
    for pin in (digest[:11], "0" * 12, "", f"{digest}0"):
        with pytest.raises(UnknownModelError, match="a is pinned to "):
            one.model(f"a@{pin}")
    with pytest.raises(UnknownModelError, match=r"unknown model 'aa'; available: a; did you"):
        one.model("aa")
