"""The service: samples, encodes and decodes with the networks in `models_store`, over HTTP."""

__version__ = "0.1.0"
