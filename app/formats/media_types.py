"""Media types, and their short names for ``?format=``."""

from collections.abc import Mapping

PNG = "image/png"
APNG = "image/apng"  # an animated PNG
WEBP = "image/webp"
JSON = "application/json"
HTML = "text/html"
NPY = "application/x-npy"
ZIP = "application/zip"
NPZ = "application/x-npz"

FORMATS: Mapping[str, str] = {  # short name -> media type
    "png": PNG,
    "webp": WEBP,
    "json": JSON,
    "npy": NPY,
    "zip": ZIP,
    "npz": NPZ,
}
SHORT = {media: short for short, media in FORMATS.items()}  # media type -> short name
