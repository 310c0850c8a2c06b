"""ONNX graphs beside a checkpoint: their manifest, their checks, and how torch runs them."""
