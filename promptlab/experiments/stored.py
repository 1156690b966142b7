"""Code that a lab keeps, in an experiment: found, pinned to its version, and asked what it is. It runs in the
sandbox only; what stands for it here has its attributes and none of its code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
from pydantic import ValidationError

from promptlab.assets.store import AssetStore
from promptlab.domain.chat import TAKEN, ChatRequest
from promptlab.domain.code import StoredCode
from promptlab.domain.experiment import CodeRef
from promptlab.domain.media_in import blobs_in
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import ModelResponse
from promptlab.domain.versioned import which_version
from promptlab.engine.processes import SANDBOX, Recipe
from promptlab.errors import ConfigError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.of_runs import RunEvaluator
from promptlab.experiments.config import CodeConfig, ExperimentConfig
from promptlab.models.base import Messages, Model
from promptlab.models.retry import RetryPolicy
from promptlab.ports import Sandbox

if TYPE_CHECKING:
    from promptlab.engine.sandboxed import SandboxPool

MOST_AT_ONCE = 8
"""Pieces of code that are asked at once."""


class StoredEvaluator(Evaluator):
    """Stands for an evaluator in the sandbox.

    Args:
        code: where it is.
        said: what the sandbox says of it.
    """

    def __init__(self, code: CodeRef, said: Mapping[str, Any]) -> None:
        self.code = code
        higher = said.get("higher_is_better", True)
        self.higher_is_better = dict(higher) if isinstance(higher, Mapping) else bool(higher)
        self.scores = tuple(map(str, said.get("scores") or ()))
        self.inputs = {str(name): value for name, value in (said.get("inputs") or {}).items()}

    def evaluate(self, data: dict[str, Any]) -> NoReturn:
        """Refuse: its code is not in this process.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.code.bundle} runs in the sandbox of the hosted lab only.")


class StoredRunEvaluator(StoredEvaluator, RunEvaluator):
    """Stands for a metric of a run as a whole in the sandbox."""

    def evaluate(self, cases: Any) -> NoReturn:
        """Refuse, as a `StoredEvaluator`.

        Raises:
            ConfigError: always.
        """
        super().evaluate(cases)


def stored_evaluator(code: CodeRef, said: Mapping[str, Any]) -> StoredEvaluator:
    """Return what stands for an evaluator: of cases, or of a run as a whole, as the sandbox says."""
    return (StoredRunEvaluator if said.get("whole") else StoredEvaluator)(code, said)


class StoredModel(Model):
    """Stands for a model or an agent in the sandbox.

    Args:
        code: where it is.
        config: what it is called with.
        agent: whether it is an agent.
        takes: what the model takes, as in `Model`; by default all, of a run that was found to be in order.
        by_address: as in `Model`.
        forces_tools: as in `Model`.
    """

    def __init__(
        self,
        code: CodeRef,
        config: ModelConfig,
        *,
        agent: bool = False,
        takes: Iterable[str] = TAKEN,
        by_address: Iterable[str] | None = None,
        forces_tools: bool = True,
    ) -> None:
        super().__init__(config)
        self.code, self._agent = code, agent
        self.takes = frozenset(takes)
        self.by_address = None if by_address is None else frozenset(by_address)
        self.forces_tools = forces_tools
        self._pool: SandboxPool | None = None

    @property
    def in_sandbox(self) -> bool:
        return True

    @property
    def retry_policy(self) -> RetryPolicy:
        """As of the model; None for an agent, which has retries of its own."""
        return RetryPolicy(max_retries=0, max_throttles=0) if self._agent else super().retry_policy

    def through(self, pool: SandboxPool) -> None:
        """Have calls answered by the sandbox from now on."""
        self._pool = pool
        self._recipe = Recipe(self.name, SANDBOX, self._argument())

    def _argument(self) -> bytes:
        config = self.config.model_dump(mode="json", exclude={"api_key"}, exclude_none=True)
        return orjson.dumps(
            {
                "role": "infer",
                "hash": self.code.bundle_hash,
                "ref": {
                    "module": self.code.module,
                    "qualname": self.code.qualname,
                    "params": self.code.params,
                },
                "metric": self.name,
                "config": None if self._agent else config,
            }
        )

    async def achat(self, messages: Messages) -> ModelResponse:
        """Answer in the sandbox.

        Raises:
            ModelError: the call failed.
            Postponed: the time of this process is over before that.
            ConfigError: there is no sandbox.
        """
        if self._pool is None:
            raise ConfigError(f"{self.code.bundle} runs in the sandbox of the hosted lab only.")
        if isinstance(messages, ChatRequest):
            asked: dict[str, Any] = {"request": messages.to_json()}
        else:
            asked = {"messages": [dict(message) for message in messages]}
        media: Mapping[str, int] = {}
        if self._agent and "sha256" in (row := asked["messages"][0]["content"]):
            media = blobs_in(orjson.loads(row))
        return await self._pool.answer(self._recipe, asked, self.config.timeout_s, media)


@dataclass(slots=True)
class Stored:
    """The stored code that an experiment names: by metric (its result name), `model` and `agent_proxy`."""

    codes: dict[str, CodeRef] = field(default_factory=dict)
    said: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def evaluator(self, name: str) -> StoredEvaluator | None:
        """Return what stands for a metric's evaluator; None where that is no stored code."""
        code = self.codes.get(name)
        return stored_evaluator(code, self.said[name]) if code else None


