"""Query and header parameters: declarations, checks, and lists in them."""
