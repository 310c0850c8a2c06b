"""What the OpenAPI document says beyond what FastAPI derives from the code."""
