"""Answers invocations of the sandbox: takes bundles and cases in, gives numbered answers out. It never runs
code of users; a confined child does, one at a time, which is ended where its bundle is not the one that is
asked for.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from promptlab.domain.code import CodeBundle
from promptlab.domain.media_in import MOST_GIVEN, MOST_MEDIUM, TOO_MUCH
from promptlab.domain.versioned import content_hash
from promptlab.engine.frames import LOADED
from promptlab.engine.sandbox.batch import Batch, Case
from promptlab.engine.sandbox.child import Child, GoneError, SandboxUnavailableError, Zygote
from promptlab.engine.sandbox.confine import Limits, protect
from promptlab.engine.sandbox.files import emptied
from promptlab.engine.sandbox.request import CODE, MOST_LIMIT_S, EventError, Request
from promptlab.errors import PromptLabError
from promptlab.outbound import Outbound

LOAD_S = 60.0
"""How long a bundle and its imports may take to load."""
RETIRE_S = 900.0
"""How old a child gets: what its code has piled up goes with it."""
MOST_BUNDLES = 8
"""Bundles that are kept, for invocations that only name one."""
BATCH_S = 0.05
"""How much work one message to a child brings, by what the cases took so far."""
MOST_CASES = 256
MOST_MADE = 64
"""Evaluators and models that one child has made, before another child begins anew."""
PRELOAD = ("promptlab.experiments.sandboxed", "promptlab.engine.sandbox.answers_code")
"""By name: the layer above this one knows how experiments make their objects."""
LIMITS = Limits()
_UNPACK = "promptlab.experiments.sandboxed:unpack"
_MAKE = "promptlab.experiments.sandboxed:make"


class CannotLoadError(Exception):
    """A bundle, or what is asked for of it, cannot be loaded; the message says why."""


class Guard:
    """A sandbox."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        limits: Limits = LIMITS,
        fetch: Callable[[str, int], bytes] | None = None,
        outbound: Outbound | None = None,
        preload: Sequence[str] = PRELOAD,
    ) -> None:
        """Start it, and make sure that a child can be confined.

        Args:
            folder: where children have their files; all that comes into it is removed between bundles. By
                default a new one, which goes with this object.
            limits: what a child may have at most.
            fetch: gets a package or a medium from an address, of at most so many bytes; without it there are
                none.
            outbound: which addresses code may reach; None for none at all.
            preload: modules that are loaded before the first child is there.

        Raises:
            SandboxUnavailableError: it cannot.
        """
        protect()
        self._own = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="promptlab-sandbox-"))
        # Whose they are, and whether they may be removed, is not known.
        self._there = frozenset(path.name for path in self._folder.iterdir())
        self._limits, self.fetch, self._outbound = limits, fetch, outbound
        self._bundles: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._child: Child | None = None
        self._turn = threading.Lock()
        self._whose: tuple[str, str] = ("", "")
        self._media: dict[str, bytes | str] = {}
        self._media_tenant = ""
        self._mean_s: dict[tuple[str, bytes], float] = {}
        self._preload, self.load_s = preload, LOAD_S
        self._zygote = Zygote(preload)
        try:
            self.held = self._begun().held
        except BaseException:
            self.close()
            raise
        self._end()

    def close(self) -> None:
        """End all processes, and remove the files."""
        self._end()
        self._zygote.close()
        if self._own:
            shutil.rmtree(self._folder, ignore_errors=True)

    def answer(self, event: Mapping[str, Any], *, left_s: float | None = None) -> dict[str, Any]:
        """Answer an invocation; `left_s` is the time that it has, in seconds.

        Raises:
            EventError: the invocation is wrong.
            SandboxUnavailableError: no code can be confined any more.
        """
        with self._turn:
            try:
                return self._answered(event, left_s)
            except SandboxUnavailableError:
                self.close()
                raise

    def _answered(self, event: Mapping[str, Any], left_s: float | None) -> dict[str, Any]:
        began = time.monotonic()
        request = Request.read(event)
        if (bundle := self._bundle(request)) is None:
            return {"need": "bundle"}
        own = MOST_LIMIT_S if left_s is None else left_s
        hard = began + min(own, request.left_s)
        batch = Batch(request)
        batch.whole_s = own
        try:
            while batch.left and (not batch.answers or time.monotonic() < began + request.budget_s):
                if batch.is_full or time.monotonic() >= hard:
                    break
                self._some(self._loaded(request, bundle), request, batch, hard)
        except CannotLoadError as error:
            return {"error": {"type": "cannot_load", "message": str(error)[:10_000]}}
        return {
            "answers": batch.given(),
            "cpu_s": round(batch.cpu_s, 6),
            "wall_s": round(time.monotonic() - began, 6),
        }

    def _bundle(self, request: Request) -> Mapping[str, Any] | None:
        """The content of a bundle: as it is given, or was before.

        Raises:
            EventError: it is not what its hash says.
        """
        name, content = request.bundle, request.content
        if content is None:
            if name in self._bundles:
                self._bundles.move_to_end(name)
            return self._bundles.get(name)
        if name not in self._bundles:
            try:
                CodeBundle.model_validate({"name": "code", **content})
            except (PromptLabError, ValueError, TypeError) as error:
                raise EventError(f"the bundle cannot be used: {str(error)[:2000]}") from None
            if content_hash(content) != name:
                raise EventError("the bundle is not what its hash says: send it again")
            self._bundles[name] = content
            while len(self._bundles) > MOST_BUNDLES:
                self._bundles.popitem(last=False)
        return self._bundles[name]

    def _loaded(self, request: Request, bundle: Mapping[str, Any]) -> Child:
        """A child that has made what is asked for.

        Raises:
            CannotLoadError: it cannot be made.
        """
        child = self._child
        if child is not None and not self._is_fit(child, request):
            self._end()
            child = None
        if child is None:
            child = self._begun()
            self._whose = request.whose
            wheels = self._wheels(child.folder, bundle, request.urls)
            self._load(child, request.metric, _UNPACK, orjson.dumps({"content": bundle, "wheels": wheels}))
        if request.recipe not in child.made:
            child.made[request.recipe] = self._load(child, request.metric, _MAKE, request.recipe)
        return child

    def _is_fit(self, child: Child, request: Request) -> bool:
        """Whether a child that is there may go on with what is asked for."""
        if (
            self._whose != request.whose
            or time.monotonic() - child.began > RETIRE_S
            or len(child.made) >= MOST_MADE
        ):
            return False
        try:
            return not child.leftovers()
        except GoneError:  # between two invocations: a thread that it left behind, or want of memory
            return False

    def _begun(self) -> Child:
        self._end()
        folder = Path(tempfile.mkdtemp(prefix="bundle-", dir=self._folder)).resolve()
        if self._zygote.is_gone:
            self._zygote.close()
            self._zygote = Zygote(self._preload)
        self._child = Child(self._zygote, folder, self._limits, self._outbound)
        return self._child

    def _end(self) -> None:
        """End the child, and remove all that it may have written."""
        if self._child is not None:
            if not self._child.ended:
                self._child.end()
            self._child = None
        if self._folder.exists():
            emptied(self._folder, self._there)

    def _load(self, child: Child, metric: str, function: str, argument: bytes) -> int:
        """Have a child make something; give its key.

        Raises:
            CannotLoadError: it cannot; it is ended then.
        """
        key = len(child.made) + 1 if function == _MAKE else 0
        child.send("load", key, metric, function, argument)
        until = time.monotonic() + self.load_s
        try:
            while (frame := child.next(until))[0] != LOADED:
                pass
            why = orjson.loads(frame[1])
        except TimeoutError:
            why = f"it is not loaded after {self.load_s:g} s"
        except GoneError as error:
            why = f"{error} while it was loaded"
        except ValueError:
            why = "its process answered with what is no JSON"
        if why:
            self._end()
            raise CannotLoadError(str(why))
        return key

    def _wheels(self, folder: Path, bundle: Mapping[str, Any], urls: Mapping[str, str]) -> list[str]:
        """Get the packages of a bundle; give the names of their files.

        Raises:
            CannotLoadError: one cannot be had, or is another.
        """
        names = []
        for wheel in bundle["wheels"]:
            name, url = wheel["file_name"], urls.get(wheel["sha256"])
            if self.fetch is None or url is None:
                raise CannotLoadError(f"its package {name} is not there: this sandbox gets no packages")
            try:
                data = self.fetch(url, wheel["size_bytes"])
            except OSError as error:
                raise CannotLoadError(f"its package {name} cannot be had: {error}") from error
            if hashlib.sha256(data).hexdigest() != wheel["sha256"]:
                raise CannotLoadError(
                    f"its package {name} is not the file that was sent: send the code again"
                )
            (folder / name).write_bytes(data)
            names.append(name)
        return names

    def _media_of(
        self, batch: Batch, sent: Sequence[Case], urls: Mapping[str, str]
    ) -> dict[str, bytes | str]:
        """Get the media of cases; of those that cannot be had what is wrong with them. What the last cases
        had is not got again: rows may share a picture."""
        found: dict[str, bytes | str] = {}
        room = MOST_GIVEN
        for sha256 in (sha256 for case in sent for sha256 in batch.media_of(case)):
            if sha256 not in found:
                kept = self._media.get(sha256) if sha256 in urls else None
                one = kept if isinstance(kept, bytes) else self._medium(sha256, urls, room)
                room -= len(one) if isinstance(one, bytes) else 0
                found[sha256] = one
        return found

    def _medium(self, sha256: str, urls: Mapping[str, str], room: int) -> bytes | str:
        if self.fetch is None or (url := urls.get(sha256)) is None:
            return "is not there: this sandbox gets no media"
        most = min(MOST_MEDIUM, room)
        try:
            data = self.fetch(url, most)
        except (OSError, PromptLabError) as error:
            return f"cannot be had: {error}"
        if len(data) > most:
            return TOO_MUCH
        if hashlib.sha256(data).hexdigest() != sha256:
            return "is not the file that the row names"
        return data

    def _some(self, child: Child, request: Request, batch: Batch, hard: float) -> None:
        """Have some more cases answered."""
        kind = request.bundle, request.recipe
        alone = batch.strange or request.role == CODE
        many = 1 if alone else int(BATCH_S / max(self._mean_s.get(kind, BATCH_S), 1e-7))
        sent = batch.take(min(MOST_CASES, max(1, many)))
        if request.tenant != self._media_tenant:  # who knows the hash of another's file has not the file
            self._media, self._media_tenant = {}, request.tenant
        self._media = self._media_of(batch, sent, request.urls)
        began = time.monotonic()
        try:
            batch.run(child, child.made[request.recipe], sent, hard, self._media)
        except GoneError:
            self._end()
        if request.role == CODE:  # what the code of one answer leaves behind is met by no other's
            self._end()
        mean_s = (time.monotonic() - began) / len(sent)
        self._mean_s[kind] = (self._mean_s.get(kind, mean_s) + mean_s) / 2
        if len(self._mean_s) > MOST_MADE:
            self._mean_s.clear()
