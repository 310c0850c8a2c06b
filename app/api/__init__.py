"""The routes, their parameters and bodies, and the OpenAPI document."""
