"""Measures the service beside two floors and the bare generator (docs/explanation/benchmarks.md)."""
