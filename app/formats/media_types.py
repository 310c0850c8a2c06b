"""Media types, and the short names that ?format= has for them."""

from collections.abc import Mapping

PNG = "image/png"
WEBP = "image/webp"
JSON = "application/json"
HTML = "text/html"
NPY = "application/x-npy"
ZIP = "application/zip"
NPZ = "application/x-npz"

# ?format= -> type
FORMATS: Mapping[str, str] = {
    "png": PNG,
    "webp": WEBP,
    "json": JSON,
    "npy": NPY,
    "zip": ZIP,
    "npz": NPZ,
}
SHORT = {media: short for short, media in FORMATS.items()}  # and back
