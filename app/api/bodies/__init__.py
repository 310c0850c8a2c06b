"""Request bodies: limits in bytes, media types, and parsers that trust nothing in them."""
