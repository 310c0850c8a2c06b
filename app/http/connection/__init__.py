"""A connection: its states, its limits, its end; uvicorn's protocol with ours around it."""
