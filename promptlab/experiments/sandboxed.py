"""Makes what a bundle has, in the confined process that runs it: unpacks the text, loads the class, function
or object, and answers as an evaluator or a model.

Only `promptlab.engine.sandbox` calls this, by name; nothing here is ever called where there are keys.
"""

from __future__ import annotations

import asyncio
import base64
import contextvars
import inspect
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Any

import orjson

from promptlab.domain.chat import read_request
from promptlab.domain.experiment import CodeRef
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import without_class
from promptlab.engine.answers import MOST_MESSAGE, MOST_TYPE, checked, said_by
from promptlab.engine.process_child import Answers
from promptlab.engine.sandbox.answers import CallFailed, failure_body, response_body
from promptlab.engine.sandbox.words import said
from promptlab.errors import ConfigError, ModelError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.foreign import MAX_SEVERAL
from promptlab.evaluators.of_runs import RunEvaluator
from promptlab.evaluators.several import joining
from promptlab.evaluators.whole import WholeRun
from promptlab.experiments.binding import agent_function, model_object
from promptlab.experiments.code import load_code
from promptlab.experiments.remaking import evaluator_from
from promptlab.models.agent import AgentModel, takes_case
from promptlab.models.base import Model
from promptlab.models.recording import CaseRecorder, current_case, finished, recording
from promptlab.models.spans import collect_spans
from promptlab.models.usage import counted

CODE, PACKAGES = "code", "packages"
"""The folders of a bundle's text, and of its packages."""
MOST_UNPACKED = 300 << 20
"""Bytes of all packages of a bundle, unpacked."""

_pickled: list[str] = []


def unpack(argument: bytes) -> None:
    """Put a bundle's files where they can be imported from, in the working folder.

    Raises:
        ConfigError: it is for another Python, or a package cannot be unpacked.
    """
    found = orjson.loads(argument)
    content = found["content"]
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if (content["pickled"] or content["wheels"]) and content["python"] != here:
        what = "an object made" if content["pickled"] else "packages"
        raise ConfigError(
            f"the code has {what} for Python {content['python']}, and the hosted lab runs {here}. Send it "
            f"from Python {here}, or name a class or function of a file, without packages of its own."
        )
    root = Path.cwd()
    for name, text in content["files"].items():
        path = root / CODE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    _unpack_packages(root, found["wheels"])
    sys.path[:0] = [str(root / CODE), str(root / PACKAGES)]
    # What is loaded already under the name of a file of the user's is not what the user means.
    own = {name.partition("/")[0].removesuffix(".py") for name in content["files"]} - {"promptlab"}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]
    _pickled[:] = [content["pickled"] or ""]


def _unpack_packages(root: Path, wheels: list[str]) -> None:
    size = 0
    for name in wheels:
        try:
            with zipfile.ZipFile(root / name) as file:
                size += sum(item.file_size for item in file.infolist())
                if size > MOST_UNPACKED:
                    raise ConfigError(f"its packages take more than {MOST_UNPACKED >> 20} MB, unpacked")
                file.extractall(root / PACKAGES)
            (root / name).unlink()
        except (zipfile.BadZipFile, OSError, RuntimeError) as error:
            raise ConfigError(f"its package {name} cannot be unpacked: {error}") from error


def make(argument: bytes) -> Any:
    """Make what an invocation asks for: an evaluator, or an object that answers calls.

    Raises:
        ConfigError: it cannot be made.
    """
    asked = orjson.loads(argument)
    code = CodeRef.model_validate({**asked["ref"], "file": None, "rebuildable": True})
    thing = load_code(code) if code.qualname else _object()
    params = code.params or {}
    if asked["role"] == "check":
        return _Described(code, thing, params)
    if asked["role"] == "infer":
        return _Asked(code, thing, asked.get("config"))
    evaluator = evaluator_from(asked.get("metric") or "the metric", code, thing, params)
    if isinstance(evaluator, RunEvaluator):
        return WholeRun(evaluator, asked.get("parts") or ())
    return joining(evaluator, asked["parts"]) if asked.get("parts") else evaluator


def _object() -> Any:
    """Unpickle a bundle's object, which may do anything: that is why this runs here.

    Raises:
        ConfigError: there is none, or it cannot be made.
    """
    import cloudpickle

    if not _pickled or not _pickled[0]:
        raise ConfigError("the code has no object, and no class or function is named")
    try:
        return cloudpickle.loads(base64.b64decode(_pickled[0]))
    except BaseException as error:
        raise ConfigError(f"the object cannot be made again: {said(error, Path.cwd())}") from error


