"""token_f1, bleu, rouge against values worked out by hand and against the packages themselves."""

from __future__ import annotations

import math
import random
import unicodedata
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_bleu

from promptlab.domain.results import Score
from promptlab.evaluators.registry import build

CAT, MAT = "the cat sat on the mat", "the cat is on the mat"


def value(metric: str, response: Any, reference: Any, **params: Any) -> float:
    result = build(metric, params).evaluate({"response": response, "reference": reference})
    assert isinstance(result, Score) and result.value is not None and result.passed is None
    return result.value


def texts(seed: int, count: int) -> list[str]:
    """Random texts of 0 to 60 words out of 12, some with new lines."""
    chance = random.Random(seed)
    words = ["the", "a", "cat", "cats", "running", "Übung", "sat.", "on,", "mat\n", "42", "x-y", "日本"]
    return [" ".join(chance.choices(words, k=chance.randrange(60))) for _ in range(count)]


@pytest.mark.parametrize(
    ("response", "reference", "params", "expected"),
    [
        # 4 of 4 and 4 of 5 words without articles: cat sat on mat / cat sat on red mat
        ("The cat sat on the mat.", "a cat sat on the red mat", {}, 8 / 9),
        ("Paris", "paris!", {}, 1.0),
        ("Paris", "paris", {"case_sensitive": True}, 0.0),
        ("paris!", "paris", {"ignore_punctuation": False}, 0.0),
        # the cat / a cat: one word of two each
        ("the cat", "a cat", {"ignore_articles": False}, 0.5),
        # a bag, not a set: one of three "no" is shared with one "no"
        ("no no no", "no", {}, 0.5),
        ("", "", {}, 1.0),
        ("", "a b", {}, 0.0),
        ("the", "a", {}, 1.0),
        ("x", "", {}, 0.0),
        ("x y", ["a", "x y z", "x"], {}, 0.8),
        (42, 42.0, {}, 0.0),
        ("天气很好", "天气不好", {"unit": "words"}, 0.0),
        ("天气很好", "天气不好", {}, 0.75),
        ("天气很好", "天气不好。", {"unit": "characters"}, 0.75),
        ("caf\u00e9", "CAFE\u0301", {}, 1.0),
    ],
)
def test_token_f1(response: Any, reference: Any, params: dict[str, Any], expected: float) -> None:
    """SQuAD's F1, best over the references."""
    assert value("token_f1", response, reference, **params) == pytest.approx(expected)


