"""Headers by which a request that the fast path would answer takes the full route."""

FULL_ROUTE = {"proxy-connection": "keep-alive"}  # and nothing else changes
