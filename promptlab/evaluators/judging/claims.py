"""Judges that count: a text is taken apart, each piece gets a verdict, and the share that holds counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from promptlab.evaluators.judging.asking import Asked, Judgement, Question
from promptlab.evaluators.judging.base import Judge, Vote
from promptlab.evaluators.judging.forms import (
    MOST_NUMBERED,
    NUMBER,
    TEXT,
    UnreadableError,
    items_form,
    one_of,
)
from promptlab.evaluators.judging.texts import chunks_of, folded, shown, transcript
from promptlab.evaluators.text import STRICT, response_of, text_of

MOST_KEPT = 60
"""Pieces with their verdicts that a score keeps."""
MOST_PIECE = 300
"""Characters of a piece, or of a quote, that it keeps."""
NAMES: Mapping[str, str] = {
    "query": "question",
    "input": "question",
    "output": "response",
    "context": "contexts",
    "retrieved_contexts": "contexts",
    "expected": "reference",
    "ground_truth": "reference",
}
_CLAIM = (
    "A claim is one statement that can be true or false by itself, with what its pronouns stand for written "
    "out. Greetings, questions, advice and remarks about the text itself are no claims."
)


def _share(good: int, pieces: int) -> float | None:
    return good / pieces if pieces else None


def _kept(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    cut = [
        {name: value[:MOST_PIECE] if isinstance(value, str) else value for name, value in item.items()}
        for item in items[:MOST_KEPT]
    ]
    return {"pieces": cut} | ({"more": len(items) - MOST_KEPT} if len(items) > MOST_KEPT else {})


def _told(items: Sequence[Mapping[str, Any]], good: str) -> str:
    """The verdicts that are not as good, or that all are."""
    bad = [item for item in items if item["verdict"] != good]
    head = f"{len(items) - len(bad)} of {len(items)} {good}"
    lines = [f"{item['verdict']}: {str(item.get('text', item.get('number')))[:200]}" for item in bad[:10]]
    return "\n".join([head, *lines])


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Faithfulness(Judge):
    """The share of the response's claims that the contexts support, each with a quote."""

    inputs = {"response": "$inference", "contexts": None}
    any_inputs: ClassVar[bool] = False
    renamed_inputs: ClassVar = NAMES

    check_quotes: bool = Field(
        True,
        description="Whether a claim counts as supported only if its quote stands in the contexts: the same "
        "words in the same order, whatever their case and punctuation.",
    )

    async def judged(self, asked: Asked, repeat: int, data: dict[str, Any]) -> Vote:
        """Judge a case once."""
        contexts = chunks_of(data.get("contexts"))
        response = response_of(data)
        if not response.strip():
            return Vote({"": None}, "the response is empty", [await _nothing(asked)], "no claims")
        question = Question(
            f"Take the RESPONSE apart into its claims, and look up each in the CONTEXTS. {_CLAIM}\n"
            "supported: the contexts state it, or it follows from what they state. contradicted: they state "
            "the opposite. unsupported: they say nothing of it, however true it may be. Quote, word for word "
            "and as short as will do, the passage that decides; an empty text where there is none. Without "
            "any claim the list is empty.",
            [*((f"contexts {n}", text) for n, text in enumerate(contexts, 1)), ("response", response)],
            items_form(
                {"text": TEXT, "quote": TEXT, "verdict": one_of("supported", "contradicted", "unsupported")}
            ),
        )
        made = await asked.ask(question, repeat)
        items = [dict(item) for item in made.found["items"]]
        if self.check_quotes:
            there = [f" {folded(text)} " for text in contexts]
            for item in items:
                words = folded(item["quote"])
                found = bool(words) and any(f" {words} " in text for text in there)
                if item["verdict"] == "supported" and not found:
                    item |= {"verdict": "unsupported", "note": "its quote is not in the contexts"}
        good = sum(item["verdict"] == "supported" for item in items)
        return Vote(
            {"": _share(good, len(items))}, _told(items, "supported"), [made], "no claims", _kept(items)
        )


