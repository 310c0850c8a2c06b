"""What stands in the way of an import, in words."""


class GeneratorError(ValueError):
    """The generator cannot be imported as it is; the message says why and what to do."""
