"""The committed OpenAPI document is the API's."""

from __future__ import annotations

import json
from pathlib import Path

from promptlab_studio.api.document import document

DOCS = Path(__file__).parents[2] / "docs"


def test_the_committed_document_is_that_of_the_app() -> None:
    """Changed it on purpose? `python -m promptlab_studio.api.document > docs/openapi.json`"""
    assert (DOCS / "openapi.json").read_text("utf-8") == document()


def test_every_operation_is_described() -> None:
    """A summary, a description, a tag, and the shape of errors."""
    described = json.loads(document())
    for path, item in described["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            assert operation["tags"], (method, path)
            assert "application/problem+json" in operation["responses"]["default"]["content"], (method, path)
            assert "422" not in operation["responses"], (method, path)
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description"), (method, path, parameter["name"])
    assert described["components"]["schemas"]["RunIn"]["examples"]


def test_the_guide_names_every_operation() -> None:
    """docs/api.md has each with its method."""
    guide = (DOCS / "api.md").read_text("utf-8")
    for path, item in json.loads(document())["paths"].items():
        for method in item:
            assert f"`{method.upper()} {path.removeprefix('/api/v1')}`" in guide, f"{method.upper()} {path}"
