"""The letter that an answer to a question of choices chooses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from promptlab.domain.extraction import LETTERS

MAX_CHARS = 20_000
"""Characters at the end of an answer that are looked at: what is chosen stands there."""

_WRAP = (
    r"(?:\*\*|__|\*|_|`|\$|\"|'|“|‘|「|\(|\[|\{|（|【|\\\(|<answer>|\\boxed\s*\{|\\text(?:bf|rm)?\s*\{"
    r"|\\math(?:rm|bf)\s*\{)"
)
_LEAD = rf"(?:\s*{_WRAP}){{0,5}}\s*"
_END = r"(?![A-Za-z0-9'’])(?!\s?[+*/=^]\s?\w)"
_NOUN = r"(?:answer|choice|option|letter|selection|response|solution|pick|alternative)"
_GLUE = r"(?:\s*(?:[:：=\-–—>→*_`]|\\text\s*\{|\$)){0,6}\s*"
_OPTION = r"(?:(?:the\s+)?(?:option|choice|letter|answer|alternative)\s+)?"
_NOT = re.compile(
    r"\b(?:not|isn['’]t|cannot|can['’]t|never|neither|nor|wrong|incorrect|eliminat\w+|exclud\w+|rul(?:ed?|es|ing)\s+out|"
    r"reject\w*|rather\s+than|instead\s+of|unlike|discard\w*|except|than|at\s+first|initially|first\s+thought|tempting)\b",
    re.IGNORECASE,
)
_BREAK = re.compile(r"[,;:.!?\n–—]|\b[A-Z]\b(?!\s*(?:and|or|nor|&|/)\s*$)")
_IS = r"(?:is|are|was|would\s+be|seems?|looks?|can\s+be|cannot\s+be|can't\s+be|isn't|isn’t|aren't)"
_FALSE = (
    r"(?:wrong|incorrect|false|ruled\s+out|eliminated|excluded|rejected|out\b|impossible|not\b|tempting"
    r"|a\s+distractor)"
)
_BETWEEN = r"(?:(?!\b(?-i:[A-Z])\b)[^.;,!?\n])"
"""What stands between a letter and the words about it: no end of a sentence, and no other letter."""
_WRONG_AFTER = re.compile(
    r"^[ \t*_`)\].:\"'}$]{0,6}(?:,\s?which\s)?"
    r"(?:\s?(?:,|and|or|nor|&|/)\s?[(*_`]{0,3}(?-i:[A-Z])\b[)*_`]{0,3}){0,8}"
    rf"(?:(?:\([^)\n]{{0,80}}\)|{_BETWEEN}{{0,60}}?)\s{{0,4}})?"
    rf"\b{_IS}\s+(?:(?:also|both|all|clearly|definitely|plainly|obviously|too|simply)\s+){{0,2}}{_FALSE}",
    re.IGNORECASE,
)
_WORDS = (
    r"(?:答案|正确答案|正確答案|選択肢|答え|正解|Antwort|respuesta|réponse|risposta|resposta|antwoord|svaret|svar|"
    r"odpowiedź|odpověď|ответ|відповідь|정답|الإجابة|الجواب|คำตอบ|cevap|jawaban)"
)
"""The answer, in other languages."""
_RIGHT = (
    r"(?:correcta|correcte|corretta|correta|exacta|exacte|esatta|giusta|certa|juste|الصحيحة|الصحيح|doğru"
    r"|yang\s+benar|ที่ถูกต้อง)"
)
"""Right, where it stands behind."""


@lru_cache(maxsize=512)
def _bounded(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Compile a pattern, with the repeats of blanks and marks bounded: an answer of 100,000 asterisks took
    minutes."""
    for endless, bounded in ((r"\s*", r"\s{0,4}"), (r"\s+", r"\s{1,4}"), ("]*", "]{0,6}")):
        pattern = pattern.replace(endless, bounded)
    return re.compile(pattern, flags)


