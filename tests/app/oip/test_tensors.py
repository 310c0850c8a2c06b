"""Bodies of the Open Inference Protocol, against tritonclient's own writer and reader."""

import json
import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.http import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    InferResult,
)

from app.errors import InvalidParameterError, MalformedBodyError
from app.formats import compact_json
from app.oip import tensors
from app.oip.signature import BYTES, DTYPES, Input, Output, Signature
from app.oip.tensors import ParsedRequest, json_end, response_parts

MAX_ROWS = 5
SEED = Input("seed", ("INT64", "UINT64"), (), 0, 2**53 - 1, required=False)
LABEL = Input("label", ("INT64",), (), 0, 9, required=False)
PIXELS = Input("image", ("UINT8",), (2, 3), 0, 255)
LATENT = Input("z", ("FP32",), (3,), -1000, 1000)
OUTPUTS = (
    Output("image", "UINT8", (2, 3)),
    Output("png", BYTES, (), by_default=False),
    Output("seed", "INT64", ()),
    Output("mu", "FP32", (3,)),
)
SAMPLE = Signature((SEED, LABEL), OUTPUTS)
UPLOAD = Signature((PIXELS, LATENT), OUTPUTS)


def parse_request(body: bytes, json_size: int | None, *more: Any) -> ParsedRequest:
    """As the service does with a body, small or large."""
    end = json_end(body, json_size)
    parsed = compact_json.parse(body[:end])
    try:
        found = tensors.parse_request(parsed, body, end, *more)
    except MalformedBodyError as error:
        with pytest.raises(MalformedBodyError, match=re.escape(error.detail)):
            tensors.parse_request(elsewhere(body[:end]), body, end, *more)
        raise
    again = tensors.parse_request(elsewhere(body[:end]), body, end, *more)
    assert (again.id, again.rows, again.outputs) == (found.id, found.rows, found.outputs)
    for name, array in found.inputs.items():
        np.testing.assert_array_equal(again.inputs[name], array)
    return found


def elsewhere(text: bytes) -> Any:
    """What a codec process makes of a JSON text."""
    return compact_json.unpacked(*compact_json.packed(text))


rows = st.integers(1, MAX_ROWS)
# Without subnormal numbers: torch's CPU engine, in other tests, has this thread flush them to zero.
floats = partial(st.floats, allow_subnormal=False)
latents = floats(-1000, 1000, width=32)


def sent(tensors: dict[str, tuple[Any, str, bool]], **more: Any) -> tuple[bytes, int | None]:
    """What tritonclient sends: array, datatype and whether it is binary, by name."""
    inputs = []
    for name, (array, datatype, binary) in tensors.items():
        inputs.append(InferInput(name, list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    body, size = InferenceServerClient.generate_request_body(inputs, **more)
    return body, size


@given(st.data(), rows, st.booleans(), st.booleans(), st.booleans())
def test_what_tritonclient_sends_is_read_as_it_was(
    data: st.DataObject, n: int, first: bool, second: bool, column: bool
) -> None:
    pixels = data.draw(arrays.arrays(np.uint8, (n, 2, 3)))
    z = data.draw(arrays.arrays(np.float32, (n, 3), elements=latents))
    numbers = data.draw(arrays.arrays(np.uint64, n, elements=st.integers(0, 2**53 - 1)))
    label = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, 9)))
    order = data.draw(st.booleans())

    tensors = {"image": (pixels, "UINT8", first), "z": (z, "FP32", second)}
    found = parse_request(*sent(dict(sorted(tensors.items(), reverse=order))), UPLOAD, MAX_ROWS)
    assert found.rows == n
    np.testing.assert_array_equal(found.inputs["image"], pixels)
    np.testing.assert_array_equal(found.inputs["z"], z)

    shape = (n, 1) if column else (n,)
    tensors = {
        "seed": (numbers.reshape(shape), "UINT64", first),
        "label": (label.reshape(shape), "INT64", second),
    }
    found = parse_request(*sent(tensors), SAMPLE, MAX_ROWS)
    assert found.inputs["seed"].tolist() == numbers.tolist()
    assert found.inputs["label"].tolist() == label.tolist()


