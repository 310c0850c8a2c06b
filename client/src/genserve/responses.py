"""How responses are parsed. What does not fit is an ``InvalidResponseError``."""

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from genserve.errors import InvalidResponseError
from genserve.results import (
    File,
    Image,
    Images,
    ModelCard,
    ModelList,
    Posteriors,
    Status,
    Verification,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Response:
    """A complete response with status 2xx."""

    headers: Mapping[str, str]  # names in lower case
    body: bytes


def _checked(parse: Callable[[Response], T]) -> Callable[[Response], T]:
    """``parse`` with its failures as ``InvalidResponseError``."""

    @wraps(parse)
    def checked(response: Response) -> T:
        try:
            return parse(response)
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            media_type = response.headers.get("content-type", "no Content-Type")
            raise InvalidResponseError(
                f"not a response of Genserve: {len(response.body)} bytes ({media_type}): "
                f"{type(error).__name__}: {error}"
            ) from error

    return checked


def _json_object(response: Response) -> dict[str, Any]:
    value = json.loads(response.body)
    if not isinstance(value, dict):
        raise TypeError(f"the JSON is a {type(value).__name__}, not an object")
    return value


_FIELDS = {field.name for field in fields(Image)}


def _image(item: dict[str, Any]) -> Image:
    known = {name: value for name, value in item.items() if name in _FIELDS}
    return Image(png=base64.b64decode(item["image"], validate=True), **known)


@_checked
def images(response: Response) -> Images:
    """Images from JSON."""
    body = _json_object(response)
    return Images(str(body["model"]), tuple(_image(item) for item in body["items"]))


def _numbers(item: Any, name: str) -> Any:
    """A latent of an encoding; a log-variance that there is none of is that of a point."""
    return [-math.inf] * len(item["mu"]) if item[name] is None else item[name]


@_checked
def posteriors(response: Response) -> Posteriors:
    """Posteriors from JSON."""
    body = _json_object(response)
    mu, logvar, z = (
        np.array([_numbers(item, name) for item in body["items"]], dtype=np.float32)
        for name in ("mu", "logvar", "z")
    )
    fit = tuple(item.get("fit") for item in body["items"])
    return Posteriors(str(body["model"]), body["seed"], mu, logvar, z, fit)


_MEDIA_TYPES = {
    "json": ("application/json",),
    "npy": ("application/x-npy",),
    "png": ("image/png", "image/apng"),
    "webp": ("image/webp",),
    "zip": ("application/zip",),
}


def file(format: str) -> Callable[[Response], File]:
    """Parser of a file in this format: png, webp, npy, json or zip."""

    def parse(response: Response) -> File:
        headers = response.headers
        media_type = headers.get("content-type", "")
        if media_type.partition(";")[0].strip().lower() not in _MEDIA_TYPES[format]:
            raise ValueError(f"expected {format}")
        if format == "json":
            json.loads(response.body)
        seed = headers.get("x-seed")
        return File(
            response.body,
            media_type,
            headers.get("x-model"),
            None if seed is None else int(seed),
            headers.get("content-location"),
        )

    return _checked(parse)


@_checked
def model_list(response: Response) -> ModelList:
    """The models."""
    return cast(ModelList, _json_object(response))


@_checked
def model_card(response: Response) -> ModelCard:
    """One model."""
    return cast(ModelCard, _json_object(response))


@_checked
def verification(response: Response) -> Verification:
    """A verdict."""
    body = cast(Verification, _json_object(response))
    str(body["verdict"])  # raises KeyError without one
    return body


@_checked
def status(response: Response) -> Status:
    """State of the service."""
    return cast(Status, _json_object(response))
