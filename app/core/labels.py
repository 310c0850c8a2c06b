"""A label of a request: the name of one of a model's classes, or its index."""

import difflib
import unicodedata

from app.engines.store import StoredModel
from app.errors import InvalidParameterError, shown


class Labels:
    """The names and indices that a model's classes go by; none, where it is unconditional."""

    def __init__(self, model: StoredModel) -> None:
        self._model = model.name
        self._names = model.description.labels
        self._indices = {name: i for i, name in enumerate(self._names)}
        # With classes called 1, 3 and 5, index 0 would be class "1": where names are numbers, an
        # index is not accepted.
        self._numbered = any(name.lstrip("+-").isdecimal() for name in self._names)

    def __bool__(self) -> bool:
        return bool(self._names)

    def named(self, text: str) -> int | None:
        """The index of the class of this name; its accents may be composed or combining."""
        if text in self._indices:
            return self._indices[text]
        return self._indices.get(unicodedata.normalize("NFC", text))

    def index(self, text: str) -> int | None:
        """The index of a class by name, else by index in plain digits; None = there is none."""
        index = self.named(text)
        plain = text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")
        if index is None and not self._numbered and plain and len(text) <= 6:
            index = int(text) if int(text) < len(self._names) else None
        return index

    def check(self, text: str) -> int:
        """The index of a class.

        Raises:
            InvalidParameterError: there is none; the message has those that there are.
        """
        index = self.index(text)
        if index is not None:
            return index
        names = self._names
        allowed = f"0 to {len(names) - 1}"
        if names != tuple(str(i) for i in range(len(names))):
            listed = f"{', '.join(names[:20])}{'…' if len(names) > 20 else ''}"
            allowed = listed if self._numbered else f"{allowed}, or a name: {listed}"
            if near := difflib.get_close_matches(text.casefold(), names, 1):
                allowed += f"; did you mean {near[0]}?"
        raise InvalidParameterError(
            f"label is {shown(text)}; {self._model} knows {allowed}",
            errors=[{"pointer": "?label", "detail": f"allowed: {allowed}"}],
        )
