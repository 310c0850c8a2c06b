"""Whether a picture is still what its own recipe generates."""

from dataclasses import dataclass
from typing import Literal

from app.core.requests import GenerateRequest, RequestContext
from app.core.service import Service
from app.engines.rows import takes_truncation
from app.engines.store import StoredModel
from app.errors import InvalidParameterError, NoRecipeError
from app.formats.pixels import Image
from app.formats.provenance import RecipeFile, recipe_start
from app.formats.sheets import Layout, sheet
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
class VerificationResult:
    """The verdict on a picture."""

    verdict: Verdict
    recipe: Recipe
    detail: str
    model: StoredModel | None = None  # of the recipe's digest; None = not served
    different_pixels: int | None = None  # None = the pictures cannot be compared
    largest_difference: int | None = None  # grey levels


def parse_recipe(picture: RecipeFile, max_n: int) -> Recipe:
    """The recipe of a picture, as values.

    Raises:
        InvalidParameterError: more images than one request may have.
        NoRecipeError: the recipe is not in its canonical form.
    """
    match = picture.recipe
    try:
        seeds = parse_list(match["seeds"], max_n)
    except ValueError as error:
        raise InvalidParameterError(f"the recipe's list of seeds {error}") from error
    recipe = Recipe(
        model=match["model"],
        digest=match["digest"],
        label=None if match["label"] == "null" else int(match["label"]),
        truncation=float(match["truncation"]),
        layout="strip" if match["layout"] == "strip" else "grid",
        scale=int(match["scale"]),
        seeds=seeds,
    )
    start = recipe_start(
        *(recipe.model, recipe.digest, recipe.label),
        *(recipe.truncation, recipe.layout, recipe.scale),
    )
    if f'{start}{list_text(seeds)}"}}' != match[0]:
        raise NoRecipeError("the picture's recipe is not in the form that this service writes")
    return recipe


async def regenerate(
    service: Service, recipe: Recipe, context: RequestContext
) -> tuple[StoredModel, Image] | None:
    """The image of a recipe before it is enlarged; None = its model is not served.

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
    if recipe.truncation != 1 and not takes_truncation(model.network):
        raise NoRecipeError(f"the recipe has a truncation; {model.name} takes none")
    request = GenerateRequest(model, recipe.label, recipe.seeds, context, recipe.truncation)
    return model, sheet((await service.generate(request)).images, recipe.layout)


async def compare(
    service: Service,
    picture: RecipeFile,
    recipe: Recipe,
    model: StoredModel,
    expected: Image,
    context: RequestContext,
) -> VerificationResult:
    """Compare every pixel of a file with the expected image.

    Args:
        service: Decodes the file.
        picture: The file.
        recipe: Its recipe.
        model: Of the recipe.
        expected: From ``regenerate``.
        context: From ``Service.track_request``.

    Raises:
        ServiceError, ClientDisconnectedError: as ``Pictures.compare``.
    """
    shown = None
    if not picture.animated:
        shown = await service.pictures.compare(picture.file, expected, recipe.scale, context)
    if shown is None:
        other = "it shows several pictures, is transparent, or has more than 8 bits a channel"
        return VerificationResult("different", recipe, other, model)
    height, width = (side * recipe.scale for side in expected.shape[:2])
    if (shown.width, shown.height) != (width, height):
        given = f"it has {shown.width} x {shown.height} pixels"
        return VerificationResult(
            "different", recipe, f"{given}; its recipe gives {width} x {height}", model
        )
    count, largest = shown.different_pixels, shown.largest_difference
    if not count:
        detail = f"every pixel is what {model.name} generates from this recipe"
        return VerificationResult("same", recipe, detail, model, 0, 0)
    detail = f"{count} of {width * height} pixels differ, by {largest} levels at most"
    return VerificationResult("different", recipe, detail, model, count, largest)
