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


def selector(*models: StoredModel, default: str | None = None, **aliases: str) -> ModelSelector:
    return ModelSelector({model.name: model for model in models}, default, aliases)


def test_without_a_name_the_chosen_vae_encodes() -> None:
    one, other = vae("a"), vae("b", reconstruction_mse=0.01)
    assert selector(gan("d", DIGITS), one).default_encoder == "a"
    assert selector(one, other, encoder="b").encoder(None).name == "b"
    assert selector(one, other, default="b").encoder(None).name == "b"
    both = selector(gan("d", DIGITS), one, other)
    assert both.default_encoder is None
    assert both.encoder("a").name == "a"
    with pytest.raises(InvalidParameterError, match=r"several models can encode, .* one of a, b"):
        both.encoder(None)
    with pytest.raises(WrongModelError, match="d is a cgan, which cannot encode"):
        both.encoder("d")
    with pytest.raises(WrongModelError, match="no loaded model can encode"):
        selector(gan("d")).encoder(None)
    with pytest.raises(StartupError, match="encoder -> d, which cannot encode"):
        selector(gan("d"), one, encoder="d")


def test_the_default_is_chosen_and_never_follows_from_names() -> None:
    models = gan("a"), gan("b", DIGITS), gan("c", DIGITS)
    assert selector(*models[:2]).resolve(None, None) == (models[1], None)  # the only conditional
    assert selector(models[0]).default == "a"  # the only one
    assert selector(*models, default="a").resolve(None, None) == (models[0], None)
    with pytest.raises(StartupError, match=r"default_model is 'x'; available: a, b, c"):
        selector(*models, default="x")


def by_alias(*models: StoredModel, default: str | None = None) -> ModelSelector:
    named = {model.name: model for model in models}
    return ModelSelector(named, default, {"default": "b", "cgan": "b", "latest": "c"})


def test_the_setting_comes_before_the_alias_and_may_be_one() -> None:
    models = gan("a"), gan("b", DIGITS), gan("c", DIGITS)
    assert by_alias(*models).default == "b"
    assert by_alias(*models, default="a").default == "a"
    assert by_alias(*models, default="latest").default == "c"


def test_an_alias_is_taken_where_a_name_is_and_what_follows_names_the_model() -> None:
    models = gan("a"), gan("b", DIGITS), gan("c", DIGITS)
    aliased = by_alias(*models)
    assert aliased.model("latest") is models[2]
    assert aliased.resolve("cgan", "7") == (models[1], 7)
    digest = models[1].description.digest
    assert aliased.model(f"cgan@{digest[:12]}") is models[1]
    assert pinned_name(aliased.model("cgan")) == f"b@{digest[:12]}"
    with pytest.raises(UnknownModelError, match="did you mean latest"):
        aliased.model("lastest")


def test_several_without_a_choice_are_refused_and_said_at_the_start() -> None:
    both = selector(gan("b", DIGITS), gan("c", DIGITS), vae("v"), vae("w"))
    assert both.default is None
    for label in (None, "7"):
        with pytest.raises(InvalidParameterError, match="name one of b, c") as refused:
            both.resolve(None, label)
        assert refused.value.errors[0]["pointer"] == "?model"
    assert both.resolve("c", "7")[0].name == "c"
    default, encoder = both.open_choices()
    assert "GENSERVE_DEFAULT_MODEL" in default
    assert "default -> NAME" in default
    assert "encoder -> NAME" in encoder
    assert selector(gan("b", DIGITS), gan("a"), vae("v")).open_choices() == []


@pytest.mark.parametrize("label", [None, "7", "sneaker", "0"])
@pytest.mark.parametrize("default", [None, "m", "plain", "v"])
def test_a_further_file_gives_no_request_another_model(
    label: str | None, default: str | None
) -> None:
    models = [gan("m", DIGITS), gan("plain"), vae("v")]
    before = selector(*models, default=default).resolve(None, label) if label != "sneaker" else None
    for name in ("a", "z"):
        for further in (gan(name, DIGITS), gan(name, SHOES), gan(name), vae(name)):
            more = selector(*models, further, default=default)
            try:
                found = more.resolve(None, label)
            except InvalidParameterError:
                continue  # refused, with what to name
            assert before is None or found == before


@pytest.mark.parametrize(
    ("label", "default", "selected"),
    [
        ("sneaker", "digits", "shoes"),  # the default has no such class
        ("sneaker", None, "shoes"),
        ("7", "digits", "digits"),
        ("7", "shoes", "digits"),
        ("3", "shoes", "shoes"),  # an index of the default
    ],
)
def test_a_label_finds_the_only_model_that_has_such_a_class(
    label: str, default: str | None, selected: str
) -> None:
    model, _ = selector(gan("digits", DIGITS), gan("shoes", SHOES), default=default).resolve(
        None, label
    )
    assert model.name == selected


def test_a_class_of_several_models_needs_a_name() -> None:
    three = selector(gan("digits", DIGITS), gan("a", SHOES), gan("b", SHOES), default="digits")
    with pytest.raises(InvalidParameterError, match="name one of a, b"):
        three.resolve(None, "sneaker")


@pytest.mark.parametrize(
    ("aliases", "says"),
    [
        ({"a": "b"}, "a is a model's own name"),
        ({"latest": "none"}, "latest -> none, which is not loaded; available: a, b"),
    ],
)
def test_an_alias_that_means_nothing_is_refused_at_the_start(
    aliases: dict[str, str], says: str
) -> None:
    with pytest.raises(StartupError, match=says):
        ModelSelector({"a": gan("a"), "b": gan("b")}, None, aliases)


def test_an_alias_of_a_refused_checkpoint_takes_none_of_the_others_down_nor_another_in() -> None:
    models = {"a": gan("a", DIGITS), "v": vae("v")}
    aliases = {"default": "damaged", "encoder": "damaged", "cgan": "a"}
    chosen = ModelSelector(models, None, aliases, ["damaged"])
    assert (chosen.default, chosen.default_encoder) == (None, None)
    assert chosen.aliases == {"cgan": "a"}
    assert chosen.resolve("cgan", None)[0].name == "a"
    with pytest.raises(UnknownModelError, match="available: a, v"):
        chosen.resolve("default", None)


def test_a_label_that_no_model_has_is_refused_by_the_default() -> None:
    both = selector(gan("digits", DIGITS), gan("shoes", SHOES), default="digits")
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
