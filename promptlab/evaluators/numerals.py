"""Numbers in texts as people and models write them, read exactly."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import islice
from typing import Literal

Number = Decimal | Fraction
Which = Literal["last", "first"]

MOST_DIGITS = 5_000
"""Longer numbers are not read: exact arithmetic with them takes time that grows with the
square of their length."""
LONGEST_REFERENCE = 20_000
"""Characters of a text that is to be one number, units and words included."""
MOST_LISTED = 100
"""How many numbers of a reference are looked at: two are too many already."""
# Groups are bounded (to 10^38) because a model that repeats "12,12,12,…" forever would else cost quadratic
# time.
_MAX_GROUPS = 12
_DASHES = "-−–‒－﹣"
_CURRENCY = "$€£¥₹₩₽₺₫₴¢"
_CODES = "USD|EUR|GBP|JPY|CNY|INR|CHF|CAD|AUD|NZD|BRL|RMB|Rs|US|R"
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_VULGAR = {
    **{"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5"},
    **{"⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"},
    **{"⅑": "1/9", "⅒": "1/10", "↉": "0/3"},
}
_WIDE = str.maketrans("．：／＋＾＄￥％（）［］｛｝\u2044\u2215", ".:/+^$¥%()[]{}//")
_LATEX = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\\[dtc]?frac\s*(\d)\s*(\d)", r"\1/\2"),
        (r"\\[dtc]?frac\s*\{\s*([^{}]{1,100})\}\s*\{\s*([^{}]{1,100})\}", r"\1/\2"),
        (r"\{,\}", ","),
        (r"\\!", ""),
        (r"\\[,;: >]", "\u2009"),
        (r"\\([$%])", r"\1"),
        (r"\\(?:times|cdot)(?![A-Za-z])", "×"),
        (r"\\[A-Za-z]+|\\[\[\]()]", " "),
    )
)
_POWER = re.compile(r"\^\s?[{(]\s?([^{}()]{1,20})[})]")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_VULGAR_SIGN = re.compile(f"(\\d?)\\s?([{''.join(_VULGAR)}])")
_DIGIT = re.compile(f"[\\d⁰¹²³⁴⁵⁶⁷⁸⁹{''.join(_VULGAR)}]")
_WINDOW = 3 * MOST_DIGITS
"""Characters before the last digit of a text that are looked at first: more than the longest number has."""
_AROUND = 200
_BLANK = re.compile(r"\s")
_WIDE_COMMA = re.compile(r"(?<=\d)，(?=\d{3}(?!\d))")
_EXPRESSION = re.compile(
    r"[π√∞±≤≥∑∫]|\\(?:sqrt|pi|infty|pm|leq?|geq?|sum|int|log|ln|sin|cos|tan|binom)(?![A-Za-z])"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A place of a text that has a number, or digits that are not one."""

    text: str
    value: Number | None = None
    """The number; None for digits that are not one: a date, a time, `1.000.000`, a division by 0."""
    unit: bool = False
    """Whether the digits belong to a word, as in m^2, H2O: no number at all."""


def number_in(
    text: str, take: Which, *, decimal_comma: bool = False, thousands_space: bool = True
) -> Number | None:
    """Read the first or last number of a text; None if there is none, or if what
    stands there is not one number.

    Args:
        decimal_comma: read 1.234,5 rather than 1,234.5.
        thousands_space: read 1 234 as one number (with no-break and thin spaces, always).
    """
    found = number_at(text, take, decimal_comma=decimal_comma, thousands_space=thousands_space)
    return found.value if found else None


def number_at(
    text: str, take: Which, *, decimal_comma: bool = False, thousands_space: bool = True
) -> Found | None:
    """Find the first or last place with digits that belong to no word; arguments as in `number_in`."""
    grammar, point = _grammar(decimal_comma, thousands_space), "," if decimal_comma else "."
    for window in _windows(text, take):
        plain = _plain(window, decimal_comma)
        matches = (m for m in grammar.finditer(plain) if m["word"] is None)
        match = next(matches, None) if take == "first" else next(iter(deque(matches, maxlen=1)), None)
        if match is not None:
            found = list(_read(plain, match, point))
            return found[0 if take == "first" else -1]
    return None


def _windows(text: str, take: Which) -> Iterator[str]:
    """Parts of a text that hold its last (or first) digits, one after another.

    The grammar looks at every character with Python's lock held, 1 µs each; what has no digit needs no look.
    """
    way = 1 if take == "first" else -1
    text, start = text[::way], 0
    while found := _DIGIT.search(text, start):
        begin, start = max(start, found.start() - _AROUND), _gap(text, found.start() + _WINDOW)
        yield text[begin:start][::way]


