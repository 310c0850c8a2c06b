"""Data sets: their seeds, their images, their files."""
