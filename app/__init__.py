"""The service: samples, encodes and decodes with the networks in `models_store`, over HTTP."""

import os

__version__ = "0.2.0"

# ONNX Runtime 1.32 otherwise keeps a device id in the user's cache and reports to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
