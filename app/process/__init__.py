"""The processes of the service: how they start, share a port, are watched and end."""
