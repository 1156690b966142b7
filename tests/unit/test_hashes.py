"""The hashes of all that is installed, and the pins that they are of."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "infra"))
import audit  # noqa: E402

sys.path.pop(0)


@pytest.mark.parametrize("requirements", audit.requirement_files(), ids=audit.hash_file)
def test_every_pin_has_its_hashes(requirements: Path) -> None:
    """Of that very version; after a change of a pin: make audit UPDATE=1."""
    found = audit.hashes(audit.hash_file(requirements))
    assert found.keys() == {f"{name}=={version}" for name, version in audit.pins(requirements).items()}
    assert all(found.values())


def test_no_file_of_hashes_names_an_index() -> None:
    """Where packages come from is for each machine to say."""
    for path in audit.HASHES.iterdir():
        assert re.findall(r"^-|://", path.read_text(), flags=re.M) == [], path.name


def test_a_pin_is_read_whatever_stands_around_it(tmp_path: Path) -> None:
    """Comments, other files, the repository itself, and two spellings of a name."""
    (tmp_path / "base.txt").write_text("Typing_Extensions==4.16.0\n")
    (tmp_path / "more.txt").write_text("# why\n-r base.txt\n.\nmoto==5.2.5\n")
    assert audit.pins(tmp_path / "more.txt") == {"typing-extensions": "4.16.0", "moto": "5.2.5"}


def test_what_the_index_has_no_longer_is_told(tmp_path: Path) -> None:
    """A file that was replaced or removed; one more file is none of our business; other pins are."""
    requirements, kept, now = tmp_path / "requirements.txt", tmp_path / "hashes", tmp_path / "now.txt"
    kept.mkdir()
    requirements.write_text("a==1\n")

    def found() -> list[str]:
        return list(audit.check_hashes(requirements, tmp_path, root=tmp_path, ask=lambda *_: now))

    assert found() == ["hashes/requirements.txt is not there: make audit UPDATE=1"]
    one, two = ("a==1 --hash=sha256:" + digit * 64 for digit in "12")
    for mine, theirs, said in (
        (one, one, None),
        (one, one + two.removeprefix("a==1"), None),
        (one, two, "the index has other files of a==1 than it had"),
        (one, one.replace("a==1", "a==2"), "is of other pins than requirements.txt"),
    ):
        (kept / "requirements.txt").write_text(mine + "\n")
        now.write_text(theirs + "\n")
        assert found() == [] if said is None else said in found()[0]