class _Asked(Answers):
    """A user's model or agent, which answers messages."""

    def __init__(self, code: CodeRef, thing: Any, config: Mapping[str, Any] | None) -> None:
        if config is None:
            self._model: Model = AgentModel(agent_function(code, thing))
        else:
            self._model = model_object(code, thing)
            self._model.config = ModelConfig.model_validate(config)
        self._runner = asyncio.Runner()
        self._folder = Path.cwd()

    def answer(self, data: dict[str, Any]) -> dict[str, Any]:
        """Answer the messages of a case; what is raised is the answer, too."""
        collect_spans()
        with counted() as usage, recording(CaseRecorder()) as case:
            try:
                # In this case's context: the runner would keep its first one, with the count of calls.
                asked = read_request(data["request"]) if "request" in data else data["messages"]
                found = self._runner.run(self._call(asked), context=contextvars.copy_context())
            except BaseException as error:  # noqa: BLE001 - a user's code may raise anything; it costs its own case only
                failed = self._failed(error)
                found = {"error": failure_body(replace(failed, messages=case.said, trace=case.trace()))}
        return {**found, "usage": asdict(usage)} if usage.calls else found

    async def _call(self, messages: Any) -> dict[str, Any]:
        began = monotonic()
        answer = finished(await self._model.achat(messages), current_case())
        found = checked(answer, (monotonic() - began) * 1000, self._model.name)
        return {"response": response_body(found)}

    def _failed(self, error: BaseException) -> CallFailed:
        if not isinstance(error, ModelError):
            words = without_class(said(error, self._folder), error)
            return CallFailed(type(error).__name__[:MOST_TYPE], words)
        told = asyncio.run(said_by(error))
        return CallFailed(told.type, str(told)[:MOST_MESSAGE], told.retryable, told.sent, told.retry_after_s)


class _Described(Answers):
    """Says what a class, function or object is, for those who never load it."""

    def __init__(self, code: CodeRef, thing: Any, params: Mapping[str, Any]) -> None:
        self._code, self._thing, self._params = code, thing, params

    def answer(self, data: dict[str, Any]) -> dict[str, Any]:
        """Say it.

        Raises:
            Exception: whatever the user's code raises; the process says so.
        """
        del data
        thing = self._thing
        if isinstance(thing, Model) or (inspect.isclass(thing) and issubclass(thing, Model)):
            model = model_object(self._code, thing)
            by_address = None if model.by_address is None else sorted(model.by_address)
            return {
                "kind": "model",
                "config": _public(model.config),
                "takes": sorted(model.takes),
                "by_address": by_address,
                "forces_tools": model.forces_tools,
            }
        if inspect.isroutine(thing) or not (inspect.isclass(thing) or hasattr(thing, "evaluate")):
            if not callable(thing):
                return {"kind": "nothing", "what": type(thing).__name__}
            return {**self._function(), "kind": "function", "takes_case": takes_case(thing) is not None}
        evaluator = evaluator_from("the metric", self._code, thing, self._params)
        return _evaluator(evaluator)

    def _function(self) -> dict[str, Any]:
        """Describe a function as the evaluator that it would be; an agent's is none, and has no inputs."""
        try:
            return _evaluator(evaluator_from("the metric", self._code, self._thing, self._params))
        except ConfigError:
            return {"scores": [], "higher_is_better": True, "needs_embedding": False}


def _evaluator(evaluator: Evaluator) -> dict[str, Any]:
    higher = getattr(evaluator, "higher_is_better", True)
    inputs = getattr(evaluator, "inputs", {})
    return {
        "kind": "evaluator",
        "scores": [str(name) for name in (getattr(evaluator, "scores", ()) or ())][: MAX_SEVERAL + 1],
        "higher_is_better": {str(k): bool(v) for k, v in higher.items()}
        if isinstance(higher, Mapping)
        else bool(higher),
        "whole": isinstance(evaluator, RunEvaluator),
        "needs_embedding": bool(getattr(evaluator, "needs_embedding", False)),
        "inputs": {str(k): None if v is None else str(v) for k, v in inputs.items()}
        if isinstance(inputs, Mapping)
        else {},
    }


def _public(config: ModelConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude={"api_key"}, exclude_none=True)
