"""The API as an OpenAPI document: `python -m studio.api.document > docs/openapi.json`
after a change of the API."""

from __future__ import annotations

import json
import sys

from promptlab_studio.app import create_app


def document() -> str:
    """The document, as it is committed: without a store, and without the version of the package."""
    from promptlab.store_lab import StoreLab

    # Nothing is opened: the lab is only asked when a request comes.
    described = create_app(StoreLab.open()).openapi()
    described["info"]["version"] = "1"
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
