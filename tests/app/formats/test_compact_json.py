"""JSON as arrays and bytes: the same values as everywhere, whichever way they come."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidParameterError, MalformedBodyError
from app.formats import compact_json, strict_json

# Larger whole numbers are rounded where a list has others too: it is an array of floats.
# Some libraries, once loaded, make the processor flush subnormal numbers to zero.
numbers = st.integers(-(2**53), 2**53) | st.floats(
    allow_nan=False, allow_infinity=False, allow_subnormal=False
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.lists(numbers) | st.dictionaries(st.text(), inner),
)


def plain(value: Any) -> Any:
    """A value with lists for arrays."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    return list(map(plain, value)) if isinstance(value, list) else value


@given(values)
def test_a_value_is_what_other_readers_make_of_it_here_and_elsewhere(value: Any) -> None:
    text = json.dumps(value).encode()
    assert plain(compact_json.parse(text)) == strict_json.parse(text) == value
    if max_text(value) < 256:
        assert plain(compact_json.unpacked(*compact_json.packed(text))) == value


def max_text(value: Any) -> int:
    """Characters of the longest string."""
    if isinstance(value, dict):
        return max([0, *map(max_text, value.values())])
    if isinstance(value, list):
        return max([0, *map(max_text, value)])
    return len(value) if isinstance(value, str) else 0


def test_numbers_become_arrays_of_the_lists_shape() -> None:
    for text, shape, kind in (
        (b"[1, 2]", (2,), "i"),
        (b"[1, 2.0]", (2,), "f"),
        (b"[[1, 2], [3, 4], [5, 6.5]]", (3, 2), "f"),
        (b"[[[1], [2]], [[3], [4]]]", (2, 2, 1), "i"),
    ):
        found = compact_json.parse(text)
        assert (found.shape, found.dtype.kind) == (shape, kind)
    assert compact_json.parse(b"[9007199254740993, 1]").tolist() == [2**53 + 1, 1]
    for text in (b"[]", b"[1, true]", b"[1, null]", b'[1, "2"]', b"[%d]" % 2**63, b"[[1], [2, 3]]"):
        assert isinstance(compact_json.parse(text), list), text


def test_base64_comes_back_decoded_and_another_long_text_cut() -> None:
    data = bytes(range(256)) * 8
    text = base64.encodebytes(data).decode()
    for given_ in (text, f"data:image/png;base64,{text}"):
        body = json.dumps({"images": [given_, "short"]}).encode()
        skeleton, parts = compact_json.packed(body)
        assert len(skeleton) < 100
        assert compact_json.unpacked(skeleton, parts) == {"images": [data, "short"]}
    skeleton, parts = compact_json.packed(json.dumps({"images": ["AAAA\n" * 999 + "%"]}).encode())
    (cut,) = compact_json.unpacked(skeleton, parts)["images"]
    assert len(cut) < 1100
    assert compact_json.from_base64(cut) is None  # whoever reads it says where it stands


def test_what_is_sent_back_is_small_whatever_a_text_holds() -> None:
    for text in (b"[" + b"{}," * 50_000 + b"{}]", b"[" + b'["a"],' * 50_000 + b"7]"):
        with pytest.raises(InvalidParameterError, match="at most 65536 are read"):
            compact_json.packed(text)
    for depth in (17, 65, 490, 900):  # numpy's arrays have 64 dimensions at most
        for value in (b"7", b'"a"', b"{}"):
            with pytest.raises(MalformedBodyError, match="nested too deeply"):
                compact_json.packed(b"[" * depth + b"[" + value + b"]" + b"]" * depth)
    assert compact_json.parse(b"[" * 9 + b"7" + b"]" * 9).ndim == 9


def test_what_is_parsed_in_place_is_bounded_in_bytes_lists_and_objects() -> None:
    assert compact_json.is_quick(b"[" + b"0," * 32_000 + b"0]")
    for text in (b" " * 65_537, b"[]," * 1001, b"{}," * 1001, b"[{" * 501):
        assert not compact_json.is_quick(text)
