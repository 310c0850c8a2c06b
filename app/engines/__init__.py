"""Runs networks on ONNX Runtime or torch: loading, probing, and one pass for many rows. Knows no
HTTP."""
