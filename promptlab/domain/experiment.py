"""What to run: the configuration a user writes, and the resolved experiment a run records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import (
    BaseModel,
    ConfigDict,
)

from promptlab.domain.model_config import ModelConfig

if TYPE_CHECKING:
    pass

RESPONSE = "$inference"
"""In a column_mapping: the model's answer. `$completion` means the same."""
SPECIAL = ("$inference", "$completion", "$latency_ms", "$cost_usd", "$prompt_tokens", "$completion_tokens")
"""Everything that a column_mapping may name besides the dataset's columns."""


class AssetRef(BaseModel):
    """A pinned version of an asset."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    hash: str


class CodeRef(BaseModel):
    """Where a user's own class or function can be found again."""

    model_config = ConfigDict(frozen=True)

    qualname: str
    """The name inside its module."""
    module: str | None = None
    """The module to import, unless it is a script."""
    file: str | None = None
    """The script's path."""
    rebuildable: bool = True
    """Whether calling the class without arguments gives the same object back."""


class Metric(BaseModel):
    """One metric of a resolved experiment."""

    model_config = ConfigDict(frozen=True)

    name: str
    metric: str
    column_mapping: dict[str, str]
    params: dict[str, Any] = {}
    code: CodeRef | None = None
    higher_is_better: bool = True
    needs_embedding: bool = False


class Experiment(BaseModel):
    """A resolved experiment: everything that a run depends on, as JSON, without keys."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    name: str
    prompt_template: AssetRef | None = None
    dataset: AssetRef
    model: ModelConfig
    """The model's configuration; for an agent its name and limits."""
    model_code: CodeRef | None = None
    """Set when the model is a user's own class."""
    embedding_model: ModelConfig | None = None
    embedding_model_code: CodeRef | None = None
    agent: CodeRef | None = None
    evaluation: tuple[Metric, ...] = ()
    trials: int = 1
    prices: dict[str, Any] = {}
    """The rows of the price table that the run uses, with its date."""
    hash: str = ""
    """SHA-256 of all of the above: equal for runs of the same experiment."""

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)
