"""The command ``genserve``."""
