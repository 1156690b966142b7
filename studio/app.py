"""The app: the same routes on a laptop and on Lambda."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from promptlab.lab import Lab
from studio.pages import router as pages

STATIC = Path(__file__).parent / "static"


def create_app(lab: Lab) -> FastAPI:
    """The Studio over a lab."""
    app = FastAPI(title="PromptLab Studio", docs_url=None, redoc_url=None)
    app.state.lab = lab
    app.include_router(pages)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app
