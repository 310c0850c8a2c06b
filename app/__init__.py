"""The service: samples, encodes and decodes with the networks in `models_store`, over HTTP."""