@pytest.mark.slow
@given(st.data(), rows, st.lists(st.booleans(), min_size=4, max_size=4), st.none() | st.text())
def test_what_is_written_is_what_tritonclient_reads(
    data: st.DataObject, n: int, binary: list[bool], request_id: str | None
) -> None:
    values: dict[str, Any] = {
        "image": data.draw(arrays.arrays(np.uint8, (n, 2, 3))),
        "png": data.draw(st.lists(st.binary(max_size=9), min_size=n, max_size=n)),
        "seed": data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, 2**53 - 1))),
        "mu": data.draw(
            arrays.arrays(np.float32, (n, 3), elements=floats(-(2.0**100), 2.0**100, width=32))
        ),
    }
    sent_back = [
        (spec, chosen or spec.datatype == BYTES, values[spec.name])
        for spec, chosen in zip(OUTPUTS, binary, strict=True)
    ]
    parts, raw = response_parts("a-model", "1", request_id, sent_back)
    head = b"".join(parts)
    size = len(head) if raw else None
    result = InferResult.from_response_body(b"".join((head, *raw)), header_length=size)
    told = result.get_response()
    assert (told["model_name"], told["model_version"]) == ("a-model", "1")
    assert told.get("id") == request_id
    for name, value in values.items():
        read_back = result.as_numpy(name)
        if name == "png":
            assert read_back.tolist() == value
        else:
            np.testing.assert_array_equal(read_back, value)


def envelope(**members: Any) -> bytes:
    return json.dumps({"inputs": [], **members}).encode()


def tensor(**members: Any) -> dict[str, Any]:
    return {"name": "seed", "shape": [2], "datatype": "INT64", "data": [1, 2]} | members


# JSON like a request's, with anything in any place.
_scalars = st.sampled_from(
    [None, True, False, 0, 1, 2, 3, 12, -1, 2**63, 2**70, 10**300, 1.5, 1e308, "", "1", "\ud800"]
) | st.sampled_from(["seed", "label", "z", "image", "png", "INT64", "FP32", "UINT8", "BYTES"])
_names = st.sampled_from(
    ["name", "shape", "datatype", "parameters", "data", "binary_data_size", "binary_data", "n"]
) | st.sampled_from(["inputs", "outputs", "id", "binary_data_output"])
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=5),
    max_leaves=25,
)
_tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["seed", "label", "z", "image"]) | _values,
        "shape": st.lists(st.integers(-2, 6), max_size=4) | _values,
        "datatype": st.sampled_from(["INT64", "UINT64", "FP32", "UINT8"]) | _values,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": _values}) | _values,
        "data": st.lists(st.integers(-2, 300) | floats() | _values) | _values,
    },
)
_requests = st.fixed_dictionaries(
    {"inputs": st.lists(_tensors, max_size=3) | _values},
    optional={
        "id": _values,
        "parameters": st.dictionaries(_names, _values, max_size=2) | _values,
        "outputs": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["image", "png", "seed"]) | _values},
                optional={"parameters": st.dictionaries(_names, _values, max_size=2)},
            )
        )
        | _values,
    },
)


def read_or_refuse(body: bytes, json_size: int | None) -> None:
    for signature in (SAMPLE, UPLOAD):
        detail, found = "", None
        try:
            found = parse_request(body, json_size, signature, MAX_ROWS)
        except MalformedBodyError as error:
            detail = error.detail
        if found:
            check(found, signature)
        else:
            assert detail.isascii()
            assert 0 < len(detail) < 500


def check(found: ParsedRequest, signature: Signature) -> None:
    assert 1 <= found.rows <= MAX_ROWS
    assert found.outputs
    for spec in signature.inputs:
        if spec.name not in found.inputs:
            assert not spec.required
            continue
        array = found.inputs[spec.name]
        assert array.shape == (found.rows, *spec.row)
        assert array.dtype in [np.dtype(DTYPES[name]) for name in spec.datatypes]
        assert array.min() >= spec.low
        assert array.max() <= spec.high


