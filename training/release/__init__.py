"""From a finished run to a published checkpoint: card, pictures, ONNX graphs."""
