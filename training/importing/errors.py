"""What stands in the way of an import, in words."""


class GeneratorError(ValueError):
    """The generator cannot be imported as it is; the message says why and what to do."""


def said(error: BaseException) -> str:
    """An error of other code in a line: its class and the first line of its message."""
    text = str(error).strip() or "without a message"
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}"
