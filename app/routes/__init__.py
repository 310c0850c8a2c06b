"""The endpoints: read the request, submit it, reply."""
