"""Processes: launcher, supervisor, workers, and what they share."""
