"""The supervisor and what it knows of workers: their channels, load, replacement and exchange."""
