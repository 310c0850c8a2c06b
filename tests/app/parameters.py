"""Values of every parameter to draw requests from: the first two are valid, most others are not."""

_NUMBERS = [
    "1",
    "2",
    "0",
    "5",
    "64",
    "65",
    "07",
    "-1",
    "1.5",
    "",
    "x",
    "9007199254740991",
    "9" * 41,
]
_FRACTIONS = [
    "0",
    "0.7",
    "1",
    "1.0",
    "0.70",
    "0.705",
    "1.01",
    "-0.5",
    "-2.5",
    "10",
    "nan",
    "1e-1",
    "",
]
_LISTS = ["1", "3,17", "0-3,9", "0-64", "3-1", "1,1", "", "1,", "9007199254740991"]
_WORDS = {
    "model": [
        "tiny-gan-v1",
        "tiny-cgan-v1",
        "tiny-vae-v1",
        "none",
        "",
        "x" * 130,
        "tiny-cgan-v1@12",
    ],
    "label": ["7", "0", "10", "07", "x", "", "7" * 65, "sieben ü"],
    "format": ["png", "webp", "json", "npy", "zip", "npz", "gif", "PNG"],
    "layout": ["grid", "strip", "animation", "row"],
    "metadata": ["full", "mark", "none", "all"],
    "method": ["slerp", "lerp", "x"],
    "show": ["reconstruction", "beside", "error", "x"],
    "compress": ["true", "false", "True", "1", ""],
    "split": ["train", "validation", "test", "x"],
    "invert": ["auto", "true", "false", "on", "x"],
    "center": ["auto", "true", "false", "on", "x"],
    "truncation": _FRACTIONS,
    "low": _FRACTIONS,
    "high": _FRACTIONS,
    "seeds": _LISTS,
    "axes": _LISTS,
    "scale": ["1", "2", "16", "17", "0"],
    "frame_ms": ["20", "100", "5000", "19", "5001"],
}


def query_values(name: str) -> list[str]:
    """Values to give a parameter of the query."""
    return _WORDS.get(name, _NUMBERS)


def header_values(name: str) -> list[str]:
    """Values to give a header that is a parameter."""
    return ["bytes=0-", "bytes=1-9007199254740991", '"x"'] if "Range" in name else _NUMBERS