@given(st.binary(), st.none() | st.integers(0, 300))
def test_arbitrary_bytes_raise_nothing_but_the_one_error(
    body: bytes, json_size: int | None
) -> None:
    read_or_refuse(body, json_size)


@given(_requests | _values, st.binary(max_size=50), st.booleans(), st.integers(-2, 2))
def test_arbitrary_requests_raise_nothing_but_the_one_error(
    request: Any, raw: bytes, split: bool, shift: int
) -> None:
    head = json.dumps(request).encode()
    read_or_refuse(head + raw, max(0, len(head) + shift) if split else None)


@given(st.data(), rows, st.booleans())
def test_a_damaged_request_is_refused_or_still_fits(
    data: st.DataObject, n: int, binary: bool
) -> None:
    """One byte of a good request is changed, added or lost."""
    z = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
    pixels = np.zeros((n, 2, 3), np.uint8)
    body, size = sent({"z": (z, "FP32", binary), "image": (pixels, "UINT8", binary)})
    place = data.draw(st.integers(0, len(body)))
    put = data.draw(st.binary(max_size=1))
    kept = data.draw(st.integers(0, 1))
    read_or_refuse(body[:place] + put + body[place + kept :], size)


@pytest.mark.parametrize(
    ("body", "size", "says"),
    [
        (b"", None, "not JSON"),
        (b"\xff", None, "UTF-8"),
        ('{"inputs":[]}'.encode("utf-16"), None, "UTF-8"),
        (b'{"id":"\xed\xa0\x80","inputs":[]}', None, "UTF-8"),
        (b'{"id":"\\ud800","inputs":[]}', None, "surrogate"),
        (b'{"inputs":[],"inputs":[]}', None, "'inputs' stands twice"),
        (b'{"inputs":[],"parameters":{"n":1,"n":2}}', None, "'n' stands twice"),
        (b'{"inputs":[NaN]}', None, "NaN"),
        (b'{"inputs":[-Infinity]}', None, "-Infinity"),
        (b"[" * 200_000, None, "nested too deeply"),
        (b'{"inputs":' * 100_000, None, "nested too deeply"),
        (b'{"inputs":[' + b"9" * 5000 + b"]}", None, "too many digits"),
        (b"[]", None, "must be an object"),
        (b"null", None, "must be an object"),
        (b"{}", None, "inputs must be a list"),
        (b'{"inputs":{}}', None, "inputs must be a list"),
        (b'{"inputs":[]}', 14, "the body has 13 bytes"),
        (b'{"inputs":[]}', 10**18, "the body has 13 bytes"),
        (b'{"inputs":[]}', 0, "not JSON"),
        (b'{"inputs":[]}x', 13, "1 bytes are left"),
        (envelope(more=1), None, "'more', which is unknown"),
        (envelope(id=7), None, "id must be a string"),
        (envelope(id="x" * 129), None, "at most 128"),
        (envelope(parameters=[]), None, "parameters must be an object"),
        (envelope(parameters={"N": 1}), None, "known: binary_data_output, n"),
        (envelope(parameters={"n": 6}), None, "n must be a whole number, 1 to 5"),
        (envelope(parameters={"n": 0}), None, "1 to 5"),
        (envelope(parameters={"n": True}), None, "1 to 5"),
        (envelope(parameters={"n": "1"}), None, "1 to 5"),
        (envelope(parameters={"n": 1.0}), None, "1 to 5"),
        (envelope(parameters={"binary_data_output": 1}), None, "true or false"),
        (envelope(outputs={}), None, "outputs must be a list"),
        (envelope(outputs=["image"]), None, "an output must be an object"),
        (envelope(outputs=[{}]), None, "no name; known: image, png"),
        (envelope(outputs=[{"name": []}]), None, "no name"),
        (envelope(outputs=[{"name": "x"}]), None, "unknown output 'x'"),
        (envelope(outputs=[{"name": "image"}] * 2), None, "image is given twice"),
        (envelope(outputs=[{"name": "png"}]), None, "binary_data to true"),
        (
            envelope(outputs=[{"name": "image", "parameters": {"classification": 2}}]),
            None,
            "'classification', which is unknown",
        ),
        (
            envelope(outputs=[{"name": "image", "parameters": {"binary_data": "yes"}}]),
            None,
            "true or false",
        ),
        (envelope(inputs=[7]), None, "an input must be an object"),
        (envelope(inputs=[tensor(name="x")]), None, "unknown input 'x'; known: seed, label"),
        (envelope(inputs=[tensor(), tensor()]), None, "seed is given twice"),
        (envelope(inputs=[tensor(more=1)]), None, "'more', which is unknown"),
        (envelope(inputs=[tensor(datatype="INT32")]), None, "must be INT64 or UINT64"),
        (envelope(inputs=[tensor(datatype=["INT64"])]), None, "must be INT64 or UINT64"),
        (envelope(inputs=[tensor(shape=None)]), None, "the shape must be [n], n from 1 to 5"),
        (envelope(inputs=[tensor(shape=[])]), None, "the shape must be"),
        (envelope(inputs=[tensor(shape=[0], data=[])]), None, "it is '[0]'"),
        (envelope(inputs=[tensor(shape=[-2])]), None, "it is '[-2]'"),
        (envelope(inputs=[tensor(shape=[6], data=[0] * 6)]), None, "n from 1 to 5"),
        (envelope(inputs=[tensor(shape=[2**62, 4])]), None, "the shape must be"),
        (envelope(inputs=[tensor(shape=[2**63])]), None, "the shape must be"),
        (envelope(inputs=[tensor(shape=[10**4000])]), None, "the shape must be"),
        (envelope(inputs=[tensor(shape=[2.0])]), None, "the shape must be"),
        (envelope(inputs=[tensor(shape=[True], data=[1])]), None, "the shape must be"),
        (envelope(inputs=[tensor(shape=["2"])]), None, "the shape must be"),
        (envelope(inputs=[tensor(shape=[2, 1, 1])]), None, "the shape must be"),
        (envelope(inputs=[tensor(shape=[1] * 100_000)]), None, "the shape must be"),
        (envelope(inputs=[tensor(shape=[3])]), None, "must have 3 numbers; it has 2"),
        (envelope(inputs=[tensor(data=[1, 2, 3])]), None, "must have 2 numbers; it has 3"),
        (envelope(inputs=[tensor(data=[[1], [2]])]), None, "do not have the shape [2]"),
        (
            envelope(inputs=[tensor(shape=[2, 1], data=[[1, 2]])]),
            None,
            "do not have the shape [2, 1]",
        ),
        (envelope(inputs=[tensor(data=7)]), None, "data must be a list"),
        (envelope(inputs=[tensor(data="12")]), None, "data must be a list"),
        (envelope(inputs=[tensor(data=[True, 2])]), None, "whole numbers"),
        (envelope(inputs=[tensor(data=["1", 2])]), None, "whole numbers"),
        (envelope(inputs=[tensor(data=[1.0, 2])]), None, "whole numbers"),
        (envelope(inputs=[tensor(data=[None, 2])]), None, "whole numbers"),
        (envelope(inputs=[tensor(data=[-1, 2])]), None, "0 to 9007199254740991"),
        (envelope(inputs=[tensor(data=[2**53, 2])]), None, "0 to 9007199254740991"),
        (envelope(inputs=[tensor(data=[10**4000, 2])]), None, "0 to 9007199254740991"),
        (envelope(inputs=[tensor(parameters={"binary_data_size": 16})]), None, "not both"),
        (envelope(inputs=[tensor(data=None)]), None, "either data or"),
        (
            envelope(inputs=[tensor(data=None, parameters={"shared_memory_region": "x"})]),
            None,
            "'shared_memory_region', which is unknown",
        ),
        (envelope(inputs=[tensor(), tensor(name="label", shape=[1], data=[1])]), None, "equally"),
        (envelope(inputs=[tensor()], parameters={"n": 1}), None, "the inputs have 2 rows"),
    ],
)
def test_a_wrong_body_is_refused_in_the_callers_words(
    body: bytes, size: int | None, says: str
) -> None:
    with pytest.raises((MalformedBodyError, InvalidParameterError)) as caught:
        parse_request(body, size, SAMPLE, MAX_ROWS)
    assert says in caught.value.detail
    assert len(caught.value.detail) < 500


