"""Which of the loaded models a request means."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from app.core.labels import Labels
from app.engines.aliases import ALIASES
from app.engines.store import StoredModel
from app.errors import (
    InvalidParameterError,
    StartupError,
    UnknownModelError,
    WrongModelError,
    shown,
)

_PIN = re.compile(r"[0-9a-f]{12,64}")


def pinned_name(model: StoredModel) -> str:
    """A model's name with its digest, for addresses that no other checkpoint may answer."""
    return f"{model.name}@{model.description.digest[:12]}"


def _only(names: Sequence[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _several(what: str, names: Sequence[str]) -> InvalidParameterError:
    return InvalidParameterError(
        f"several models {what}, and none is the default: name one of {', '.join(names)}",
        errors=[{"pointer": "?model", "detail": "has to be given here"}],
    )


class ModelSelector:
    """Finds the model of a request, and the index of its label.

    Which model a request means that names none is chosen, and never follows from the order of
    names: a further file in the store changes no answer.

    Args:
        models: By name; at least one.
        default: The model of requests that name none, or its alias; None = that of the alias
            ``default``, else the only conditional model, else the only one.
        aliases: Further names of models.
        refused: Names of checkpoints in the store that are not loaded; aliases may name them.

    Attributes:
        aliases: Those of loaded models.
        default: The name; None = several could be meant, or the one chosen is refused, so requests
            have to name one.
        default_encoder: The model that encodes: that of the alias ``encoder``, else the default if
            it can, else the only one that can; None = there is none, or several.

    Raises:
        StartupError: the default is not loaded, an alias is of no checkpoint, or an alias is a
            model's own name.
    """

    def __init__(
        self,
        models: Mapping[str, StoredModel],
        default: str | None,
        aliases: Mapping[str, str] = MappingProxyType({}),
        refused: Collection[str] = (),
    ) -> None:
        self._models = models
        self._labels = {name: Labels(model) for name, model in models.items()}
        available = ", ".join(sorted(models))
        for alias, name in aliases.items():
            if alias in models:
                raise StartupError(f"{ALIASES}: {alias} is a model's own name")
            if name not in models and name not in refused:
                raise StartupError(
                    f"{ALIASES}: {alias} -> {name}, which is not loaded; available: {available}"
                )
        # One damaged file does not take the others down, nor let another model answer in its place.
        self.aliases = {alias: name for alias, name in aliases.items() if name in models}
        if default is not None and aliases.get(default, default) not in models:
            raise StartupError(f"default_model is {default!r}; available: {available}")
        chosen = aliases.get("default") if default is None else aliases.get(default, default)
        generators = [name for name in sorted(models) if "generate" in models[name].operations]
        self._conditionals = [name for name in generators if models[name].network.num_classes]
        if chosen is None:
            self.default = _only(self._conditionals or generators or sorted(models))
        else:
            self.default = chosen if chosen in models else None
        self._conditional = _only(self._conditionals)
        if self.default in self._conditionals:
            self._conditional = self.default
        self._encoders = [name for name in sorted(models) if "encode" in models[name].operations]
        self._decoders = [name for name in sorted(models) if "decode" in models[name].operations]
        encoder = aliases.get("encoder")
        if encoder in models and encoder not in self._encoders:
            raise StartupError(f"{ALIASES}: encoder -> {encoder}, which cannot encode")
        self.default_encoder = _only(self._encoders)
        if encoder is not None:
            self.default_encoder = encoder if encoder in models else None
        elif self.default in self._encoders:
            self.default_encoder = self.default
        self._resolved = lru_cache(1024)(self._resolve)  # errors are not cached

    def open_choices(self) -> list[str]:
        """What is left to choose, each as a line that says how."""
        lines = []
        if self.default is None:
            lines.append(
                "requests have to name a model, since several could be meant: set "
                f"GENSERVE_DEFAULT_MODEL, or write a line default -> NAME to {ALIASES} in the store"
            )
        if self.default_encoder is None and self._encoders:
            lines.append(
                "requests with pictures or latents have to name a model, since several can encode: "
                f"write a line encoder -> NAME to {ALIASES} in the store"
            )
        return lines

    def resolve(self, name: str | None, label: str | None) -> tuple[StoredModel, int | None]:
        """The model of a request, and the index of its label.

        Args:
            name: Of a model; None = the default, or one that has the label if there is one.
            label: Class index or name; None = none.

        Raises:
            UnknownModelError, WrongModelError, InvalidParameterError
        """
        return self._resolved(name, label)

    def model(self, name: str) -> StoredModel:
        """A loaded model.

        Args:
            name: Its name or an alias alone, or pinned to its checkpoint: ``name@`` and 12 or more
                digits of the digest, as in ``pinned_name``.

        Raises:
            UnknownModelError: there is none of this name, or it is not the checkpoint pinned.
        """
        if name in self._models:
            return self._models[name]
        name, pin, digits = name.partition("@")
        name = self.aliases.get(name, name)
        if not pin and name in self._models:
            return self._models[name]
        if pin and (model := self._models.get(name)):
            if _PIN.fullmatch(digits) and model.description.digest.startswith(digits):
                return model
            raise UnknownModelError(
                f"{name} is pinned to {shown(digits)}; served is {pinned_name(model)} (12 to 64 "
                "digits of the digest)"
            )
        near = difflib.get_close_matches(name[:64], [*self._models, *self.aliases], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        available = ", ".join(sorted(self._models))
        raise UnknownModelError(f"unknown model {shown(name)}; available: {available}{hint}")

    def encoder(self, name: str | None) -> StoredModel:
        """The model that encodes and decodes: the one named, else ``default_encoder``.

        Raises:
            UnknownModelError, WrongModelError: there is no such model, or it cannot encode.
            InvalidParameterError: several could be meant.
        """
        return self._able(name, self._encoders, "encode")

    def class_of(self, model: StoredModel, label: str | None) -> int | None:
        """The index of the class that pictures or latents have; None = the model takes none.

        Raises:
            WrongModelError, InvalidParameterError: it takes none, or needs one.
        """
        if label is not None:
            return self._label(model, label)
        if model.network.num_classes:
            raise InvalidParameterError(
                f"{model.name} encodes and decodes images of a class: give its label",
                errors=[{"pointer": "?label", "detail": "needed for this model"}],
            )
        return None

    def decoder(self, name: str | None) -> StoredModel:
        """The model that decodes latents: the one named, else ``default_encoder``, else the only
        one that can.

        Raises:
            UnknownModelError, WrongModelError: there is no such model, or it cannot decode.
            InvalidParameterError: several could be meant.
        """
        return self._able(name, self._decoders, "decode")

    def _able(self, name: str | None, able: Sequence[str], task: str) -> StoredModel:
        if name is None and not able:
            raise WrongModelError(f"no loaded model can {task}: that takes a VAE")
        usual = self.default_encoder if self.default_encoder in able else _only(able)
        if name is None and usual is None:
            raise _several(f"can {task}", able)
        model = self.model(name or usual or "")
        if model.name not in able:
            raise WrongModelError(
                f"{model.name} is a {model.description.kind}, which cannot {task}; "
                f"models that can: {', '.join(able) or 'none'}"
            )
        return model

    def _model_for(self, label: str) -> str:
        """The model of a request that names a label and no model.

        It is the default conditional model if that has the label, else the only one that has a
        class of this name.

        Raises:
            WrongModelError: no model takes labels.
            InvalidParameterError: several could be meant.
        """
        if not self._conditionals:
            raise WrongModelError("no loaded model takes a label")
        usual = self._conditional
        if usual is not None and self._labels[usual].index(label) is not None:
            return usual
        having = [
            name for name in self._conditionals if self._labels[name].named(label) is not None
        ]
        if len(having) > 1 or (not having and usual is None):
            raise _several(
                "take this label" if having else "take labels", having or self._conditionals
            )
        return having[0] if having else str(usual)

    def _label(self, model: StoredModel, text: str) -> int:
        """A class index or class name to the index."""
        labels = self._labels[model.name]
        if not labels:
            able = [name for name, labels in self._labels.items() if labels]
            raise WrongModelError(
                f"{model.name} is unconditional and takes no label; "
                f"models that do: {', '.join(able) or 'none'}",
                errors=[{"pointer": "?label", "detail": "not for this model"}],
            )
        return labels.check(text)

    def _resolve(self, name: str | None, label: str | None) -> tuple[StoredModel, int | None]:
        if name is None:
            name = self.default if label is None else self._model_for(label)
            if name is None:
                raise _several("could be meant", sorted(self._models))
        model = self.model(name)
        return model, None if label is None else self._label(model, label)
