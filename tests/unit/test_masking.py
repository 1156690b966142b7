"""Keys in whatever form they come back: none is recorded, and nothing else is changed."""

from __future__ import annotations

import json
import random
import string

import pytest

from promptlab.domain.masking import HIDDEN, KnownKeys, hidden, hide_text, remember, remember_environment
from promptlab.domain.results import Completion, Failure, Score, ScoreSet, described
from promptlab.engine.keyless import without_keys
from tests.canary import FORMS, KEY, b64, shown


@pytest.fixture(autouse=True)
def _known() -> None:
    remember(KEY)


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_hidden_in_every_form(form: str) -> None:
    """Whatever stands around it stays where it can be told apart."""
    text = f"before {FORMS[form]} after"
    clean = hide_text(text)
    assert clean != text and not shown(clean) and HIDDEN in clean
    assert clean == HIDDEN or (clean.startswith("before ") and clean.endswith(" after"))
    if "escaped" in form:
        assert json.loads(f'"{clean}"') and KEY not in json.loads(f'"{clean}"')


def test_a_key_in_several_texts_of_a_case_is_hidden() -> None:
    """An endpoint may send it in pieces, none of which would say anything by itself."""
    pieces = [KEY[at : at + 6] for at in range(0, len(KEY), 6)]
    found = without_keys(
        Completion(shard=0, case=0, trial=0, response=pieces[0], metadata=dict(enumerate(pieces[1:])))  # type: ignore[arg-type]
    )
    assert not shown(f"{found.response}{found.metadata}")
    kept = ScoreSet(
        shard=0, case=0, trial=0, scores={"m": Score(value=1.0, reason=b64(KEY), metadata={"a": [KEY]})}
    )
    assert not shown(str(without_keys(kept)))
    assert without_keys(kept).scores["m"].value == 1.0
    error = Completion(shard=0, case=0, trial=0, error=Failure("Odd", f"no: {KEY}"))
    assert without_keys(error).error == Failure("Odd", "no: ***")


def test_what_holds_no_key_is_the_very_same() -> None:
    """Also texts about keys, and long ones."""
    chance = random.Random(1)
    letters = string.ascii_letters + string.digits + " .,-_/+%\\\"'{}[]"
    for length in (0, 1, 10, 1000, 100_000):
        text = "".join(chance.choice(letters) for _ in range(length)) + "é%20\\u00e9 sk-proj- OPENAI_API_KEY"
        assert hide_text(text) is text
    value = {"a": ["x", 1, None, {"b": 2.5}], "sk-proj-": "100%"}
    assert hidden(value) is value
    one = Completion(
        shard=0, case=0, trial=0, response="sk-proj-… is how keys begin", metadata={"model": "m"}
    )
    assert without_keys(one) is one


def test_words_that_a_key_is_made_of_stay() -> None:
    """A key of words is hidden as a whole only."""
    known = KnownKeys()
    known.add("local-development-key-for-everybody")
    assert (
        known.hide("a key for local development, for everybody")
        == "a key for local development, for everybody"
    )
    assert known.hide("it is local-development-key-for-everybody.") == "it is ***."


def test_an_error_of_own_code_says_no_key_of_the_environment() -> None:
    """Also where its message is cut in the middle of one; a word that is a password stays."""
    secret = "pw-Xk29vvQzLm83TyRw71Bd"
    remember_environment(
        {"DB_PASSWORD": secret, "OTHER_PASSWORD": "postgres", "PATH_KEY": "/usr/bin:/usr/local/bin1"}
    )
    assert secret not in described(ValueError(f"cannot log in: {secret}"))
    assert "Xk29vvQzLm" not in described(ValueError("x" * 1974 + secret))
    assert described(ValueError("postgres is down")) == "ValueError: postgres is down"


def test_what_is_too_short_or_stands_for_a_key_is_no_secret() -> None:
    """Hiding it would make answers unreadable."""
    known = KnownKeys()
    for word in ("ok", "none", "EMPTY"):
        known.add(word)
    assert known.hide("ok: none is EMPTY") == "ok: none is EMPTY"
    known.add("k3y")
    assert known.hide("a k3y of three") == f"a {HIDDEN} of three"
