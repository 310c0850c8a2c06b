"""Query and header parameters: declared once, parsed, and checked."""