async def _nothing(asked: Asked) -> Judgement:
    """The judgement of what needs none."""
    model = asked.model.config
    return Judgement(found={}, fingerprint="0" * 16, judge=model.name, version=model.model_id)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class AnswerRelevance(Judge):
    """The share of the response's statements that help to answer the question."""

    inputs = {"question": None, "response": "$inference"}
    renamed_inputs: ClassVar = NAMES

    async def judged(self, asked: Asked, repeat: int, data: dict[str, Any]) -> Vote:
        """Judge a case once."""
        question = Question(
            "Take the RESPONSE apart into its statements: one thing said each, advice and refusals too. "
            "relevant: it answers the QUESTION, a part of it, or says what the asker needs for the answer. "
            "irrelevant: it does not, though it may be true and on the subject. A statement that nothing is "
            "known, or that no answer is given, is irrelevant, unless nothing can be known. Whether a "
            "statement is true does not count.",
            [("question", text_of(data.get("question"), "question")), ("response", response_of(data))],
            items_form({"text": TEXT, "reasoning": TEXT, "verdict": one_of("relevant", "irrelevant")}),
        )
        made = await asked.ask(question, repeat)
        items = made.found["items"]
        good = sum(item["verdict"] == "relevant" for item in items)
        value = _share(good, len(items))
        return Vote(
            {"": 0.0 if value is None else value}, _told(items, "relevant"), [made], None, _kept(items)
        )


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class ContextPrecision(Judge):
    """How near the top the useful ones of the retrieved contexts are (average precision)."""

    inputs = {"question": None, "contexts": None, "reference": None}
    renamed_inputs: ClassVar = NAMES

    async def judged(self, asked: Asked, repeat: int, data: dict[str, Any]) -> Vote:
        """Judge a case once: all contexts in one call, each by its number."""
        contexts = chunks_of(data.get("contexts"))
        if len(contexts) > MOST_NUMBERED:
            raise ValueError(f"contexts has {len(contexts):,} items; at most {MOST_NUMBERED} are judged")
        if not contexts:
            return Vote({"": None}, "there are no contexts", [await _nothing(asked)], "no contexts")
        question = Question(
            "A search found the CONTEXTS for the QUESTION; the REFERENCE is a right answer to it. Judge "
            "every context by itself, in the order of their numbers, each number once. useful: it holds "
            "something that the reference states or that one needs to arrive at it. useless: it does not.",
            [
                ("question", text_of(data.get("question"), "question")),
                ("reference", text_of(data.get("reference"), "reference")),
                *((f"contexts {n}", text) for n, text in enumerate(contexts, 1)),
            ],
            items_form({"number": NUMBER, "reasoning": TEXT, "verdict": one_of("useful", "useless")}),
        )
        made = await asked.ask(question, repeat)
        verdicts = {item["number"]: item["verdict"] == "useful" for item in made.found["items"]}
        if verdicts.keys() != set(range(1, len(contexts) + 1)):
            raise UnreadableError(
                f"the judge {asked.model.name} judged {len(verdicts)} of {len(contexts)} contexts"
            )
        useful = [verdicts[number] for number in range(1, len(contexts) + 1)]
        return Vote(
            {"": average_precision(useful)},
            _told(made.found["items"], "useful"),
            [made],
            None,
            _kept(made.found["items"]),
        )


def average_precision(useful: Sequence[bool]) -> float:
    """Σₖ P@k·vₖ ÷ Σ vₖ, where vₖ says whether the k-th is useful; 0 where none is."""
    hits, total = 0, 0.0
    for k, one in enumerate(useful, 1):
        hits += one
        total += one * hits / k
    return total / hits if hits else 0.0


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class ContextRecall(Judge):
    """The share of the reference's claims that the retrieved contexts state."""

    inputs = {"contexts": None, "reference": None}
    renamed_inputs: ClassVar = NAMES

    async def judged(self, asked: Asked, repeat: int, data: dict[str, Any]) -> Vote:
        """Judge a case once."""
        question = covered(
            ("reference", text_of(data.get("reference"), "reference")),
            [(f"contexts {n}", text) for n, text in enumerate(chunks_of(data.get("contexts")), 1)],
        )
        made = await asked.ask(question, repeat)
        items = made.found["items"]
        value = _share(sum(item["verdict"] == "stated" for item in items), len(items))
        return Vote({"": value}, _told(items, "stated"), [made], "no claims", _kept(items))


def covered(of: tuple[str, str], by: Sequence[tuple[str, str]], subject: str = "claims") -> Question:
    """Ask for a text's claims, and which of these another text states."""
    names = " and ".join(dict.fromkeys(name.split(" ")[0].upper() for name, _ in by))
    what = (
        f"Take {of[0].upper()} apart into its claims. {_CLAIM}"
        if subject == "claims"
        else f"List the key points of {of[0].upper()}: what a reader without time must know, ten at most."
    )
    return Question(
        f"{what}\nThen look up each of them in {names}. stated: it is stated there, in whatever words, or "
        "follows from what is. contradicted: the opposite is stated. missing: nothing is said of it. Without "
        "any the list is empty.",
        [of, *by],
        items_form({"text": TEXT, "reasoning": TEXT, "verdict": one_of("stated", "contradicted", "missing")}),
    )


def _of(made: Judgement) -> str:
    return "{} of {}".format(*_stated(made))


