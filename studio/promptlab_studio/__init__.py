"""The web Studio: one FastAPI app, on a laptop behind uvicorn and in the cloud on Lambda."""
