"""Measures the service beside floors and other servers (docs/explanation/benchmarks.md)."""