def _gap(text: str, at: int) -> int:
    """Find the next blank, so that no word is cut in two: the 2 of H2O would be a number."""
    blank = _BLANK.search(text, at, at + _AROUND)
    return blank.start() if blank else at


def only_number(text: str, *, decimal_comma: bool = False, thousands_space: bool = True) -> Number | str:
    """Read a text that is one number, with or without words around it; or say in words why it is not.

    A unit may follow, as in 12 m^2; an index before it may not, as in x_1 = 3.
    """
    if len(text) > LONGEST_REFERENCE:
        return f"is too long for one number: {len(text):,} characters"
    found = list(
        islice(numbers_in(text, decimal_comma=decimal_comma, thousands_space=thousands_space), MOST_LISTED)
    )
    numbers = [place for place in found if not place.unit]
    if not numbers:
        return "has no number in it"
    if broken := next((place for place in numbers if place.value is None), None):
        return f"is not one number: {broken.text[:40]!r}{_hint(broken.text, decimal_comma)}"
    if len(numbers) > 1:
        return "has several numbers in it"
    if found[0].unit or _EXPRESSION.search(text):
        return "is an expression, not one number"
    assert numbers[0].value is not None
    return numbers[0].value


def _hint(text: str, decimal_comma: bool) -> str:
    """Name the parameter that would read digits as a number."""
    other = number_in(text, "last", decimal_comma=not decimal_comma) if re.search(r"\d[.,]\d", text) else None
    return (
        f"; set decimal_comma: {str(not decimal_comma).lower()} to read {text[:40]!r}"
        if other is not None
        else ""
    )


def brief(number: Number) -> str:
    """Write a number in full if it is short: 1234.5, 1/3."""
    if isinstance(number, Fraction):
        return (
            str(number) if max(abs(number.numerator), number.denominator) < 10**20 else f"{float(number):.6e}"
        )
    if len(number.as_tuple().digits) > 40:
        return f"{number:.6e}"
    return f"{number:f}" if -20 < number.adjusted() < 40 else str(number)


def numbers_in(text: str, *, decimal_comma: bool = False, thousands_space: bool = True) -> Iterator[Found]:
    """Find every number of a text, in order, and every run of digits that is not one.

    Currency and percent signs are skipped: 50% is 50.
    """
    text = _plain(text, decimal_comma)
    for match in _grammar(decimal_comma, thousands_space).finditer(text):
        yield from _read(text, match, "," if decimal_comma else ".")


def _read(text: str, match: re.Match[str], point: str) -> Iterator[Found]:
    if match["word"] is not None:
        yield Found(match[0], unit=True)
    elif match["junk"] is not None:
        yield from _several(match["junk"], point)
    elif match["marked"] is not None and _in_brackets(text, match):
        yield from (Found(part, _decimal(part, point)) for part in match["head"].split(","))
    else:
        yield Found(match[0].strip(), _value(match, point))


def _plain(text: str, decimal_comma: bool) -> str:
    """The text with what LaTeX, wide and raised characters stand for, as far as numbers go."""
    if "\\" in text or "{,}" in text:
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
    if not text.isascii():
        text = _RAISED.sub(lambda found: f"^{found[0].translate(_SUPERSCRIPTS)}", text)
        text = _VULGAR_SIGN.sub(lambda found: f"{found[1]}{' ' if found[1] else ''}{_VULGAR[found[2]]}", text)
        text = _WIDE_COMMA.sub(",", text).translate(_WIDE)
        text = text.replace("٫", "," if decimal_comma else ".").replace("٬", "." if decimal_comma else ",")
    return _POWER.sub(r"^\1 ", text) if "^" in text else text


def _in_brackets(text: str, match: re.Match[str]) -> bool:
    """Whether grouped digits stand in a list, as in [100,200,300]."""
    around = text[max(0, match.start() - 1) : match.start()] + text[match.end() : match.end() + 1]
    return "," in match["marked"] and ("[" in around or "]" in around)


def _several(run: str, point: str) -> Iterator[Found]:
    """The numbers of a list without spaces, as in 1,2,3; else the run, as something
    that is not one number."""
    parts = run.split(",")
    if point == "." and len(parts) > 2 and all(map(_PART.fullmatch, parts)):
        yield from (Found(part, _decimal(part, point)) for part in parts)
    else:
        yield Found(run)


_PART = re.compile(r"\d{1,1000}(?:\.\d{1,1000})?")


