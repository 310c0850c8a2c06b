"""Whether the files of the store have changed."""

import contextlib
from pathlib import Path

from app.engines.aliases import ALIASES

_SUFFIXES = (".safetensors", ".onnx")


class StoreWatch:
    """Looks at names, sizes and times of checkpoints, graphs and aliases.

    Args:
        folder: The store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded = self._seen = self._look()

    def changed(self) -> bool:
        """Whether they differ from what was loaded, and stand still since the last call: who copies
        a file is waited for. True once for each change."""
        now = self._look()
        still, self._seen = now == self._seen, now
        if not still or now == self._loaded:
            return False
        self._loaded = now
        return True

    def _look(self) -> frozenset[tuple[str, int, int]]:
        found = set()
        with contextlib.suppress(OSError):  # the folder is being replaced
            for path in self._folder.iterdir():
                if path.suffix in _SUFFIXES or path.name == ALIASES:
                    with contextlib.suppress(OSError):
                        state = path.stat()
                        found.add((path.name, state.st_size, state.st_mtime_ns))
        return frozenset(found)
