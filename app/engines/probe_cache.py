"""Times of passes from the last start, in a folder, so that a start need not measure them again.

What is remembered are times alone. That all rows repeat was shown when they were measured, on this
processor with these libraries; a start that uses them shows it at each size with the first rows,
the last, and some beside one that is no number (``app.engines.probe``). Times that are not those
of this machine are measured anew.
"""

import functools
import hashlib
import json
import logging
import os
import platform
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from app.engines.store import StoredModel
from training.networks.configs import Operation
from training.networks.files import read_regular_file

log = logging.getLogger(__name__)

Times = dict[Operation, list[tuple[int, float]]]  # rows and seconds of each size, smallest first

_FORMAT = 1  # of the files, and of what the probe measures
_MAX_BYTES = 65536
_MAX_S = 3600.0  # of a pass; longer is no time
_LIBRARIES = ("onnxruntime", "torch", "numpy")
# What names a processor in /proc/cpuinfo; the rest is of the moment.
_PROCESSOR = re.compile(
    r"(vendor_id|model name|cpu family|model|stepping|microcode|flags|Features)\b"
)


class ProbeCache:
    """See the module.

    Args:
        folder: Made if it is missing. None = nothing is kept.
        max_batch: As of the probe, which tries other sizes under another one.
    """

    def __init__(self, folder: Path | None, max_batch: int | None) -> None:
        self._folder = folder
        self._max_batch = max_batch

    def times(self, model: StoredModel) -> Times | None:
        """The times of a model's operations; None = not known."""
        if not self._folder:
            return None
        try:
            return _parsed(read_regular_file(self._file(self._folder, model), _MAX_BYTES), model)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            log.warning(
                "%s is measured anew: what the cache has is of no use: %s", model.name, error
            )
            return None

    def keep(self, model: StoredModel, times: Mapping[Operation, list[tuple[int, float]]]) -> None:
        """Keep what was measured, where the folder can be written."""
        if not self._folder:
            return
        written = ""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, written = tempfile.mkstemp(dir=self._folder)
            with open(handle, "w") as file:
                json.dump(times, file)
            os.replace(written, self._file(self._folder, model))
        except OSError as error:
            log.warning("cache_dir %s: %s; times are not kept", self._folder, error.strerror)
            with suppress(OSError):
                os.unlink(written)

    def _file(self, folder: Path, model: StoredModel) -> Path:
        """Named by all that the times depend on."""
        backend = model.backend
        key = [_FORMAT, model.description.digest, backend.engine, backend.device, backend.threads]
        key += [self._max_batch, *_machine()]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        return folder / f"{model.name}-{digest[:32]}.json"


def _parsed(data: bytes, model: StoredModel) -> Times:
    """Times from a file.

    Raises:
        ValueError: it has not those of exactly this model's operations.
    """
    read = json.loads(data)
    if not isinstance(read, dict) or set(read) != set(model.operations):
        raise ValueError("other operations")
    allowed = {*model.backend.sizes, model.backend.reference}
    times: Times = {}
    for operation in model.operations:
        passes = read[operation]
        if not isinstance(passes, list) or not passes:
            raise ValueError("no passes")
        for each in passes:
            if not isinstance(each, list) or [type(value) for value in each] != [int, float]:
                raise ValueError("a pass is no pair of rows and seconds")
            if each[0] not in allowed or not 0 < each[1] <= _MAX_S:
                raise ValueError(f"no pass: {each[0]} rows, {each[1]} s")
        sizes = [size for size, _ in passes]
        if sizes != sorted(set(sizes)):
            raise ValueError("sizes out of order")
        times[operation] = [(size, seconds) for size, seconds in passes]
    return times


@functools.cache
def _machine() -> tuple[str, ...]:
    """The processor and the libraries."""
    try:
        first = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
    except OSError:
        first = platform.processor()
    lines = [line for line in first.splitlines() if _PROCESSOR.match(line)]
    versions = []
    for library in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions.append(f"{library} {version(library)}")
    return (platform.machine(), platform.system(), *lines, *versions)
