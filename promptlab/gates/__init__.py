"""Gates: what a run must keep to before what it measured is let through, and the verdict on it.

`config` is what people write, `judging` decides, `outcome` is the verdict, `reports` say it to
people and to pipelines. Nothing here reads a store: the lab brings what was measured
(`promptlab/queries/gated.py`).
"""

from __future__ import annotations

from promptlab.gates.config import Gates, gates_of

__all__ = ["Gates", "gates_of"]
