"""What a model of the Open Inference Protocol takes and returns: names, datatypes and shapes."""

import math
from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES = {"UINT8": "|u1", "INT64": "<i8", "UINT64": "<u8", "FP32": "<f4"}  # datatype -> numpy
BYTES = "BYTES"  # not in DTYPES: each element has its own length; in binary, 4 bytes before it
_ENVELOPE = 8192  # bytes of JSON around the numbers
_NUMBER = 32  # bytes of JSON that one number may take, with its separators


class Input(NamedTuple):
    """A tensor that a model takes, of shape (n, *row) or (n, *row, 1)."""

    name: str
    datatypes: tuple[str, ...]  # accepted; metadata name the first
    row: tuple[int, ...]
    low: int  # smallest value allowed
    high: int  # largest
    required: bool = True

    def metadata(self) -> dict[str, Any]:
        """The tensor in the protocol's metadata; -1 is the batch."""
        return {"name": self.name, "datatype": self.datatypes[0], "shape": [-1, *self.row]}


class Output(NamedTuple):
    """A tensor that a model returns, of shape (n, *row)."""

    name: str
    datatype: str
    row: tuple[int, ...]
    by_default: bool = True  # returned when the request names no outputs

    def metadata(self) -> dict[str, Any]:
        """The tensor in the protocol's metadata; -1 is the batch."""
        return {"name": self.name, "datatype": self.datatype, "shape": [-1, *self.row]}


class Signature(NamedTuple):
    """The inputs and outputs of one model.

    Where no input is required, the request parameter ``n`` can set the number of rows.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]

    def max_body_bytes(self, max_rows: int) -> int:
        """Size that no body of ``max_rows`` rows exceeds unless it is padded on purpose."""
        numbers = sum(math.prod(spec.row) for spec in self.inputs)
        return _ENVELOPE + max_rows * numbers * _NUMBER