@lru_cache(maxsize=64)
def _patterns(letters: str) -> tuple[re.Pattern[str], ...]:
    """The ways in which a letter is chosen, the plainest first."""
    one = rf"(?P<letter>[{letters}{letters.lower()}])"
    big = rf"(?P<letter>[{letters}])"
    said = rf"{_LEAD}{_OPTION}{_LEAD}{one}{_END}"
    return tuple(
        _bounded(pattern, re.MULTILINE | flags)
        for pattern, flags in (
            (
                rf"\\f?boxed\s*\{{\s*(?:\\text(?:bf|rm)?\s*\{{|\\mathrm\s*\{{|\\mathbf\s*\{{)?\s*\(?{one}{_END}",
                re.IGNORECASE,
            ),
            (rf"<answer>{said}", re.IGNORECASE),
            (
                rf"[\"'](?:final_?)?(?:answer|choice|option|letter)[\"']\s*:\s*[\"']?\s*{one}(?![A-Za-z0-9])",
                re.IGNORECASE,
            ),
            (
                rf"(?:final|correct|right|best|my|the|so|therefore|thus|hence)?[\s*_]*{_NOUN}(?:\s+(?:here|to\s+(?:this|the)\s+question|"
                rf"is\s+therefore|that\s+is\s+correct|that\s+fits(?:\s+best)?))?[\s*_`]*"
                rf"(?:\s*(?:is|was|would\s+be|must\s+be|should\s+be|has\s+to\s+be|will\s+be|remains|:|：|=|-|–|—|→|->|=>|\()"
                rf"|(?:\s+is)?\s*\n)"
                rf"(?:\s+(?:therefore|thus|clearly|definitely|indeed|simply|most\s+likely|probably|likely|obviously|surely|again|now|then))*{_GLUE}"
                rf"{said}",
                re.IGNORECASE,
            ),
            (
                rf"\b(?:choose|chose|pick|picked|select|selected|go(?:ing)?\s+(?:for|with)|went\s+with|opt\s+for|answer(?:ed)?(?:\s+with)?|"
                rf"settle\s+(?:on|for)|vote\s+for|decide(?:d)?\s+on|mark|it\s+is|it's|it’s|it\s+must\s+be|that\s+is|that's|that’s|"
                rf"leaves(?:\s+us\s+with)?|leaving|points?\s+to|corresponds\s+to|matches|gives|say|conclude(?:\s+that\s+it\s+is)?|"
                rf"must\s+be|should\s+be|has\s+to\s+be)\s*[:：]?{said}",
                re.IGNORECASE,
            ),
            (
                rf"(?:^|(?<=[\s*_`(\[\"'“])){_LEAD}(?:(?:option|choice|letter|answer|alternative)\s+)?{_LEAD}{big}[\s*_`)\]\"'”}}$.:]{{0,6}}"
                rf"(?:\([^)\n]{{1,80}}\)\s*)?[\s*_]*(?:is|seems|must\s+be|should\s+be|would\s+be)\s+(?:therefore\s+|thus\s+|clearly\s+|definitely\s+|the\s+only\s+)?"
                rf"(?:the\s+)?(?:most\s+|only\s+)?(?:correct|right|best|true|answer|one\b|accurate|appropriate|likely|mine|it\b|my\s+(?:answer|choice))",
                0,
            ),
            (rf"\A{_LEAD}{big}[\s*_`)\]\"'}}$.,:]{{0,4}}(?:because|since|as\b|–|—|-\s)", 0),
            (
                # With an article and an adjective before it: die richtige Antwort, la bonne réponse.
                rf"(?:^|(?<=[.!?。！？\s]))(?:[^\W\d_]{{1,14}}\s+){{0,3}}{_WORDS}(?:\s+{_RIGHT})?"
                rf"[^\nA-Za-z]{{0,20}}?(?:ist|lautet|es|est|è|é|is|är|to|adalah|是|为|為|は)?\s*[:：]?{said}",
                re.IGNORECASE,
            ),
        )
    )


def chosen(text: str, letters: str = LETTERS) -> str | None:
    """Find the letter that an answer chooses, as a capital; None where it chooses none, or several.

    The last of the plainest ways in which a letter is given counts: alone, in a box, after *the answer is*,
    as in *I choose B*, as in *B is correct*, in bold or brackets, and at last as the only letter of the text.
    A letter that is said to be wrong is not chosen.
    """
    text = text[-MAX_CHARS:].translate(_WIDE).strip()
    if alone := _alone(text, letters):
        return alone
    for pattern in _patterns(letters):
        found = list(_said(pattern, text, letters))
        if found:
            letter, end = found[-1]
            return None if _and_another(text, end, letter, letters) else letter
    return _by_form(text, letters)


_WIDE = str.maketrans(
    {**{chr(0xFF21 + n): chr(65 + n) for n in range(26)}, "．": ".", "\u200b": None, "\ufeff": None}
)


def _alone(text: str, letters: str) -> str | None:
    """The letter of a text that is a letter, in whatever wrapping, with or without the option's own words."""
    bare = re.fullmatch(
        r"[\W_]*(?:(?i:option|choice|letter|answer)\s+)?(?:\\(?:text|boxed|mathrm|mathbf|textbf)[\s{(]*)*[\W_]*([A-Za-z])[\W_]*",
        text[:100],
    )
    if bare and len(text) <= 100:
        letter = bare[1].upper()
        return letter if letter in letters else None
    first = _bounded(
        rf"{_LEAD}(?:(?:option|choice|letter)\s+)?{_LEAD}([{letters}])[*_`\"')\]}}]*\s*[.:)\]）、,]",
        re.IGNORECASE,
    ).match(text)
    lines = [line for line in text.splitlines() if line.strip()]
    if first and len(lines) == 1 and not _others(text[first.end() :], first[1].upper(), letters):
        return None if _WRONG_AFTER.match(text[first.end(1) :]) else first[1].upper()
    return None