def _stated(made: Judgement) -> tuple[int, int]:
    items = made.found["items"]
    return sum(item["verdict"] == "stated" for item in items), len(items)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class FactualCorrectness(Judge):
    """Precision, recall and F1 of the response's claims against the reference's, each by its own claims."""

    inputs = {"response": "$inference", "reference": None}
    renamed_inputs: ClassVar = NAMES
    scores = ("f1", "precision", "recall")

    async def judged(self, asked: Asked, repeat: int, data: dict[str, Any]) -> Vote:
        """Judge a case once: two calls, the response's claims and then the reference's."""
        response, reference = response_of(data), text_of(data.get("reference"), "reference")
        response_in = covered(("response", response), [("reference", reference)])
        reference_in = covered(("reference", reference), [("response", response)])
        right, found = await asked.ask_all([response_in, reference_in], repeat)
        precision, recall = _share(*_stated(right)), _share(*_stated(found))
        reason = (
            f"{_of(right)} claims of the response are in the reference; "
            f"{_of(found)} of the reference are in the response"
        )
        details = {
            "response_claims": _kept(right.found["items"]),
            "reference_claims": _kept(found.found["items"]),
        }
        values = {"f1": f1(precision, recall), "precision": precision, "recall": recall}
        return Vote(values, reason, [right, found], "no claims", details)


def f1(precision: float | None, recall: float | None) -> float | None:
    """The harmonic mean, 2pr ÷ (p + r); 0 where both are, None where one is unknown."""
    if precision is None or recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class Summarization(Judge):
    """How good a summary is: the lesser of what it states rightly and of what it covers."""

    inputs = {"text": None, "response": "$inference"}
    renamed_inputs: ClassVar = {"source": "text", "document": "text", "summary": "response"}

    async def judged(self, asked: Asked, repeat: int, data: dict[str, Any]) -> Vote:
        """Judge a case once: two calls, the summary's claims and the text's key points."""
        text, response = text_of(data.get("text"), "text"), response_of(data)
        stated = covered(("summary", response), [("text", text)])
        points = covered(("text", text), [("summary", response)], "key points")
        right, found = await asked.ask_all([stated, points], repeat)
        alignment, coverage = _share(*_stated(right)), _share(*_stated(found))
        known = [value for value in (alignment, coverage) if value is not None]
        reason = (
            f"{_of(right)} claims of the summary are in the text; it has "
            f"{_of(found)} of the text's key points"
        )
        details = {
            "alignment": alignment,
            "coverage": coverage,
            "summary_claims": _kept(right.found["items"]),
            "key_points": _kept(found.found["items"]),
        }
        value = min(known) if len(known) == 2 else None
        return Vote({"": value}, reason, [right, found], "no claims", details)


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class InstructionFollowing(Judge):
    """The share of the prompt's instructions that the response follows."""

    inputs = {"instructions": "$prompt", "response": "$inference"}
    renamed_inputs: ClassVar = {"prompt": "instructions", "question": "instructions", "output": "response"}

    async def judged(self, asked: Asked, repeat: int, data: dict[str, Any]) -> Vote:
        """Judge a case once."""
        question = Question(
            "INSTRUCTIONS is the prompt that a model was given, RESPONSE what it answered. List every "
            "instruction of the prompt that a response can be checked against: what to do, what to leave "
            "out, form, length, language, tone. Judge each by itself. followed: the response does as it "
            "says. broken: it does not, or only in part.",
            [
                ("instructions", text_of(data.get("instructions"), "instructions")),
                ("response", response_of(data)),
            ],
            items_form({"text": TEXT, "reasoning": TEXT, "verdict": one_of("followed", "broken")}),
        )
        made = await asked.ask(question, repeat)
        items = made.found["items"]
        value = _share(sum(item["verdict"] == "followed" for item in items), len(items))
        return Vote({"": value}, _told(items, "followed"), [made], "no instructions", _kept(items))


@dataclass(frozen=True, kw_only=True, eq=False, config=STRICT)
class ToolChoice(Judge):
    """The share of an agent's tool calls that were the right ones to make."""

    inputs = {"messages": None}
    any_inputs: ClassVar[bool] = True

    async def judged(self, asked: Asked, repeat: int, data: dict[str, Any]) -> Vote:
        """Judge a case once."""
        others = [name for name in data if name not in ("messages", "response")]
        question = Question(
            "MESSAGES is a conversation with an agent that calls tools. Judge every call by itself, in order "
            "(TOOLS lists what it could call, where that is given). right: the tool and its arguments are "
            "what a careful person would choose with what was known at that point. wrong: another tool, "
            "other arguments or no call would have been right, or the same was asked before. Without any "
            "call the list is empty.",
            [*shown(data, others), ("messages", transcript(data.get("messages")))],
            items_form({"text": TEXT, "reasoning": TEXT, "verdict": one_of("right", "wrong")}),
        )
        made = await asked.ask(question, repeat)
        items = made.found["items"]
        value = _share(sum(item["verdict"] == "right" for item in items), len(items))
        return Vote({"": value}, _told(items, "right"), [made], "no calls", _kept(items))