@pytest.mark.parametrize("size", [0, -16, 8, 17, 2**63, 16.0, True, "16"])
def test_a_wrong_binary_size_is_refused_before_it_is_used(size: Any) -> None:
    head = envelope(inputs=[tensor(data=None, parameters={"binary_data_size": size})])
    with pytest.raises(MalformedBodyError, match="binary_data_size must be 16"):
        parse_request(head + bytes(16), len(head), SAMPLE, MAX_ROWS)


def test_missing_and_left_over_bytes_are_refused() -> None:
    head = envelope(inputs=[tensor(data=None, parameters={"binary_data_size": 16})])
    assert parse_request(head + bytes(16), len(head), SAMPLE, MAX_ROWS).rows == 2
    for count, says in ((0, "0 are present"), (15, "15 are present"), (17, "1 bytes are left")):
        with pytest.raises(MalformedBodyError, match=says):
            parse_request(head + bytes(count), len(head), SAMPLE, MAX_ROWS)
    with pytest.raises(MalformedBodyError, match="0 are present"):
        parse_request(head, None, SAMPLE, MAX_ROWS)


@pytest.mark.parametrize(
    ("bad", "binary"),
    [(np.nan, True), (np.inf, True), (-np.inf, True), (1001, True), (1001, False), (-3e38, False)],
)
def test_numbers_out_of_range_are_refused_in_either_form(bad: float, binary: bool) -> None:
    z = np.zeros((2, 3), np.float32)
    z[1, 2] = bad
    pixels = np.zeros((2, 2, 3), np.uint8)
    body, size = sent({"image": (pixels, "UINT8", True), "z": (z, "FP32", binary)})
    with pytest.raises(MalformedBodyError, match="-1000 to 1000"):
        parse_request(body, size, UPLOAD, MAX_ROWS)


