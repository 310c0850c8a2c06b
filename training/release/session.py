"""Runs a graph of ours in ONNX Runtime, as publishing needs it."""

import onnxruntime as ort
import torch


def session_of(model: bytes) -> ort.InferenceSession:
    """A session on the CPU with as many threads as torch has now, which ``--threads`` sets.

    ONNX Runtime's own default takes every core, and its threads spin while they wait.

    Args:
        model: An ONNX model.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
