"""Where commands write: a file of some format, or standard output."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from genserve.cli.exits import UsageError
from genserve.files import write_atomically


def output_format(
    output: str | None, format: str | None, allowed: Sequence[str], default: str
) -> str:
    """The format to write: as --format says, else the file's suffix, else the default.

    Args:
        output: -o; None or - = standard output.
        format: --format; None = not given.
        allowed: The formats of the command.
        default: For standard output.

    Raises:
        UsageError: neither says which.
    """
    if format:
        return format
    if output in (None, "-"):
        return default
    suffix = Path(str(output)).suffix.lower().removeprefix(".")
    if suffix not in allowed:
        known = " ".join(f".{name}" for name in allowed)
        raise UsageError(
            f"{output!r} does not say which format; allowed are {known}, or the option --format"
        )
    return suffix


def write_output(output: str | None, body: bytes, format: str) -> None:
    """Write to the file, else to standard output; JSON on a terminal is indented.

    Args:
        output: -o; None = standard output, but nothing binary on a terminal; - = in any case.
        body: What to write.
        format: Of ``body``.

    Raises:
        OSError: it cannot be written.
        UsageError: standard output is closed, or a terminal that would show binary data.
    """
    if output not in (None, "-"):
        write_atomically(Path(str(output)), body)
        return
    stream = sys.stdout
    if stream is None:  # the shell's >&-
        raise UsageError("standard output is closed; -o FILE writes a file")
    if format == "json":
        indent = 2 if stream.isatty() else None
        print(json.dumps(json.loads(body), indent=indent, ensure_ascii=False))
        return
    if stream.isatty() and output is None:
        raise UsageError(
            f"{format} is not shown on a terminal; -o FILE writes it, -o - shows it anyway"
        )
    stream.buffer.write(body)
    stream.buffer.flush()
