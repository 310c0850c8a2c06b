"""The version of the distribution, read from here by its build and by the User-Agent header."""

__version__ = "0.2.0"
