"""The labels of people as records of every ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from promptlab.domain.labels import CaseLabel
from promptlab.domain.results import CaseKey
from promptlab.labels import CaseLabels
from promptlab.ports import Ledger


def label(case: int, rater: str = "zoe", trial: int = 0, **said: object) -> CaseLabel:
    fields = {"passed": True, "at": "2026-11-26T09:00:00Z", **said}
    return CaseLabel(case=case, trial=trial, rater=rater, **fields)  # type: ignore[arg-type]


async def places(labels: CaseLabels, run_id: str) -> list[tuple[int, int, str]]:
    return [(one.case, one.trial, one.rater) for one in await labels.of(run_id)]


async def test_labels_of_a_run_are_a_range_in_the_order_of_its_cases(ledger: Ledger) -> None:
    """More than one change at once; pages divide no case; another run's are not among them."""
    labels = CaseLabels(ledger)
    assert not await labels.has_any("one")
    assert await labels.put("one", [label(n, rater) for n in range(60) for rater in ("zoe", "bob")]) == 120
    assert await labels.put("one-more", [label(3), label(12, trial=1)]) == 2
    found = await places(labels, "one")
    assert [case for case, _, _ in found] == sorted([*range(60), *range(60)])
    page, following = await labels.page("one", limit=7)
    assert ([one.case for one in page], following) == ([0, 0, 1, 1, 2, 2, 3, 3], CaseKey(3, 0))
    page, following = await labels.page("one", after=CaseKey(3, 0), limit=200)
    assert (page[0].case, len(page), following) == (4, 112, None)
    assert await places(labels, "one-more") == [(3, 0, "zoe"), (12, 1, "zoe")]
    assert {one.rater for one in await labels.at("one", CaseKey(5, 0))} == {"zoe", "bob"}
    await labels.forget("one")
    assert not await labels.has_any("one") and await labels.has_any("one-more")


async def test_what_a_rater_said_before_is_kept_and_two_who_label_at_once_lose_nothing(
    open_ledger: Callable[[], Ledger],
) -> None:
    """Each from a process of its own."""
    one, two = CaseLabels(open_ledger()), CaseLabels(open_ledger())
    assert await one.put("run", [label(0, note="first")]) == 1
    assert await one.put("run", [label(0, note="first")]) == 0
    changes = [
        labels.put("run", [label(0, note=f"{name}{n}")])
        for n in range(4)
        for name, labels in (("a", one), ("b", two))
    ]
    assert sum(await asyncio.gather(*changes)) == 8
    (kept,) = await two.of("run")
    notes = [said["note"] for said in kept.history] + [kept.note]
    assert notes[0] == "first" and sorted(notes[1:]) == sorted(
        f"{name}{n}" for n in range(4) for name in "ab"
    )


async def test_a_raters_labels_are_removed_or_get_another_name(ledger: Ledger) -> None:
    """In one run or in all; whoever entered a label for them is renamed, too."""
    labels = CaseLabels(ledger)
    for run_id in ("one", "two"):
        await labels.put(run_id, [label(0), label(1), label(1, "bob", by="zoe")])
    assert await labels.remove("one", label(0)) and not await labels.remove("one", label(0))
    assert await labels.rename_rater("zoe", "nobody", "deleted person") == 5
    found = [one for run_id in ("one", "two") for one in await labels.of(run_id)]
    assert {(one.rater, one.rater_name, one.by) for one in found} == {
        ("nobody", "deleted person", ""),
        ("bob", "", "nobody"),
    }
    assert await labels.forget_rater("nobody", "one") == 1
    assert await labels.forget_rater("nobody") == 2
    assert await places(labels, "two") == [(1, 0, "bob")]
