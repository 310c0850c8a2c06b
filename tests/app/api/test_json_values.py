"""Base64 as canvases and programs write it."""

import base64

import pytest

from app.api.bodies.json_values import from_base64
from app.errors import InvalidParameterError

DATA = bytes(range(256))
TEXT = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/png;base64,{TEXT}",
        f"data:image/webp;charset=utf-8;base64,{TEXT}",
        base64.encodebytes(DATA).decode(),  # lines of 76, as the program base64 gives
        "\r\n".join(TEXT[start : start + 64] for start in range(0, len(TEXT), 64)),
        f"data:;base64,{base64.encodebytes(DATA).decode()}",
    ],
)
def test_a_data_address_and_wrapped_lines_are_taken(text: str) -> None:
    assert from_base64(text, "/images/0") == DATA


@pytest.mark.parametrize(
    "text", ["data:", "data:image/png,abc", "data:image/png;base64", f"{TEXT}!", "abc", 7, None]
)
def test_what_is_none_is_refused_at_its_place(text: object) -> None:
    with pytest.raises(InvalidParameterError, match="/images/0"):
        from_base64(text, "/images/0")
