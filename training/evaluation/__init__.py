"""Measures networks against real images: judges, metrics and their tables."""
