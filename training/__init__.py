"""Offline training of the generators that `app` serves. Imports nothing from `app`."""

import os

# As in `app`: ONNX Runtime, which publishing compares with, reports to its makers otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
