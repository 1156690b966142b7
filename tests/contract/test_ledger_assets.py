"""The contract of Ledger: versioned assets and their labels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from promptlab.domain.asset_checks import read_asset
from promptlab.domain.assets import KINDS, AssetKind, AssetVersion
from promptlab.domain.code import CodeBundle, Wheel
from promptlab.errors import AssetNotFoundError, VersionTakenError
from promptlab.ports import Ledger
from tests.contract.builders import asset


async def test_a_version_comes_back_as_it_was_added(ledger: Ledger) -> None:
    """Every field survives."""
    added = asset(
        content={
            "rows": 3,
            "ratio": 0.1,
            "tiny": 1e-300,
            "none": None,
            "list": [1, "ü", {"deep": True}],
            "empty": {},
        }
    )
    await ledger.add_asset(added)
    assert await ledger.get_asset("prompt_template", "qa", 0) == added


async def test_what_was_never_added_is_none_or_empty(ledger: Ledger) -> None:
    """An empty ledger answers every question about assets."""
    assert await ledger.get_asset("dataset", "qa") is None
    assert await ledger.get_asset("dataset", "qa", 0) is None
    assert await ledger.get_label("dataset", "qa", "production") is None
    assert await ledger.list_assets("dataset") == []
    assert await ledger.list_versions("dataset", "qa") == []


async def test_the_latest_version_is_the_one_with_the_highest_number(ledger: Ledger) -> None:
    """Numbers are compared as numbers, whatever the order of writing."""
    for version in (10, 2, 9, 11, 0):
        await ledger.add_asset(asset(version=version))
    latest = await ledger.get_asset("prompt_template", "qa")
    assert latest is not None and latest.version == 11
    assert [a.version for a in await ledger.list_versions("prompt_template", "qa")] == [0, 2, 9, 10, 11]


async def test_a_version_that_is_not_there_is_none(ledger: Ledger) -> None:
    """No other version stands in for it."""
    await ledger.add_asset(asset(version=0))
    assert await ledger.get_asset("prompt_template", "qa", 1) is None


async def test_a_version_can_be_added_only_once(ledger: Ledger) -> None:
    """The second writer is told, and the first one's content stays."""
    await ledger.add_asset(asset(description="first"))
    with pytest.raises(VersionTakenError):
        await ledger.add_asset(asset(description="second"))
    found = await ledger.get_asset("prompt_template", "qa")
    assert found is not None and found.description == "first"


async def test_of_concurrent_writers_of_a_version_exactly_one_wins(open_ledger: Callable[[], Ledger]) -> None:
    """The one that was not told otherwise is the one that is recorded."""
    ledgers = [open_ledger() for _ in range(3)]
    writes = [ledgers[i % 3].add_asset(asset(description=str(i))) for i in range(12)]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    winners = [i for i, outcome in enumerate(outcomes) if outcome is None]
    assert len(winners) == 1
    assert all(
        isinstance(outcome, VersionTakenError) for i, outcome in enumerate(outcomes) if i not in winners
    )
    found = await ledgers[0].get_asset("prompt_template", "qa")
    assert found is not None and found.description == str(winners[0])


async def test_kinds_and_names_are_apart(ledger: Ledger) -> None:
    """The same name in another kind, in other letters, or as the beginning of another is another asset."""
    await ledger.add_asset(asset("qa", 3))
    others: list[tuple[AssetKind, str]] = [
        ("dataset", "qa"),
        ("code", "qa"),
        ("prompt_template", "QA"),
        ("prompt_template", "qa2"),
        ("prompt_template", "q"),
    ]
    for kind, name in others:
        assert await ledger.get_asset(kind, name) is None
        assert await ledger.list_versions(kind, name) == []


async def test_assets_are_listed_by_name_with_their_latest_version(ledger: Ledger) -> None:
    """One entry an asset, of the asked kind only."""
    for name, version in (("zebra", 0), ("apple", 0), ("apple", 1), ("Über", 0), ("Zoo", 0)):
        await ledger.add_asset(asset(name, version))
    await ledger.add_asset(asset("questions", 0, kind="dataset"))
    listed = await ledger.list_assets("prompt_template")
    assert [(a.name, a.version) for a in listed] == [("Zoo", 0), ("apple", 1), ("zebra", 0), ("Über", 0)]
    assert [a.name for a in await ledger.list_assets("dataset")] == ["questions"]


async def test_labels_of_an_added_asset_are_ignored(ledger: Ledger) -> None:
    """Only set_label labels."""
    await ledger.add_asset(asset(labels=("production",)))
    found = await ledger.get_asset("prompt_template", "qa")
    assert found is not None and found.labels == ()
    assert await ledger.get_label("prompt_template", "qa", "production") is None


async def test_a_label_is_read_with_its_version_everywhere(ledger: Ledger) -> None:
    """One version may have several labels."""
    await ledger.add_asset(asset(version=0))
    await ledger.add_asset(asset(version=1))
    for label, version in (("production", 1), ("best", 1), ("old", 0)):
        await ledger.set_label("prompt_template", "qa", label, version)
    labelled = replace(asset(version=1), labels=("best", "production"))
    assert await ledger.get_label("prompt_template", "qa", "production") == 1
    assert [_sorted(a) for a in await ledger.list_assets("prompt_template")] == [labelled]
    assert [_sorted(a) for a in await ledger.list_versions("prompt_template", "qa")] == [
        replace(asset(version=0), labels=("old",)),
        labelled,
    ]
    for found in (
        await ledger.get_asset("prompt_template", "qa"),
        await ledger.get_asset("prompt_template", "qa", 1),
    ):
        assert found is not None and _sorted(found) == labelled


