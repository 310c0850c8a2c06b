"""HTTP below FastAPI: the protocol, the fast path, limits, middleware, content negotiation."""
