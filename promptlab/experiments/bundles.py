"""The code of a user's own that an experiment brings along, as bundles that a lab elsewhere can keep and run.

`gather` finds it and reads its source; nothing is sent here, and nothing is imported that was not before.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, Literal

from promptlab.domain.code import CodeBundle, CodeHost, StoredCode, Wheel
from promptlab.errors import ConfigError
from promptlab.experiments.code import code_ref, named_ref
from promptlab.experiments.config import CodeConfig, ExperimentConfig
from promptlab.experiments.imports import find
from promptlab.experiments.packing import Packed, pack
from promptlab.experiments.sources import Sources, check_no_key, source_text
from promptlab.experiments.wheels import Fetched
from promptlab.models.base import Model
from promptlab.models.registry import is_registered

Part = int | Literal["model", "agent_proxy"]
"""A metric by its place in the experiment, the model or the agent."""


@dataclass(slots=True)
class BundleDraft:
    """A bundle in the making."""

    name: str
    sources: Sources = field(default_factory=Sources)
    packed: Packed | None = None
    scripts: dict[Path, tuple[str, set[str] | None]] = field(default_factory=dict)
    """Scripts: the module that each becomes, and the names that are needed; None for all of it."""

    def missing(self, host: CodeHost, fetched: Sequence[Fetched]) -> list[str]:
        """Return what its code imports and neither the sandbox nor a wheel has, for people.

        Only what it cannot be loaded without.
        """
        there = set(host.modules) | {module for one in fetched for module in one.modules}
        return [
            f"{one.name} ({one.place})"
            for one in self.sources.outside.values()
            if one.sure and one.name not in there
        ]

    def bundle(self, host: CodeHost, requirements: Sequence[str], wheels: Sequence[Wheel]) -> CodeBundle:
        """The bundle as it is sent.

        Raises:
            ConfigError: the object in it is for another Python than the lab's.
            AssetError: it is larger than a bundle may be.
        """
        python = host.python
        if self.packed and self.packed.has_bytecode:
            python = f"{sys.version_info.major}.{sys.version_info.minor}"
            if python != host.python:
                raise ConfigError(
                    f"{self.name} was made in a notebook or within a function, and such an object is for one "
                    f"Python only: this one is {python}, the hosted lab's is {host.python}. Write its class "
                    "or "
                    "function at the top of a .py file and import it from there, or use Python "
                    f"{host.python}."
                )
        return CodeBundle(
            name=self.name,
            files=self.sources.files,
            pickled=self.packed.pickled if self.packed else None,
            requirements=tuple(requirements),
            wheels=tuple(wheels),
            python=python,
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of the experiment that is code, and where it is in a bundle."""

    part: Part
    draft: BundleDraft
    module: str | None
    """None for the bundle's own object."""
    qualname: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    """The configuration of a model that is an object."""

    def stored(self, version: int) -> str:
        """Return what names it, once its bundle is a version of an asset."""
        return str(StoredCode(self.draft.name, str(version), self.module, self.qualname))


@dataclass(slots=True)
class Gathered:
    """All code of an experiment."""

    drafts: list[BundleDraft] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    def rewritten(self, config: ExperimentConfig, versions: Mapping[int, int]) -> ExperimentConfig:
        """The experiment with names of stored code in place of its own.

        Args:
            config: the experiment.
            versions: the version that each draft has become, by its place in `drafts`.
        """
        changes: dict[str, Any] = {}
        evaluation = list(config.evaluation)
        for piece in self.pieces:
            text = piece.stored(versions[self.drafts.index(piece.draft)])
            if isinstance(piece.part, int):
                evaluation[piece.part] = evaluation[piece.part].model_copy(update={"evaluator": text})
            else:
                changes[piece.part] = CodeConfig(code=text, params=piece.params, config=piece.config)
        return config.model_copy(update={**changes, "evaluation": tuple(evaluation), "code": None})


def gather(config: ExperimentConfig, folder: Path) -> Gathered:
    """Collect the code of an experiment; relative paths count from `folder`.

    Raises:
        ConfigError: some of it cannot be sent; with what to do instead.
    """
    found = _Gathering(folder)
    for part, what, thing, params in _own(config):
        found.add(part, what, thing, params)
    found.read()
    if config.code and found.drafts:
        for name in config.code.files:
            found.add_file(name)
    return Gathered(found.drafts, found.pieces)