def _said(pattern: re.Pattern[str], text: str, letters: str) -> Iterator[tuple[str, int]]:
    for place in pattern.finditer(text):
        letter, at = place["letter"], place.start("letter")
        # A small a or i is a word more often than a choice.
        if letter.islower() and not _is_marked(text, at, place.end("letter")):
            continue
        if (
            letter in "AI"
            and re.match(r"\s+[a-z]", text[at + 1 :])
            and not re.match(
                r"\s+(?:is|because|since|as|and|or|for|with|which|seems|fits|but|that|therefore|would|rather|instead"
                r"|over|not)\b",
                text[at + 1 :],
            )
        ):
            continue
        if _is_denied(text, at):
            continue
        if _WRONG_AFTER.match(text[at + 1 : at + 200]):
            continue
        yield letter.upper(), place.end("letter")


def _is_denied(text: str, at: int) -> bool:
    """Whether words before a letter say that it is not chosen: "not A", "rather than A", "neither A or B"."""
    before = text[max(0, at - 60) : at]
    denials = list(_NOT.finditer(before))
    return bool(denials) and not _BREAK.search(before[denials[-1].end() :])


def _is_marked(text: str, start: int, end: int) -> bool:
    """Whether a small letter stands in brackets, quotes or bold, or ends its line."""
    before, after = text[:start].rstrip()[-1:], text[end : end + 2]
    if after[:1] in (")", "]", "*", '"', "'", "`", "}", "”") and before in tuple("([*\"'`{“"):
        return True
    return not after.strip() or after[:1] in (")", "\n") or (after[:1] in ".," and not after[1:].strip())


def _and_another(text: str, end: int, letter: str, letters: str) -> bool:
    """Whether another letter is chosen with it: B or C, B and D."""
    more = _bounded(
        rf"[*_`)\]\"']{{0,3}}\s*(?:,|/|and|or|&)\s*{_LEAD}(?:or\s+)?{_LEAD}([{letters}])(?![A-Za-z0-9'’])"
    ).match(text[end : end + 60])
    if not more or more[1] == letter:
        return False
    rest = text[end + more.end() : end + more.end() + 80]
    return not re.match(r"[*_`)\]]*\s*(?:is|are|was|were|would|can|cannot|fits?|does|do)\b", rest)


def _others(text: str, letter: str, letters: str) -> bool:
    """Whether another letter than this one stands in a text as a choice."""
    return any(
        found[1] != letter
        for found in re.finditer(rf"(?<![A-Za-z0-9'’])([{letters}])(?=[).:\]*])(?![A-Za-z0-9])", text)
    )


def _by_form(text: str, letters: str) -> str | None:
    """The only letter that stands in the text in a form of choices: in bold, in brackets, at the end."""

    def kept(found: re.Match[str]) -> bool:
        after = text[found.end(1) : found.end(1) + 200]
        return not (_is_denied(text, found.start(1)) or _WRONG_AFTER.match(after))

    rare = letters.replace("A", "").replace("I", "") or letters  # these two are words, too
    forms = (
        rf"(?:\*\*|__|`)\s*\(?(?:option\s+|choice\s+)?([{letters}])\)?[.:)]?\s*(?:\*\*|__|`|\s)",
        rf"[(\[]\s*([{letters}])\s*[)\]]",
        rf"^\s*\(?([{letters}])[.):]\s",
        rf"\b(?:option|choice|letter)\s+([{letters}])\b",
        rf"(?<![A-Za-z0-9'’°])(?<!° )([{rare}])(?![A-Za-z0-9'’])",
        rf"(?<![A-Za-z0-9'’°])(?<!° )([{letters}])(?=\s*(?:[.!)]|$))(?![A-Za-z0-9'’])",
    )
    several = _bounded(rf"\b[{letters}]\b[*_`)]*\s*(?:,|/|or|and|&)\s*\(?\b[{letters}]\b").search(text)
    for form in forms[:4] if several else forms:
        found = {match[1] for match in _bounded(form, re.MULTILINE).finditer(text) if kept(match)}
        if len(found) == 1:
            return found.pop()
    tail = [line for line in text.splitlines() if line.strip()][-1:]
    for form in forms[:4]:
        found = {match[1] for match in _bounded(form, re.MULTILINE).finditer(tail[0] if tail else "")}
        if len(found) == 1:
            return found.pop()
    return None