def test_bleu_by_hand() -> None:
    """Precisions 5/6, 3/5, 1/4 and 0/3, smoothed to 1/6; no brevity penalty."""
    assert value("bleu", CAT, MAT) == pytest.approx((5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** (1 / 4))
    assert value("bleu", CAT, MAT, max_order=1) == pytest.approx(5 / 6)


def test_bleu_of_a_short_text_uses_the_orders_that_it_has() -> None:
    """Two words have no 3-grams: precision 1, brevity penalty e^(1 - 6/2)."""
    assert value("bleu", "the cat", MAT) == pytest.approx(math.exp(-2))
    assert value("bleu", "Guten Tag", "Guten Tag") == 1.0


@pytest.mark.parametrize(
    ("response", "reference", "expected"),
    [
        ("", "a", 0.0),
        ("", "", 0.0),
        ("a", "", 0.0),
        (MAT, [CAT, MAT], 1.0),
        (42, 42, 1.0),
        ("caf\u00e9", "cafe\u0301", 1.0),
    ],
)
def test_bleu_at_the_edges(response: Any, reference: Any, expected: float) -> None:
    """Empty texts score 0; several references count together."""
    assert value("bleu", response, reference) == pytest.approx(expected)


def test_bleu_parameters() -> None:
    """Case, tokenizer and smoothing reach sacreBLEU."""
    assert value("bleu", CAT.upper(), MAT) == 0.0
    assert value("bleu", CAT.upper(), MAT, case_sensitive=False) == pytest.approx(value("bleu", CAT, MAT))
    assert value("bleu", CAT, MAT, smoothing="none") == 0.0
    # four of five characters agree once split, none as one word
    assert value("bleu", "天气很好吗", "天气不好吗", tokenizer="char", max_order=1) == pytest.approx(0.8)
    assert value("bleu", "天气很好吗", "天气不好吗", max_order=1, tokenizer="13a") == 0.0
    assert value("bleu", "天气很好吗", "天气不好吗", max_order=1) == pytest.approx(0.8)


@pytest.mark.parametrize("count", [100, pytest.param(10_000, marks=pytest.mark.long)])
def test_bleu_is_sacrebleu_divided_by_100(count: int) -> None:
    """On random texts, and again after the package's caches were emptied."""
    evaluator = build("bleu", {"tokenizer": "13a"})
    for response, reference in zip(texts(1, count), texts(2, count), strict=True):
        score = evaluator.evaluate({"response": response, "reference": [reference, response[::-1]]})
        assert isinstance(score, Score)
        expected = (
            sentence_bleu(response, [reference, unicodedata.normalize("NFC", response[::-1])]).score / 100
        )
        assert score.value == pytest.approx(expected)


def test_bleu_keeps_no_texts() -> None:
    """sacreBLEU's tokenizers would keep 65,536 of them."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    build("bleu").evaluate({"response": CAT, "reference": MAT})
    assert Tokenizer13a.__call__.cache_info().currsize == 0
    assert TokenizerRegexp.__call__.cache_info().currsize == 0


@pytest.mark.parametrize(
    ("response", "reference", "params", "expected"),
    [
        (CAT, MAT, {"variant": "rouge1"}, 5 / 6),
        (CAT, MAT, {"variant": "rouge2"}, 3 / 5),
        (CAT, MAT, {"variant": "rougeL"}, 5 / 6),
        ("the cat", MAT, {"measure": "precision"}, 1.0),
        ("the cat", MAT, {"measure": "recall"}, 2 / 6),
        ("the cat", MAT, {}, 0.5),
        ("mat the", "the mat", {}, 0.5),
        ("running cats", "run cat", {"variant": "rouge1"}, 0.0),
        ("running cats", "run cat", {"variant": "rouge1", "stemmer": True}, 1.0),
        ("running cats", "run cat", {"variant": "rouge1", "stemmer": True, "tokenizer": "unicode"}, 1.0),
        ("Москва", "москва", {}, 1.0),
        ("Москва", "москва", {"tokenizer": "ascii"}, 0.0),
        ("これはテスト候補の正解です", "これはテスト候補の応答です", {"variant": "rouge1"}, 11 / 13),
        ("AI は正解", "AI は応答", {"variant": "rouge1"}, 2 / 4),
        ("पूर्व प्रधानमन्त्री", "पूर्व प्रधानमन्त्री", {}, 1.0),
        ("สวัสดีครับ", "สวัสดีค่ะ", {"variant": "rouge1", "measure": "recall"}, 4 / 6),
        ("Москва", "москва", {"tokenizer": "unicode"}, 1.0),
        ("", "", {}, 0.0),
        ("", "a", {"variant": "rouge1"}, 0.0),
        ("👍", "👍", {}, 0.0),
        (CAT, ["nothing", CAT], {}, 1.0),
        (42, 42, {}, 1.0),
        # the lines may come in another order
        ("b c\nd e", "d e\nb c", {"variant": "rougeLsum"}, 1.0),
        ("b c\nd e", "d e\nb c", {"variant": "rougeL"}, 0.5),
    ],
)
def test_rouge(response: Any, reference: Any, params: dict[str, Any], expected: float) -> None:
    """Each variant and measure, best over the references."""
    assert value("rouge", response, reference, **params) == pytest.approx(expected)


@pytest.mark.parametrize("variant", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
@pytest.mark.parametrize("stemmer", [False, True])
@pytest.mark.parametrize("count", [60, pytest.param(1_250, marks=pytest.mark.long)])
def test_rouge_is_what_rouge_score_gives(variant: str, stemmer: bool, count: int) -> None:
    """On random texts, 10,000 over all of them, rougeL too, which is computed in another way."""
    scorer = RougeScorer([variant], use_stemmer=stemmer)
    ours = {
        measure: build(
            "rouge", {"variant": variant, "measure": measure, "stemmer": stemmer, "tokenizer": "ascii"}
        )
        for measure in ("precision", "recall", "fmeasure")
    }
    for response, reference in zip(texts(3, count), texts(4, count), strict=True):
        theirs = scorer.score(reference, response)[variant]
        for measure, evaluator in ours.items():
            score = evaluator.evaluate({"response": response, "reference": reference})
            assert isinstance(score, Score)
            assert score.value == pytest.approx(getattr(theirs, measure))


@pytest.mark.parametrize(
    ("variant", "words", "remedy"), [("rougeL", 40_000, "use rouge1"), ("rougeLsum", 2_100, "use rougeL")]
)
def test_rouge_refuses_texts_that_would_stop_everything(variant: str, words: int, remedy: str) -> None:
    """The limit, the sizes and the way out are named."""
    with pytest.raises(
        ValueError, match=rf"too long to compare: {words:,} × {words:,} words .* is more than .*; {remedy}"
    ):
        value("rouge", "a " * words, "b " * words, variant=variant)


def test_rouge_takes_huge_texts_where_it_can() -> None:
    """n-grams cost linear time."""
    assert value("rouge", "a " * 200_000, "a " * 200_000, variant="rouge1") == 1.0


@pytest.mark.parametrize(
    ("metric", "text", "params", "said"),
    [
        ("rouge", "naïve café", {}, "tokenizer 'ascii' sees a-z and 0-9 only: use tokenizer: unicode"),
        (
            "rouge",
            "Привет",
            {"tokenizer": "ascii"},
            "tokenizer 'ascii' sees a-z and 0-9 only: use tokenizer: unicode",
        ),
        ("rouge", "Привет", {}, None),
        ("rouge", "hello 12", {}, None),
        (
            "bleu",
            "これはテストです",
            {"tokenizer": "13a"},
            "tokenizer '13a' parts words by spaces, which the text lacks: use tokenizer: char",
        ),
        ("bleu", "これはテストです", {}, "tokenizer 'char' was taken"),
        ("bleu", "你好", {}, "tokenizer 'zh' was taken"),
        ("token_f1", "สวัสดี", {}, "tokenizer 'characters' was taken"),
        ("token_f1", "สวัสดี", {"unit": "words"}, "use unit: characters"),
        ("bleu", "สวัสดี", {"tokenizer": "intl"}, "use tokenizer: char"),
        ("bleu", "これは", {"tokenizer": "zh"}, "use tokenizer: char"),
        ("bleu", "你好", {"tokenizer": "zh"}, None),
        ("bleu", "สวัสดี", {"tokenizer": "char"}, None),
        ("bleu", "Привет, мир", {}, None),
        ("wer", "สวัสดี", {}, "which the text lacks: use the metric cer"),
        ("ter", "สวัสดี", {}, "which the text lacks: use asian_support: true"),
        ("meteor", "สวัสดี", {}, "which the text lacks: use the metric chrf"),
        ("cer", "สวัสดี", {}, None),
    ],
)
def test_a_text_that_the_tokenizer_cannot_read_has_a_warning(
    metric: str, text: str, params: dict[str, Any], said: str | None
) -> None:
    """The score's reason names the tokenizer that can."""
    for data in ({"response": text, "reference": "x"}, {"response": "x", "reference": ["y", text]}):
        reason = build(metric, params).evaluate(data).reason
        assert (reason is None) if said is None else said in reason


@pytest.mark.parametrize("metric", ["rouge", "bleu", "token_f1", "edit_distance"])
def test_texts_that_would_hold_up_everything_are_refused(metric: str) -> None:
    """A tokenizer holds the interpreter for as long as it works."""
    with pytest.raises(ValueError, match=r"too long to compare: 1,000,001 characters; at most 1,000,000"):
        build(metric).evaluate({"response": "x" * 1_000_001, "reference": "x"})
