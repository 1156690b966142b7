"""What the metrics on sacreBLEU share: its metrics, made, and its caches, emptied."""

from __future__ import annotations

from typing import Any

from promptlab.errors import MissingExtraError

TOKENIZERS = ("13a", "intl", "char", "zh", "none", "ja-mecab", "ko-mecab", "spm", "flores101", "flores200")
"""sacreBLEU's tokenizers. ja-mecab and ko-mecab need its extras, the last three download a model."""


def sacrebleu_metric(kind: str, tokenizer: str | None = None, **options: Any) -> Any:
    """Make a metric of sacreBLEU.

    Args:
        kind: `bleu`, `chrf` or `ter`.
        tokenizer: for bleu.
        options: its own parameters.

    Raises:
        MissingExtraError: sacreBLEU is not installed.
        ValueError: what the tokenizer needs is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
        from sacrebleu.metrics.ter import TER
    except ImportError as error:
        raise MissingExtraError(f"Metric {kind!r}", "metrics") from error
    if kind != "bleu":
        return (CHRF if kind == "chrf" else TER)(**options)
    try:
        return BLEU(tokenize=tokenizer, **options)
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(f"tokenizer {tokenizer!r} cannot be used: {str(error).strip()[:300]}") from error


def forget(metric: Any) -> None:
    """Empty what sacreBLEU keeps: 65,536 texts a tokenizer, 11 KB a case of 300 words, measured, for texts
    that never come again."""
    tokenizer = getattr(metric, "tokenizer", None)
    for each in (tokenizer, getattr(tokenizer, "_post_tokenizer", None)):
        clear = getattr(type(each).__call__, "cache_clear", None) if each is not None else None
        if clear is not None:
            clear()
