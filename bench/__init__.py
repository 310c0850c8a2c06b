"""Measures the service beside two floors and the bare generator; see README.md."""
