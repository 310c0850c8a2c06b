"""Which of the loaded models a request means."""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from app.core.labels import Labels
from app.engines.store import StoredModel
from app.errors import (
    StartupError,
    UnknownModelError,
    WrongModelError,
    shown,
)

_PIN = re.compile(r"[0-9a-f]{12,64}")


def pinned_name(model: StoredModel) -> str:
    """A model's name with its digest, for addresses that no other checkpoint may answer."""
    return f"{model.name}@{model.description.digest[:12]}"


class ModelSelector:
    """Finds the model of a request, and the index of its label.

    Args:
        models: By name; at least one.
        default: The model of requests that name none; None = the first conditional one, else the
            first by name.

    Attributes:
        default: See above.
        default_encoder: The VAE that reconstructs best; None = no model can encode.

    Raises:
        StartupError: the default is not loaded.
    """

    def __init__(self, models: Mapping[str, StoredModel], default: str | None) -> None:
        self._models = models
        self._labels = {name: Labels(model) for name, model in models.items()}
        conditional = [name for name in models if models[name].network.num_classes]
        if default is not None and default not in models:
            available = ", ".join(sorted(models))
            raise StartupError(f"default_model is {default!r}; available: {available}")
        self.default = default or (conditional or sorted(models))[0]
        self._conditional = self.default if self.default in conditional else None
        if self._conditional is None and conditional:
            self._conditional = conditional[0]
        self._decoders = [name for name in sorted(models) if "decode" in models[name].operations]
        self._encoders = [name for name in sorted(models) if "encode" in models[name].operations]
        self.default_encoder = min(self._encoders, key=self._reconstruction_error, default=None)
        self._resolved = lru_cache(1024)(self._resolve)  # errors are not cached

    def _reconstruction_error(self, name: str) -> float:
        """Mean squared, from a VAE's card; a model without the figure comes last."""
        error = self._models[name].description.metrics.get("reconstruction_mse")
        return error if isinstance(error, float) else math.inf

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
            name: Its name alone, or pinned to its checkpoint: ``name@`` and 12 or more digits of
                the digest, as in ``pinned_name``.

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
        """The model that encodes and decodes: the one named, else ``default_encoder``.

        Raises:
            UnknownModelError, WrongModelError: there is no such model, or it cannot encode.
        """
        return self._able(name, self._encoders, "encode")

    def decoder(self, name: str | None) -> StoredModel:
        """The model that decodes latents: the one named, else ``default_encoder``, else the first
        that can.

        Raises:
            UnknownModelError, WrongModelError: there is no such model, or it cannot decode.
        """
        return self._able(name, self._decoders, "decode")

    def _able(self, name: str | None, able: Sequence[str], task: str) -> StoredModel:
        if name is None and not able:
            raise WrongModelError(f"no loaded model can {task}: that takes a VAE")
        model = self.model(name or self.default_encoder or able[0])
        if model.name not in able:
            raise WrongModelError(
                f"{model.name} is a {model.description.kind}, which cannot {task}; "
                f"models that can: {', '.join(able) or 'none'}"
            )
        return model

    def _model_for(self, label: str) -> str:
        """The model of a request that names a label and no model.

        It is the default conditional model if that has the label, else the first by name that has a
        class of this name.

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
        model = self.model(name)
        return model, None if label is None else self._label(model, label)