def names_stored(config: ExperimentConfig) -> bool:
    """Whether an experiment names code that a lab keeps."""
    return any(True for _ in _named(config))


async def look_up(
    config: ExperimentConfig, store: AssetStore, sandbox: Sandbox | None, refusal: str
) -> Stored:
    """Find the stored code of an experiment, and ask the sandbox what each piece is.

    Raises:
        AssetNotFoundError: there is no such code or version.
        ConfigError: there is no sandbox, or the code cannot be loaded, or is not what it is used as; in the
            words of `refusal`, or with the user's own line.
    """
    named = list(_named(config))
    if named and sandbox is None:
        raise ConfigError(refusal)
    found, gate = Stored(), asyncio.Semaphore(MOST_AT_ONCE)

    async def one(where: str, text: str, params: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
        code = await _pinned(text, params, store)
        async with gate:
            assert sandbox is not None
            said = await described(sandbox, code, where)
        _check_kind(where, code, said, wanted)
        found.codes[where], found.said[where] = code, said

    await asyncio.gather(*(one(*each) for each in named))
    return found


def _named(config: ExperimentConfig) -> Iterator[tuple[str, str, Mapping[str, Any], tuple[str, ...]]]:
    """The stored code of an experiment: where, its text, its params, and the kinds that it may be."""
    for item in config.evaluation:
        if isinstance(item.evaluator, str) and StoredCode.parse(item.evaluator):
            yield item.result_name, item.evaluator, item.params, ("evaluator", "function")
    for where, kinds in (
        ("model", ("model",)),
        ("embedding_model", ()),
        ("agent_proxy", ("function", "model")),
    ):
        given = getattr(config, where)
        if isinstance(given, CodeConfig) and StoredCode.parse(given.code):
            if not kinds:
                raise ConfigError(
                    f"{where}: {given.code} cannot be an embedding model: name a provider's, as in "
                    "openai/text-embedding-3-small."
                )
            yield where, given.code, given.params, kinds


async def _pinned(text: str, params: Mapping[str, Any], store: AssetStore) -> CodeRef:
    named = StoredCode.parse(text)
    assert named is not None
    asset = await store.get(named.name, **which_version(named.which), kind="code")
    return CodeRef(
        qualname=named.qualname,
        module=named.module,
        params=dict(params) or None,
        bundle=f"{asset.name}@{asset.version}",
        bundle_hash=asset.hash,
    )


async def described(sandbox: Sandbox, code: CodeRef, where: str) -> Mapping[str, Any]:
    """Ask the sandbox what a piece of code is; it loads the code, and makes what it names.

    Raises:
        ConfigError: it cannot be loaded; with the user's own line.
    """
    assert code.bundle_hash is not None
    ref = {"module": code.module, "qualname": code.qualname, "params": code.params}
    answer = await sandbox.ask(code.bundle_hash, {"role": "check", "metric": where, "ref": ref})
    said: Mapping[str, Any] = next(iter(answer.get("answers") or ()), {})
    error = answer.get("error") or said.get("error")
    if error:
        told = error.get("message") if isinstance(error, Mapping) else error
        raise ConfigError(f"{where}: {named_in_words(code)} cannot be used: {str(told)[:2_000]}")
    return said.get("said") or said


def named_in_words(code: CodeRef) -> str:
    """A piece of stored code, as configurations name it."""
    return f"{code.bundle}/{code.module}:{code.qualname}" if code.qualname else str(code.bundle)


def _check_kind(where: str, code: CodeRef, said: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    kind = said.get("kind")
    if kind not in wanted:
        raise ConfigError(
            f"{where}: {named_in_words(code)} is "
            f"{_WORDS.get(str(kind), 'no class or function of this use')}, "
            f"not {' or '.join(_WORDS[one] for one in wanted)}."
        )
    if said.get("needs_embedding"):
        raise ConfigError(
            f"{where}: {named_in_words(code)} needs an embedding model, which code in the sandbox cannot "
            "call: "
            "use a built-in metric such as semantic_similarity."
        )


_WORDS = {
    "evaluator": "an evaluator",
    "function": "a function",
    "model": "a model",
}


def model_of(code: CodeRef, said: Mapping[str, Any], given: Mapping[str, Any] | None) -> StoredModel:
    """Return what stands for a model; its configuration is the one that was sent with its object, else its
    own.

    Raises:
        ConfigError: the configuration is none.
    """
    try:
        config = ModelConfig.model_validate(given or said.get("config") or {"name": "custom/model"})
    except ValidationError as error:
        raise ConfigError(
            f"model: {named_in_words(code)} has a configuration that is none: {error.errors()[0]['msg']}"
        ) from None
    return StoredModel(
        code,
        config,
        takes=TAKEN & {str(one) for one in said.get("takes") or ()},
        by_address=said.get("by_address"),
        forces_tools=said.get("forces_tools") is not False,
    )


def recipe_argument(
    code: CodeRef, metric: str, parts: list[str], params: Mapping[str, Any] | None = None
) -> bytes:
    """Return what the sandbox needs to make a metric's evaluator, with the metric's `params`, as JSON."""
    ref = {"module": code.module, "qualname": code.qualname, "params": dict(params or {}) or None}
    return orjson.dumps(
        {"role": "evaluate", "hash": code.bundle_hash, "ref": ref, "metric": metric, "parts": parts}
    )
