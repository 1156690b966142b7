"""Signals of tests as a run: a row a test, a metric a signal. What `pytest --promptlab` records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from promptlab.domain.assets import Dataset
from promptlab.domain.results import Score
from promptlab.errors import ConfigError
from promptlab.evaluators.base import Evaluator
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.yaml_reading import read_yaml
from promptlab.gates import Gates
from promptlab.gates.outcome import GateOutcome
from promptlab.store_lab import StoreLab
from promptlab.wiring import store_from

Tests = Mapping[str, tuple[bool, Mapping[str, float | bool]]]
"""By the test's name: whether it failed, and its signals."""


class SignalConfig(BaseModel):
    """One signal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    better: Literal["higher", "lower"] = "higher"
    range: tuple[float, float] | None = None


class SignalGate(BaseModel):
    """A gate's file for tests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    gates: Gates
    signals: Mapping[str, SignalConfig] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()


class Recorded(Evaluator):
    """Gives back what a test recorded."""

    def __init__(self, signal: str, config: SignalConfig) -> None:
        self.signal = signal
        self.higher_is_better = config.better == "higher"
        if config.range is not None:
            self.value_range = config.range

    def evaluate(self, data: dict[str, Any]) -> Score:
        found = json.loads(data["response"]).get(self.signal)
        if found is None:
            raise ValueError("the test failed before it recorded this signal")
        return Score(passed=found) if isinstance(found, bool) else Score(value=float(found))


def read_gate(path: Path) -> SignalGate:
    """Read a gate's file.

    Raises:
        ConfigError: it cannot be read, or is not well written.
    """
    try:
        return SignalGate.model_validate(read_yaml(path))
    except ValidationError as error:
        said = [
            f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}"
            for e in error.errors(include_url=False, include_input=False)[:20]
        ]
        raise ConfigError("\n".join(said)) from None


def judged(path: Path, tests: Tests, *, db: str | None, baseline: str | None) -> GateOutcome | None:
    """Record signals as a run of the gate's experiment, and judge it; None where there are none.

    Raises:
        PromptLabError: the file is wrong, or the run cannot be judged.
    """
    gate = read_gate(path)
    names = list(dict.fromkeys(name for _, (_, signals) in tests.items() for name in signals))
    if not names:
        return None
    # pytest may run within a loop of its own (a plug-in's): this one is another thread's.
    return asyncio.run(_judged(gate, tests, names, db, baseline))


async def _judged(
    gate: SignalGate, tests: Tests, names: list[str], db: str | None, baseline: str | None
) -> GateOutcome:
    store = store_from(db, None, None, None)
    if store["type"] != "sqlite":
        raise ConfigError(
            "Signals of tests are kept in a store of this machine: unset PROMPTLAB_ENDPOINT, or give "
            "--promptlab-db FILE."
        )
    lab = StoreLab.open(store)
    try:
        config = _experiment(gate, tests, names)
        wanted = baseline or gate.gates.baseline
        known = await lab.run_labels(gate.name)
        run = await lab.run(config)
        # The first run of all has no baseline yet: it is recorded, and can become it.
        if (
            wanted is not None
            and wanted not in known
            and wanted == gate.gates.baseline
            and gate.gates.compares
        ):
            raise ConfigError(
                f"No run of {gate.name!r} is labelled {wanted!r} yet. This one is recorded: "
                f"promptlab label {run.run_id} {wanted}"
            )
        return await lab.gate(run.run_id, baseline=baseline)
    finally:
        await lab.close()


def _experiment(gate: SignalGate, tests: Tests, names: list[str]) -> ExperimentConfig:
    rows, answers = [], {}
    for test, (failed, signals) in sorted(tests.items()):
        # A test that ended well without a signal has none to give; one that failed might have had.
        has = {f"has {name}": name in signals or failed for name in names}
        rows.append({"id": test, **has})
        answers[test] = json.dumps(dict(signals))

    def recorded(row: dict[str, Any]) -> str:
        return answers[row["id"]]

    return ExperimentConfig.parse(
        {
            "name": gate.name,
            "dataset": Dataset(name=f"{gate.name} tests", description="", rows=rows, id_column="id"),
            "agent_proxy": recorded,
            "evaluation": [
                {
                    "metric": name,
                    "evaluator": Recorded(name, gate.signals.get(name, SignalConfig())),
                    "column_mapping": {"response": "$inference"},
                    "when": {"column": f"has {name}", "is": True},
                }
                for name in names
            ],
            "gates": gate.gates,
            "tags": gate.tags,
        }
    )