def test_a_number_too_large_for_a_float_is_refused() -> None:
    body = b'{"inputs":[{"name":"z","shape":[1,3],"datatype":"FP32","data":[1e999,0,0]}]}'
    with pytest.raises(MalformedBodyError, match="-1000 to 1000"):
        parse_request(body, None, UPLOAD, MAX_ROWS)


def test_a_required_input_may_not_be_missing() -> None:
    with pytest.raises(MalformedBodyError, match="no input image"):
        parse_request(envelope(), None, UPLOAD, MAX_ROWS)
    with pytest.raises(MalformedBodyError, match=r"known: binary_data_output, content_type$"):
        parse_request(envelope(parameters={"n": 1}), None, UPLOAD, MAX_ROWS)


def test_nested_and_flat_data_are_the_same_and_null_is_as_if_left_out() -> None:
    z: dict[str, Any] = {"name": "z", "shape": [2, 3], "datatype": "FP32"}
    pixels = {"name": "image", "shape": [2, 2, 3], "datatype": "UINT8", "data": list(range(12))}
    flat = envelope(inputs=[pixels, z | {"data": [0, 1, 2, 3, 4, 5.5]}], id=None, outputs=None)
    nested = envelope(inputs=[pixels, z | {"data": [[0, 1, 2], [3, 4, 5.5]], "parameters": None}])
    found, again = (parse_request(body, None, UPLOAD, MAX_ROWS) for body in (flat, nested))
    assert found.inputs["z"].tolist() == [[0, 1, 2], [3, 4, 5.5]]
    np.testing.assert_array_equal(found.inputs["z"], again.inputs["z"])
    assert found.id is None


