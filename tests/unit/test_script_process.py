"""How the process of a script begins and ends: most of the time of a run of few rows."""

from __future__ import annotations

from pathlib import Path

from tests.unit.test_speaking import RUN, script


def test_a_run_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """Each of these is 1 to 130 ms of the start of a process."""
    unwanted = (
        *("httpx", "rich", "click", "fastapi", "jinja2", "yaml", "jsonschema", "regex", "botocore", "numpy"),
        *("promptlab.queries.compare", "promptlab.queries.query_engine", "promptlab.gates.judging"),
        *("promptlab.gates.outcome", "promptlab.adapters.http.lab", "promptlab.experiments.bundles"),
        *("promptlab.engine.batching", "promptlab.evaluators.extraction", "promptlab.evaluators.structure"),
        *("promptlab.results.export", "promptlab.results.otel", "promptlab.results.pages"),
    )
    openai = "import promptlab.models.openai_compatible\n"  # what calls over HTTP need
    asked = f"import sys\nprint(sorted(set({unwanted!r}) & sys.modules.keys()))"
    out, _ = script(tmp_path, openai + RUN % "" + asked)
    assert out == "completed\n[]\n"


def test_what_the_end_of_a_run_needs_is_loaded_while_its_calls_are_answered(tmp_path: Path) -> None:
    """A lab is open, and can be looked at, before DuckDB and the statistics are there."""
    late = ["duckdb", "promptlab.engine.summarize", "promptlab.statistics"]
    asked = f"import sys\nprint(sorted(set({late}) & sys.modules.keys()))\n"
    before = f"from promptlab import PromptLab\nPromptLab().experiment.list()\n{asked}"
    out, _ = script(tmp_path, before + RUN % "" + asked)
    assert out == f"[]\ncompleted\n{late}\n"
