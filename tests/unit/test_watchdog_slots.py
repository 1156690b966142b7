"""The calls of users' code that are watched over, as the watching process sees them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from promptlab import Model, ModelResponse, get_model
from promptlab.domain.results import CaseKey
from promptlab.engine.infer import watching
from promptlab.engine.watchdog import Watchdog, watchdog
from promptlab.engine.watchdog_child import SLOT, SLOTS


@pytest.fixture
def dog() -> Iterator[Watchdog]:
    dog = Watchdog()
    yield dog
    dog.close()


def under_way(dog: Watchdog) -> list[tuple[float, str]]:
    """Read the time limit and the name of each call that is written down, by name."""
    assert dog._slots is not None
    slots = (SLOT.unpack_from(dog._slots, number * SLOT.size) for number in range(SLOTS))
    return sorted((limit_s, name.rstrip(b"\0").decode()) for since, limit_s, name in slots if since)


def test_a_call_is_written_down_while_it_is_under_way(dog: Watchdog) -> None:
    """With its name, its limit and since when; nothing of it is left, however it ends."""
    before = time.monotonic()
    with dog.watched("mine (row 3)", 60.0), contextlib.suppress(ValueError), dog.watched("größe", 1.5):
        assert under_way(dog) == [(1.5, "größe"), (60.0, "mine (row 3)")]
        since = [SLOT.unpack_from(dog._slots or b"", number * SLOT.size)[0] for number in range(SLOTS)]
        assert all(before <= at <= time.monotonic() for at in since if at)
        raise ValueError
    assert under_way(dog) == []
    with dog.watched("x" * 200, 1.0):
        assert under_way(dog) == [(1.0, "x" * 112)]


class Mine(Model):
    """A model of a user's own."""

    def invoke(self, system_prompt: str, user_prompt: str) -> ModelResponse:
        return ModelResponse("x")


def test_calls_that_run_code_of_users_are_watched() -> None:
    """With the row that they are of, and the model's time limit; calls of providers' models are not."""
    mine = Mine({"name": "custom/mine", "timeout_s": 7})
    with watching(mine, CaseKey(4, 0)), watching(get_model("simulated/echo"), CaseKey(5, 0)):
        assert under_way(watchdog) == [(7.0, "custom/mine (row 4)")]


def test_the_first_512_calls_are_watched(dog: Watchdog) -> None:
    """The others go on all the same, and places are used again."""
    for _ in range(2):
        with contextlib.ExitStack() as stack:
            for number in range(SLOTS + 3):
                stack.enter_context(dog.watched(str(number), 1.0))
            assert len(under_way(dog)) == SLOTS == 512
        assert under_way(dog) == []


def test_one_process_watches_and_ends_when_it_is_told_to(dog: Watchdog) -> None:
    """Its heartbeat, too; nobody watches before the first call."""
    assert dog._watcher is None
    for _ in range(2):
        with dog.watched("a", 1.0):
            watcher = dog._watcher
            assert watcher is not None and watcher.poll() is None
    assert dog._watcher is watcher
    beats = {thread for thread in threading.enumerate() if thread.name == "promptlab-beat"}
    dog.close()
    assert watcher.returncode == 0
    for _ in range(5_000):
        if {thread for thread in beats if thread.is_alive()} < beats:
            return
        time.sleep(0.02)
    pytest.fail("its heart goes on")


def test_a_forked_child_has_a_watcher_of_its_own(dog: Watchdog) -> None:
    """That of its parent is left alone."""
    with dog.watched("a", 1.0):
        first, slots = dog._watcher, dog._slots
        dog.forget()
        assert (dog._watcher, dog._slots) == (None, None)
        with dog.watched("b", 1.0):
            assert under_way(dog) == [(1.0, "b")]
            assert dog._watcher is not first and dog._slots is not slots
    assert first is not None and first.poll() is None and first.stdin is not None
    first.stdin.close()
    assert first.wait() == 0


def test_where_no_process_can_be_started_calls_are_made_all_the_same() -> None:
    """Unwatched."""
    dog = Watchdog("/no/such/python")
    with dog.watched("a", 1.0):
        assert (dog._slots, dog._watcher) == (None, None)
    dog.close()
