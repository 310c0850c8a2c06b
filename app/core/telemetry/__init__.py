"""What the service tells of itself: logs, metrics and traces."""