def has_code(config: ExperimentConfig) -> bool:
    """Whether an experiment brings code along that a lab elsewhere does not have yet."""
    return any(True for _ in _own(config))


def _own(config: ExperimentConfig) -> Iterator[tuple[Part, str, Any, Mapping[str, Any]]]:
    """The parts of an experiment that are code, and not in a lab yet: what they are called, and params."""
    for number, item in enumerate(config.evaluation):
        if item.evaluator is not None and not _is_stored(item.evaluator):
            yield number, f"metric {item.result_name!r}", item.evaluator, item.params
    for part in ("model", "agent_proxy"):
        thing = getattr(config, part)
        if isinstance(thing, CodeConfig):
            if not _is_stored(thing.code):
                yield part, part, thing.code, thing.params
        elif part == "agent_proxy" and thing is not None:
            yield "agent_proxy", part, thing, {}
        elif isinstance(thing, Model) and not is_registered(thing):
            yield "model", part, thing, {}


def _is_stored(thing: Any) -> bool:
    return isinstance(thing, str) and StoredCode.parse(thing) is not None


class _Gathering:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_key: dict[Any, BundleDraft] = {}
        self.pieces: list[Piece] = []

    @property
    def drafts(self) -> list[BundleDraft]:
        return list(self._by_key.values())

    def add(self, part: Part, what: str, thing: Any, params: Mapping[str, Any]) -> None:
        """Note one part; its source is read at the end, when all that is needed of a script is known."""
        if isinstance(thing, str):
            draft, module, qualname = self._named(what, thing)
        elif (ref := _reference(thing)) is not None:
            draft, module, qualname = self._referred(*ref)
        else:
            self.pieces.append(Piece(part, self._object(what, part, thing), None, "", {}))
            return
        config = thing.config.public() if isinstance(thing, Model) else None
        self.pieces.append(Piece(part, draft, module, qualname, params, config))

    def _named(self, what: str, text: str) -> tuple[BundleDraft, str, str]:
        ref = named_ref(text, self._folder)
        if ref.file is None:
            return self._referred(str(ref.module), ref.qualname)
        path = Path(ref.file)
        if not path.is_file():
            raise ConfigError(f"{what}: there is no file {path}.")
        module = _module_name(path)
        draft = self._draft(("file", path), path.stem)
        draft.scripts[path] = module, None
        _check_defines(path, ref.qualname)
        return draft, module, ref.qualname

    def _referred(self, module: str, qualname: str) -> tuple[BundleDraft, str, str]:
        if module == "__main__":
            path, name = started_script()
            draft = self._draft(("script", path), path.stem)
            _, wanted = draft.scripts.setdefault(path, (name, set()))
            assert wanted is not None
            wanted.add(qualname.partition(".")[0])
            return draft, name, qualname
        top = module.partition(".")[0]
        found = find(top)
        draft = self._draft(("module", top), top)
        if found.where in ("project", "missing"):
            draft.sources.add_module(module)
            return draft, module, qualname
        # A package that was installed, or PromptLab's own: one line says where it is.
        entry = f"own_{re.sub(r'[^A-Za-z0-9_]', '_', module)}"
        first = qualname.partition(".")[0]
        draft.sources.files[f"{entry}.py"] = f"from {module} import {first}\n"
        draft.sources.add_import(module)
        return draft, entry, qualname

    def _object(self, what: str, part: Part, thing: Any) -> BundleDraft:
        name = what.removeprefix("metric ").strip("'\"") if isinstance(part, int) else _name_of(thing)
        draft = self._draft(("object", part), name)
        script: tuple[Path, str] | None
        try:
            script = started_script()
        except ConfigError:
            script = None
        draft.packed = pack(what, thing, script[1] if script else None)
        if draft.packed.script_names and script is not None:
            draft.scripts[script[0]] = script[1], set(draft.packed.script_names)
        for module in sorted(draft.packed.modules):
            draft.sources.add_import(module)
        return draft

    def _draft(self, key: Any, name: str) -> BundleDraft:
        if key not in self._by_key:
            plain = re.sub(r"[\s@#/\\]+", "_", name).strip("_")[:150] or "code"
            taken = {draft.name for draft in self._by_key.values()}
            numbers = (plain if n == 1 else f"{plain}-{n}" for n in range(1, len(taken) + 2))
            self._by_key[key] = BundleDraft(next(name for name in numbers if name not in taken))
        return self._by_key[key]

    def read(self) -> None:
        for draft in self.drafts:
            for path, (module, wanted) in draft.scripts.items():
                draft.sources.add_script(path, module, wanted)

    def add_file(self, given: str) -> None:
        """Take a file of text that the code reads, at the place where it finds it."""
        path = (self._folder / given).resolve()
        if not path.is_file():
            raise ConfigError(f"code.files: there is no file {given!r} (looked for {path}).")
        placed = False
        for draft in self.drafts:
            for root in draft.sources.roots:
                if root.resolve() in path.parents:
                    text = source_text(path)
                    check_no_key(given, text)
                    draft.sources.files[path.relative_to(root.resolve()).as_posix()] = text
                    placed = True
                    break
        if not placed:
            raise ConfigError(
                f"code.files: {given!r} is not below a folder that the code is imported from; put it beside "
                "the "
                "module that reads it."
            )


