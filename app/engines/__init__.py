"""Runs networks on ONNX Runtime or torch: loads them, probes them, runs one pass for many rows."""
