"""File formats of requests and responses: PNG, WebP, NPY, ZIP. No HTTP, no model."""
