"""Imports generators from elsewhere, an ONNX file or a torch module, as checkpoints of a store."""
