"""The OpenAPI document, as far as FastAPI cannot derive it from the code."""
