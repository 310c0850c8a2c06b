"""Numbers that several processes write, and each of them can read, in memory without a file.

A mapped file can kill whoever writes to it (SIGBUS, once its disk is full), and stays behind when a
process is killed. This memory is anonymous: mapped before the processes are forked, and gone with
the last of them. Each process writes to a part of its own, so none waits for another. A part
outlives its process, and the next one counts on from there.
"""

import logging
import mmap
import struct
from collections.abc import Iterator
from typing import TypeAlias

log = logging.getLogger(__name__)

PART_BYTES = 2**20  # some 8,000 numbers with their names; pages that were never written take none
_WORD = 8
_HEAD = struct.Struct("qq")  # of an entry: bytes of its name, and its numbers

Numbers: TypeAlias = "memoryview[float]"


class SharedNumbers:
    """See the module.

    Each part is the bytes in use, then entries: a ``_HEAD``, the name padded to whole words and the
    numbers, each written in one go.

    Args:
        parts: How many processes may write at a time.
        part_bytes: Of each; what has no room there is not counted.
    """

    def __init__(self, parts: int, part_bytes: int = PART_BYTES) -> None:
        self.parts = parts
        memory = memoryview(mmap.mmap(-1, parts * part_bytes))
        self._parts = [memory[i * part_bytes :][:part_bytes] for i in range(parts)]
        self._doubles = [part.cast("d") for part in self._parts]
        self._used = [part[:_WORD].cast("q") for part in self._parts]
        for used in self._used:
            used[0] = _WORD
        self._known: list[dict[str, Numbers]] = [{} for _ in self._parts]
        self._read = [_WORD] * parts  # bytes of each part that ``_known`` has
        self._own = 0
        self._full = False

    def use(self, part: int) -> None:
        """Have this process write to a part, which no other process uses."""
        self._own = part

    def numbers(self, name: str, count: int) -> Numbers:
        """This process's numbers of a name, 0 at first; the same ones in each call."""
        part = self._own
        self._catch_up(part)
        if (found := self._known[part].get(name)) is None:
            found = self._append(part, name, count)
        return found

    def all(self) -> Iterator[tuple[int, str, Numbers]]:
        """Part, name and numbers, of all processes."""
        for part, known in enumerate(self._known):
            self._catch_up(part)
            for name, numbers in known.items():
                yield part, name, numbers

    def _catch_up(self, part: int) -> None:
        """Learn what its process has added to a part."""
        memory = self._parts[part]
        while (start := self._read[part]) < self._used[part][0]:
            length, count = _HEAD.unpack_from(memory, start)
            start += _HEAD.size
            name = bytes(memory[start : start + length]).decode()
            start = (start + length + _WORD - 1) // _WORD
            self._known[part][name] = self._doubles[part][start : start + count]
            self._read[part] = (start + count) * _WORD

    def _append(self, part: int, name: str, count: int) -> Numbers:
        memory, encoded = self._parts[part], name.encode()
        start = self._used[part][0]
        numbers = (start + _HEAD.size + len(encoded) + _WORD - 1) // _WORD
        end = (numbers + count) * _WORD
        if end > len(memory):
            if not self._full:
                log.warning("no room for the metric %s; metrics are incomplete from now on", name)
            self._full = True
            return memoryview(bytearray(count * _WORD)).cast("d")
        _HEAD.pack_into(memory, start, len(encoded), count)
        memory[start + _HEAD.size :][: len(encoded)] = encoded
        memory[numbers * _WORD : end] = bytes(count * _WORD)  # a process killed here left something
        self._used[part][0] = end
        self._catch_up(part)
        return self._known[part][name]
