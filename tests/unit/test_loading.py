"""What is set aside from the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from promptlab.loading import setting_aside


class Ring:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def nothing_aside() -> Iterator[None]:
    """Nothing of other tests is set aside, nor of these afterwards."""
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_is_loaded_is_set_aside_until_the_block_ends() -> None:
    """A block that never asks for it changes nothing."""
    with setting_aside():
        assert gc.get_freeze_count() == 0
    with setting_aside() as set_aside:
        set_aside()
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_a_run_that_ends_leaves_aside_what_its_studio_set_aside() -> None:
    """And what the run left behind is collected: it does not stay for as long as the Studio."""
    with setting_aside() as of_studio:
        of_studio()
        with setting_aside() as of_run:
            left = weakref.ref(Ring())
            of_run()
            gc.collect()
            assert left() is not None
        assert left() is None
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