def _sorted(found: AssetVersion) -> AssetVersion:
    return replace(found, labels=tuple(sorted(found.labels)))


async def test_a_label_leaves_the_version_that_it_pointed_at(ledger: Ledger) -> None:
    """A label is on one version at a time; setting it twice is fine."""
    for version in (0, 1):
        await ledger.add_asset(asset(version=version))
    for version in (0, 1, 1):
        await ledger.set_label("prompt_template", "qa", "production", version)
    assert [a.labels for a in await ledger.list_versions("prompt_template", "qa")] == [(), ("production",)]
    assert await ledger.get_label("prompt_template", "qa", "production") == 1
    await ledger.set_label("prompt_template", "qa", "production", 0)
    assert await ledger.get_label("prompt_template", "qa", "production") == 0


async def test_a_label_needs_a_version_that_is_there(ledger: Ledger) -> None:
    """Neither a missing version nor a missing asset can be labelled, and the label stays where it was."""
    await ledger.add_asset(asset(version=0))
    await ledger.set_label("prompt_template", "qa", "production", 0)
    for name, version in (("qa", 1), ("other", 0)):
        with pytest.raises(AssetNotFoundError):
            await ledger.set_label("prompt_template", name, "production", version)
    assert await ledger.get_label("prompt_template", "qa", "production") == 0


async def test_the_same_label_on_two_assets_is_two_labels(ledger: Ledger) -> None:
    """Labels belong to a kind and a name."""
    await ledger.add_asset(asset("qa", 0))
    await ledger.add_asset(asset("qa", 0, kind="dataset"))
    await ledger.add_asset(asset("qa", 1, kind="dataset"))
    await ledger.set_label("prompt_template", "qa", "production", 0)
    await ledger.set_label("dataset", "qa", "production", 1)
    assert await ledger.get_label("prompt_template", "qa", "production") == 0
    assert await ledger.get_label("dataset", "qa", "production") == 1


async def test_a_long_prompt_survives(ledger: Ledger) -> None:
    """300 KB of text in one version."""
    added = asset("名前 with spaces (ü) 🙂", content={"user_prompt": "long " * 60_000})
    await ledger.add_asset(added)
    assert await ledger.get_asset("prompt_template", added.name) == added


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_is_kept_listed_and_labelled(ledger: Ledger, kind: AssetKind) -> None:
    """Whatever an asset is, its versions and labels are there."""
    added = [asset("mine", version, kind=kind) for version in (0, 1)]
    for one in added:
        await ledger.add_asset(one)
    await ledger.set_label(kind, "mine", "production", 0)
    assert await ledger.list_versions(kind, "mine") == [replace(added[0], labels=("production",)), added[1]]
    assert await ledger.list_assets(kind) == [added[1]]
    assert await ledger.delete_label(kind, "mine", "production")


async def test_code_comes_back_without_its_text(ledger: Ledger) -> None:
    """A ledger's record says what a bundle has in it; its text is a blob."""
    wheel = Wheel(file_name="rouge-1.0-py3-none-any.whl", sha256="a" * 64, size_bytes=1234)
    bundle = CodeBundle(
        name="scoring",
        files={"scoring/__init__.py": "", "scoring/rules.py": "LIMIT = 3  # ü\n"},
        pickled="gAVLAS4=",
        requirements=("rouge==1.0",),
        wheels=(wheel,),
    )
    record = asset("scoring", kind="code", content=bundle.described().to_json(), hash=bundle.content_hash())
    await ledger.add_asset(record)
    stored = await ledger.get_asset("code", "scoring")
    assert stored is not None
    found = read_asset(stored)
    assert isinstance(found, CodeBundle) and found.contents is not None
    assert [(file.path, file.bytes) for file in found.contents.files] == [
        ("scoring/__init__.py", 0),
        ("scoring/rules.py", 16),
    ]
    assert found.contents.pickled_bytes == 5
    assert (found.requirements, found.wheels, found.files) == (("rouge==1.0",), (wheel,), {})
    assert found.hash == bundle.content_hash() and found.with_text(bundle.content()).files == bundle.files


async def test_a_deleted_version_is_gone_with_its_labels(open_ledger: Callable[[], Ledger]) -> None:
    """The others stay; an asset without versions is in no list; a version that is added again is."""
    ledger = open_ledger()
    for version in range(3):
        await ledger.add_asset(asset(version=version, description="x" * 300_000))
    await ledger.add_asset(asset("other"))
    await ledger.set_label("prompt_template", "qa", "old", 2)
    await ledger.set_label("prompt_template", "qa", "kept", 1)
    for _ in range(2):
        await ledger.delete_asset("prompt_template", "qa", 2)
    assert await ledger.get_asset("prompt_template", "qa", 2) is None
    latest = await open_ledger().get_asset("prompt_template", "qa")
    assert latest is not None and (latest.version, latest.labels) == (1, ("kept",))
    assert await ledger.get_label("prompt_template", "qa", "old") is None
    assert [a.version for a in await ledger.list_versions("prompt_template", "qa")] == [0, 1]
    for version in (0, 1):
        await ledger.delete_asset("prompt_template", "qa", version)
    assert [a.name for a in await ledger.list_assets("prompt_template")] == ["other"]
    await ledger.add_asset(asset(version=3))
    assert [a.name for a in await ledger.list_assets("prompt_template")] == ["other", "qa"]