def test_outputs_are_those_requested_in_order_else_the_default_ones() -> None:
    def asked(**more: Any) -> list[tuple[str, bool]]:
        found = parse_request(envelope(**more), None, SAMPLE, MAX_ROWS)
        return [(spec.name, binary) for spec, binary in found.outputs]

    assert asked() == [("image", False), ("seed", False), ("mu", False)]
    binary = {"binary_data_output": True}
    assert asked(parameters=binary) == [("image", True), ("seed", True), ("mu", True)]
    assert asked(outputs=[], parameters=binary) == asked(parameters=binary)
    outputs = [{"name": "seed", "parameters": {"binary_data": False}}, {"name": "png"}]
    assert asked(outputs=outputs, parameters=binary) == [("seed", False), ("png", True)]


def test_without_inputs_the_rows_are_n_or_one() -> None:
    assert parse_request(envelope(), None, SAMPLE, MAX_ROWS).rows == 1
    assert parse_request(envelope(parameters={"n": 4}), None, SAMPLE, MAX_ROWS).rows == 4
    body = envelope(inputs=[tensor()], parameters={"n": 2})
    assert parse_request(body, None, SAMPLE, MAX_ROWS).rows == 2


def test_tritonclients_request_names_outputs_and_identifier() -> None:
    wanted = [InferRequestedOutput("png"), InferRequestedOutput("seed", binary_data=False)]
    body, size = sent(
        {"seed": (np.array([3]), "INT64", True)}, outputs=wanted, request_id="\u00e9-\U0001f600"
    )
    found = parse_request(body, size, SAMPLE, MAX_ROWS)
    assert [(spec.name, binary) for spec, binary in found.outputs] == [
        ("png", True),
        ("seed", False),
    ]
    assert found.id == "\u00e9-\U0001f600"


def with_names(**more: Any) -> bytes:
    return json.dumps({"inputs": [], **more}).encode()


def test_what_other_clients_always_write_is_taken_where_it_changes_nothing() -> None:
    names = ("alias", "model")
    for more in (
        {"model_name": "alias"},
        {"model_name": "model", "model_version": "1"},
        {"model_version": ""},
        {"model_version": None, "model_name": None},
        {"parameters": {"content_type": "np"}},
        {"outputs": [{"name": "seed", "parameters": {"content_type": "np"}}]},
    ):
        assert parse_request(with_names(**more), None, SAMPLE, MAX_ROWS, names).rows == 1
    tensor = {"name": "seed", "shape": [1], "datatype": "INT64", "data": [3]}
    body = with_names(inputs=[{**tensor, "parameters": {"content_type": "np"}}])
    assert parse_request(body, None, SAMPLE, MAX_ROWS, names).inputs["seed"].tolist() == [3]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"model_name": "other"}, "model_name is 'other'; the address names alias"),
        ({"model_name": 7}, "model_name is '7'"),
        ({"model_name": ["alias"]}, "model_name is"),
        ({"model_version": "2"}, "model_version is '2'; served is 1"),
        ({"model_version": [1, 2]}, "model_version is "),
        ({"model_name": [1, 2]}, "model_name is "),
        ({"parameters": {"content_type": [1, 2]}}, "content_type in the parameters is "),
        ({"inputs": [{**tensor(), "datatype": [1, 2]}]}, "the datatype must be "),
        ({"parameters": {"content_type": "str"}}, "content_type in the parameters is 'str'"),
        (
            {"outputs": [{"name": "seed", "parameters": {"content_type": "pd"}}]},
            "content_type in the parameters of output seed",
        ),
    ],
)
def test_what_would_change_something_is_refused(more: Any, says: str) -> None:
    with pytest.raises(MalformedBodyError, match=says):
        parse_request(with_names(**more), None, SAMPLE, MAX_ROWS, ("alias", "model"))
