"""Quantises networks to graphs that give the same bytes on every machine."""
