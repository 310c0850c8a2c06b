"""HTTP below FastAPI.

One connection: ``protocol``, ``connection_state``, ``connection_limit``, ``keep_alive``.
The fast path: ``fast_request`` (parses), ``fast_path`` (answers), ``refusal_cache``.
Around every request: ``middleware``, ``access``, ``error_response``.
For routes: ``negotiation``, ``ranges``, ``streaming``, ``disconnect``.
"""
