"""What the service does, apart from HTTP: requests, health, metrics and datasets."""