@cache
def _grammar(decimal_comma: bool, thousands_space: bool) -> re.Pattern[str]:
    """One number: sign, currency, grouped or plain digits, decimals, then an exponent, a power or a fraction.

    A hyphen after a letter, digit or bracket is no sign: 10-5 holds 10 and 5. Groups joined by the
    thousands mark have three digits each, or two but for the last (Indian: 12,34,567).
    """
    point, mark = (",", r"\.") if decimal_comma else (r"\.", ",")
    more = rf"{{0,{_MAX_GROUPS}}}"
    marked = rf"\d{{1,3}}(?:{mark}\d{{3}}){more}{mark}\d{{3}}|\d{{1,2}}(?:{mark}\d{{2}}){more}{mark}\d{{3}}"
    spaced = rf"\d{{1,3}}(?P<gap>['’_~\u00a0\u2009\u202f])\d{{3}}(?:(?P=gap)\d{{3}}){more}(?!\d)"
    # A space parts the numbers of a row; in a row of groups of three it joins them.
    wide = rf"|(?<!\d )\d{{1,3}} \d{{3}}(?: \d{{3}}){more}(?!\d)(?! \d+(?![\d/]))" if thousands_space else ""
    head = rf"(?:(?P<marked>{marked})|{spaced}{wide}|\d+)(?:{point}\d+)?|(?<![\d.,]){point}\d+"
    exponent = r"(?P<exponent>[eE][-+−]?\d{1,4}(?!\w))"
    ten = r"\s?[×x*·]\s?10\s?(?:\^|\*\*)\s?(?P<ten>[-+−]?\d{1,4})"
    power = r"\s?(?:\^|\*\*(?=[-−]?\d+(?![\d*])))\s?(?P<power>[-+−]?\d+)"
    over = rf"\s?/\s?(?P<over>\d+(?:{point}\d+)?)"
    mixed = r"[ \u00a0\u2009](?P<part>\d{1,4}/\d{1,4})(?!/)"
    end = r"(?!\d)(?![.,:/'’_^]\d)(?!\s?/\s?\d)"
    sign, minus = rf"(?P<sign>(?<![\w)\]%])[{_DASHES}+])?", rf"(?P<minus>[{_DASHES}])?"
    tail = rf"{exponent}?(?:{ten}|{power}|{mixed}|{over})?{end}"
    number = rf"{sign}(?:[{_CURRENCY}]\s?{minus})?(?P<head>{head}){tail}"
    # Digits that a letter carries are its index or its power, unless the letters are a currency.
    word = (
        rf"(?P<word>(?<![A-Za-z])(?!(?:{_CODES})\d)(?!(?<=\d)[xX]\d)[A-Za-zµ]++(?:(?:\s?\^\s?|\*\*)[-−]?)?\d[\d.,]*"
        r"|(?<=[\w)\]])\s?\^\s?[-−]?\d+)"
    )
    junk = r"(?P<junk>\d{4}-\d{1,2}-\d{1,2}(?!\d)|\d++(?:[.,:/'’_^]\d++)*+)"
    date = r"(?!\d{4}-\d{1,2}-\d{1,2}(?!\d))"
    return re.compile(rf"{word}|{date}{number}|{junk}")


def _value(match: re.Match[str], point: str) -> Number | None:
    """The number of a match; None where it divides by 0, or is too long for exact arithmetic."""
    if len(match[0]) > MOST_DIGITS:
        return None
    head = _decimal(match["head"] + (match["exponent"] or ""), point)
    if match["ten"]:
        _, digits, exponent = head.as_tuple()
        head = Decimal((0, digits, int(exponent) + _whole(match["ten"])))
    value: Number | None = head
    if match["power"]:
        value = _power(head, _whole(match["power"]))
    elif match["part"] or match["over"]:
        top, _, bottom = (match["part"] or f"{match['head']}/{match['over']}").partition("/")
        whole, divisor = Fraction(head if match["part"] else 0), Fraction(_decimal(bottom, point))
        value = whole + Fraction(_decimal(top, point)) / divisor if divisor else None
    negative = (match["sign"] or "+") in _DASHES or match["minus"]
    return _negated(value) if negative and value is not None else value


def _negated(value: Number) -> Number:
    # The minus of a Decimal rounds to 28 digits.
    return value.copy_negate() if isinstance(value, Decimal) else -value


def _power(base: Number, exponent: int) -> Number | None:
    exact = Fraction(base)
    digits = max(len(str(exact.numerator)), len(str(exact.denominator)))
    if digits * abs(exponent) > MOST_DIGITS or (not exact and exponent < 0):
        return None
    raised = exact**exponent
    return Decimal(raised.numerator) if raised.denominator == 1 else raised


def _whole(text: str) -> int:
    return int(text.replace("−", "-"))


def _decimal(text: str, point: str) -> Decimal:
    """A number of digits, its thousands marks and decimal sign, exactly."""
    digits, mark, exponent = text.lower().partition("e")
    plain = "".join(str(int(c)) if c.isdigit() else "." for c in digits if c.isdigit() or c == point)
    return Decimal(f"{plain}{mark}{exponent.replace('−', '-')}")
