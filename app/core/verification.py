"""Whether a picture of ours is still what its recipe makes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.core.service import Caller, Order, Service
from app.engines.store import StoredModel
from app.errors import InvalidParameterError, NoRecipeError
from app.formats.pixels import Image
from app.formats.provenance import RecipeFile, recipe_start
from app.formats.sheets import Layout, sheet
from app.formats.uploads import read_pixels
from app.seeds import list_text, parse_list

Verdict = Literal["same", "different", "unknown_model"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What ``app.formats.provenance.RECIPE`` matched, as values."""

    model: str
    digest: str
    label: int | None
    truncation: float
    layout: Layout
    scale: int
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on a picture."""

    verdict: Verdict
    recipe: Recipe
    detail: str
    model: StoredModel | None = None  # of the recipe's digest; None = not served
    different_pixels: int | None = None  # None = the pictures cannot be compared
    largest_difference: int | None = None  # grey levels


def recipe_of(picture: RecipeFile, max_n: int) -> Recipe:
    """A picture's recipe.

    Raises:
        InvalidParameterError: more images than one request may have.
        NoRecipeError: it is not in the one form in which such a recipe is written.
    """
    found = picture.recipe
    try:
        seeds = parse_list(found["seeds"], max_n)
    except ValueError as error:
        raise InvalidParameterError(f"the recipe's list of seeds {error}") from error
    recipe = Recipe(
        model=found["model"],
        digest=found["digest"],
        label=None if found["label"] == "null" else int(found["label"]),
        truncation=float(found["truncation"]),
        layout="strip" if found["layout"] == "strip" else "grid",
        scale=int(found["scale"]),
        seeds=seeds,
    )
    start = recipe_start(
        *(recipe.model, recipe.digest, recipe.label),
        *(recipe.truncation, recipe.layout, recipe.scale),
    )
    if f'{start}{list_text(seeds)}"}}' != found[0]:
        raise NoRecipeError("the picture's recipe is not in the form that this service writes")
    return recipe


async def regenerate(
    service: Service, recipe: Recipe, caller: Caller
) -> tuple[StoredModel, Image] | None:
    """What the recipe makes here, before it is enlarged; None = its model is not served.

    Raises:
        NoRecipeError: the model has no such label.
        ServiceError: as ``Service.generate``.
    """
    for model in service.models.values():
        if model.description.digest == recipe.digest:
            break
    else:
        return None
    classes = model.network.num_classes
    if recipe.label is not None and recipe.label >= classes:
        raise NoRecipeError(f"the recipe's label is {recipe.label}; {model.name} has {classes}")
    order = Order(model, recipe.label, recipe.seeds, caller, recipe.truncation)
    return model, sheet((await service.generate(order)).images, recipe.layout)


def compare(
    picture: RecipeFile, recipe: Recipe, model: StoredModel, made: Image, max_pixels: int
) -> Finding:
    """Every pixel of the file with what was made; takes as long as decoding it.

    Args:
        picture: The file.
        recipe: Its recipe.
        model: Of the recipe.
        made: As ``regenerate`` gives it.
        max_pixels: Refused above, before decoding.

    Raises:
        UnreadableImageError, BodyTooLargeError: as ``read_pixels``.
    """
    shown = None if picture.animated else read_pixels(picture.file, max_pixels)
    if shown is None:
        other = "it shows several pictures, is transparent, or has more than 8 bits a channel"
        return Finding("different", recipe, other, model)
    height, width = (side * recipe.scale for side in made.shape[:2])
    if shown.shape[:2] != (height, width):
        given = f"it has {shown.shape[1]} x {shown.shape[0]} pixels"
        return Finding("different", recipe, f"{given}; its recipe makes {width} x {height}", model)
    differences = _differences(shown, made, recipe.scale)
    count = int(np.count_nonzero(differences))
    if not count:
        detail = f"every pixel is what {model.name} makes of this recipe"
        return Finding("same", recipe, detail, model, 0, 0)
    largest = int(differences.max())
    detail = f"{count} of {width * height} pixels differ, by {largest} levels at most"
    return Finding("different", recipe, detail, model, count, largest)


def _differences(shown: NDArray[np.uint8], made: Image, scale: int) -> NDArray[np.uint8]:
    """(H, W, 3) and what was made, enlarged -> (H, W), the largest of the channels."""
    large = made.repeat(scale, axis=0).repeat(scale, axis=1)
    if large.ndim == 2:
        large = large[..., None]
    differences: NDArray[np.uint8] = np.maximum(shown, large) - np.minimum(shown, large)
    return np.asarray(differences.max(axis=2))
