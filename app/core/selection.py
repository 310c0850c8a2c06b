"""Which of the loaded models a request means, and which of its classes."""

import difflib
import math
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from app.engines.store import StoredModel
from app.errors import (
    InvalidParameterError,
    StartupError,
    UnknownModelError,
    WrongModelError,
    shown,
)

_PIN = re.compile(r"[0-9a-f]{12,64}")


class _Labels:
    """What the classes of a model can be called."""

    def __init__(self, model: StoredModel) -> None:
        self.indices = {name: i for i, name in enumerate(model.description.labels)}
        self._classes = model.network.num_classes
        # Of classes called 1, 3 and 5 a 0 would be the 1: beside numbers that are names no index is
        # one.
        self.numbered = any(name.lstrip("+-").isdecimal() for name in self.indices)

    def named(self, text: str) -> int | None:
        """The index of the class of this name, its accents written joined or apart."""
        if text in self.indices:
            return self.indices[text]
        return self.indices.get(unicodedata.normalize("NFC", text))

    def index(self, text: str) -> int | None:
        """The index that a class name, else an index in plain digits, stands for, if any."""
        index = self.named(text)
        plain = text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")
        if index is None and not self.numbered and plain and len(text) <= 6:
            index = int(text) if int(text) < self._classes else None
        return index


def pinned_name(model: StoredModel) -> str:
    """A model's name for addresses that no other checkpoint may answer."""
    return f"{model.name}@{model.description.digest[:12]}"


class Choice:
    """See the module.

    Args:
        models: By name; at least one.
        default: The model of requests that name none; None = the first conditional one, else the
            first by name.

    ``default_encoder`` is the VAE that reconstructs best; None = no model can encode. ``of`` finds
    a request's model and the index of its class, either of which may be None.

    Raises:
        StartupError: the default is not loaded.
    """

    def __init__(self, models: Mapping[str, StoredModel], default: str | None) -> None:
        self._models = models
        self._labels = {name: _Labels(model) for name, model in models.items()}
        conditional = [name for name in models if models[name].network.num_classes]
        if default is not None and default not in models:
            available = ", ".join(sorted(models))
            raise StartupError(f"default_model is {default!r}; available: {available}")
        self.default = default or (conditional or sorted(models))[0]
        self._conditional = self.default if self.default in conditional else None
        if self._conditional is None and conditional:
            self._conditional = conditional[0]
        self._encoders = [name for name in sorted(models) if "encode" in models[name].operations]
        self.default_encoder = min(self._encoders, key=self._reconstruction_error, default=None)
        # What was found once; what is refused is looked for anew.
        self.of = lru_cache(1024)(self._of)

    def _reconstruction_error(self, name: str) -> float:
        """As a VAE's card has it, mean squared; what is not measured comes last."""
        error = self._models[name].description.metrics.get("reconstruction_mse")
        return error if isinstance(error, float) else math.inf

    def model(self, name: str) -> StoredModel:
        """A loaded model.

        Args:
            name: Its name alone, or pinned to its checkpoint: ``name@`` and 12 or more digits of
                the digest, as ``pinned_name`` gives it.

        Raises:
            UnknownModelError: there is none of this name, or it is not the checkpoint pinned.
        """
        if name in self._models:
            return self._models[name]
        name, pin, digits = name.partition("@")
        if pin and (model := self._models.get(name)):
            if _PIN.fullmatch(digits) and model.description.digest.startswith(digits):
                return model
            raise UnknownModelError(
                f"{name} is pinned to {shown(digits)}; served is {pinned_name(model)} (12 to 64 "
                "digits of the digest)"
            )
        near = difflib.get_close_matches(name[:64], self._models, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        available = ", ".join(sorted(self._models))
        raise UnknownModelError(f"unknown model {shown(name)}; available: {available}{hint}")

    def encoder(self, name: str | None) -> StoredModel:
        """The model that encodes and decodes: the one asked for, else the one that reconstructs
        best.

        Raises:
            UnknownModelError, WrongModelError: there is none, or it cannot.
        """
        if name is None and self.default_encoder is None:
            raise WrongModelError("no loaded model can encode: that takes a VAE")
        model = self.model(name or self.default_encoder or "")
        if model.name not in self._encoders:
            raise WrongModelError(
                f"{model.name} is a {model.description.kind}, which cannot encode or decode; "
                f"models that can: {', '.join(self._encoders) or 'none'}"
            )
        return model

    def _model_for(self, label: str) -> str:
        """The model of a request that names a label and no model: the default conditional one if
        it takes the label, else the first by name that has a class of this name.

        Raises:
            WrongModelError: no model takes labels.
        """
        if self._conditional is None:
            raise WrongModelError("no loaded model takes a label")
        if self._labels[self._conditional].index(label) is None:
            for name in sorted(self._models):
                if self._labels[name].named(label) is not None:
                    return name
        return self._conditional

    def _label(self, model: StoredModel, text: str) -> int:
        """A class index or class name to the index."""
        index = self._labels[model.name].index(text)
        if index is not None:
            return index
        names = model.description.labels
        if not names:
            able = [n for n, m in self._models.items() if m.description.labels]
            raise WrongModelError(
                f"{model.name} is unconditional and takes no label; "
                f"models that do: {', '.join(able) or 'none'}",
                errors=[{"pointer": "?label", "detail": "not for this model"}],
            )
        allowed = f"0 to {len(names) - 1}"
        if names != tuple(str(i) for i in range(len(names))):
            listed = f"{', '.join(names[:20])}{'…' if len(names) > 20 else ''}"
            numbered = self._labels[model.name].numbered
            allowed = listed if numbered else f"{allowed}, or a name: {listed}"
            if near := difflib.get_close_matches(text.casefold(), names, 1):
                allowed += f"; did you mean {near[0]}?"
        raise InvalidParameterError(
            f"label is {shown(text)}; {model.name} knows {allowed}",
            errors=[{"pointer": "?label", "detail": f"allowed: {allowed}"}],
        )

    def _of(self, name: str | None, label: str | None) -> tuple[StoredModel, int | None]:
        """``of``.

        Args:
            name: Of a model; None = the default, or one that knows the label if there is one.
            label: Class index or name.

        Raises:
            UnknownModelError, WrongModelError, InvalidParameterError
        """
        if name is None:
            name = self.default if label is None else self._model_for(label)
        model = self.model(name)
        return model, None if label is None else self._label(model, label)