def started_script() -> tuple[Path, str]:
    """The script that this process runs, and the module that it is in a bundle.

    Raises:
        ConfigError: there is none: a notebook, or an interpreter.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None or not Path(file).is_file():
        raise ConfigError("there is no script: this is a notebook or an interpreter")
    path = Path(file).resolve()
    spec = getattr(main, "__spec__", None)
    return path, _module_name(path) if spec is None else spec.name.removesuffix(".__main__")


def _module_name(path: Path) -> str:
    """Return what a script is called as a module: its own name, unless that is another module's in the
    sandbox."""
    name = re.sub(r"\W", "_", path.stem)
    name = name if name.isidentifier() else f"_{name}"
    return (
        f"{name}_script"
        if name in sys.stdlib_module_names or find(name).where in ("own", "installed")
        else name
    )


def _reference(thing: Any) -> tuple[str, str] | None:
    """The module and the name that give a class, a function or a plain object of a class again; None for one
    with state of its own, and for what only this process has."""
    ref = code_ref(thing)
    if not ref.rebuildable or inspect.ismethod(thing) or _has_slots(thing):
        return None
    named = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    module = named.__module__
    try:
        if module == "__main__":
            started_script()
        home: Any = sys.modules[module]
        for part in ref.qualname.split("."):
            home = getattr(home, part)
    except (ConfigError, KeyError, AttributeError):
        return None
    return (module, ref.qualname) if inspect.unwrap(home) is inspect.unwrap(named) else None


def _has_slots(thing: Any) -> bool:
    """Whether an object keeps values where `__dict__` does not show them."""
    if inspect.isclass(thing) or inspect.isroutine(thing):
        return False
    slots = (getattr(cls, "__slots__", ()) for cls in type(thing).__mro__)
    names = (name for given in slots for name in ((given,) if isinstance(given, str) else given))
    return any(hasattr(thing, name) for name in names if name not in ("__dict__", "__weakref__"))


def _name_of(thing: Any) -> str:
    named = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    return str(named.__name__).strip("<>")


def _check_defines(path: Path, qualname: str) -> None:
    """Refuse a name that is nowhere in a file's text, before anything is sent."""
    if not re.search(rf"\b{re.escape(qualname.partition('.')[0])}\b", source_text(path)):
        raise ConfigError(
            f"{path}: there is no {qualname!r} in it. Write the name of a class or function that it defines."
        )


def remedy_for(missing: Sequence[str], names: Sequence[str]) -> str:
    """Say how packages that the lab lacks get there, with the versions that are installed here."""
    known = packages_distributions()
    pins = [f"{found[0]}=={version(found[0])}" for name in names if (found := known.get(name))]
    example = ", ".join(dict.fromkeys(pins)) or "name==version"
    return (
        f"The hosted lab does not have {', '.join(missing)}. Name what is missing in the experiment's "
        f"code.requirements, as in code: {{requirements: [{example}]}}, or with --requirement."
    )
