"""From results to responses: schemas, headers, permalinks and recipes."""
