"""A dataset that was downloaded."""

import builtins
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from genserve.results import Image, Images

_SHOWN = 32  # images in a notebook


@dataclass(frozen=True)
class Dataset:
    """A complete file, or its arrays in memory. ``dataset[i]`` is image i, uint8 (H, W) or
    (H, W, 3), with its label where the model has classes; PyTorch's DataLoader takes it as it is.
    """

    path: Path | None  # None = in memory
    bytes: int
    model: str
    seed: int
    n: int
    permalink: str  # GET returns the same file
    held: dict[str, NDArray[Any]] | None = field(default=None, repr=False)

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """``images`` (n, H, W), ``seeds``, and ``labels`` where the model has classes.

        Raises:
            ValueError: the file is a ZIP of pictures.
        """
        if self.held is not None or self.path is None:
            return self.held or {}
        with np.load(self.path, allow_pickle=False) as arrays:
            if "images" not in arrays.files:
                raise ValueError(f"{self.path} holds pictures; a file .npz holds arrays")
            return {name: arrays[name] for name in arrays.files}

    @property
    def images(self) -> NDArray[np.uint8]:
        """(n, H, W)."""
        return self.arrays["images"]

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(n,); None of a model without classes."""
        return self.arrays.get("labels")

    @property
    def seeds(self) -> NDArray[np.int64]:
        """(n,): each image's own."""
        return self.arrays["seeds"]

    def _repr_png_(self) -> builtins.bytes | None:  # for notebooks: the first, if in memory
        if self.held is None:
            return None
        shown = []
        for array in self.images[:_SHOWN]:
            out = BytesIO()
            PillowImage.fromarray(array).save(out, "PNG")
            shown.append(Image(out.getvalue(), digest=""))
        return Images(self.model, tuple(shown))._repr_png_()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        image = self.images[index]
        return image if self.labels is None else (image, int(self.labels[index]))
