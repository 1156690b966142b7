"""Templates: what is a placeholder, how it is filled, and what is refused before a run."""

from __future__ import annotations

import pytest

from promptlab.domain.assets import ChatMessage, Column, DatasetContent, PromptTemplate
from promptlab.domain.templates import (
    check_placeholders,
    compile_template,
    compile_template_async,
    placeholders,
)
from promptlab.errors import TemplateError


def simple(text: str) -> PromptTemplate:
    return PromptTemplate(name="qa", user_prompt=text)


def jinja(text: str) -> PromptTemplate:
    return PromptTemplate(name="qa", user_prompt=text, template_format="jinja2")


def filled(template: PromptTemplate, **row: object) -> str:
    return compile_template(template).render(row)[0]["content"]


def dataset(*columns: str | Column, rows: int = 10) -> DatasetContent:
    full = tuple(Column(name=c, type="string", rows=rows) if isinstance(c, str) else c for c in columns)
    return DatasetContent(blob="b", index="i", rows=rows, bytes=1, shards=1, columns=full, id_column=None)


@pytest.mark.parametrize(
    "name", ["question", "_x", "a1", "my column", "a.b-c_d", "größe", "質問", "प्रश्न", "X"]
)
def test_a_name_in_angle_brackets_is_a_placeholder(name: str) -> None:
    """Letters of any script, digits, `_`, `.`, `-` and inner spaces make a name."""
    assert placeholders(simple(f"Answer: <{name}>!")) == (name,)
    assert filled(simple(f"Answer: <{name}>!"), **{name: "42"}) == "Answer: 42!"


@pytest.mark.parametrize(
    "text",
    [
        "</answer>",
        "<1>",
        "a < b and c > d",
        "<>",
        "<a >",
        "< a>",
        "<a\nb>",
        "<-x>",
        "x <",
        "<a,b>",
        "<a=b>",
        "<!doctype>",
        "→<→>",
    ],
)
def test_other_angle_brackets_are_text(text: str) -> None:
    """Brackets around anything but a name stay as they are."""
    assert placeholders(simple(text)) == ()
    assert filled(simple(text)) == text


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (r"\<q>", "<q>"),
        (r"\\<q>", r"\Q"),
        (r"\\\<q>", r"\<q>"),
        (r"\\\\<q>", r"\\Q"),
        (r"C:\dir\n <q>", r"C:\dir\n Q"),
        (r"\< 3", "< 3"),
        (r"\<q><q>", "<q>Q"),
        ("<<q>>", "<Q>"),
        ("<a<q>", "<aQ"),
        ("<q>" * 3, "QQQ"),
    ],
)
def test_a_backslash_makes_a_bracket_literal_and_two_make_a_backslash(text: str, result: str) -> None:
    """Backslashes count directly before `<` only, in pairs."""
    assert filled(simple(text), q="Q") == result


def test_what_a_row_brings_is_not_expanded_again() -> None:
    """A value that looks like a placeholder or an escape is shown as it is."""
    assert filled(simple("<a> <b>"), a=r"<b> \<", b="<a>") == r"<b> \< <a>"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("é\n", "é\n"),
        ("", ""),
        (None, ""),
        (True, "true"),
        (1, "1"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        ([1, "é", None], '[1,"é",null]'),
        ({"a": {"b": 1}}, '{"a":{"b":1}}'),
    ],
)
@pytest.mark.parametrize("template", [simple("[<v>]"), jinja("[{{ v }}]")], ids=["simple", "jinja2"])
def test_values_are_written_as_text_or_json(template: PromptTemplate, value: object, text: str) -> None:
    """A string as it is, null as nothing, everything else as JSON, in both formats."""
    assert filled(template, v=value) == f"[{text}]"


def test_messages_keep_their_roles_and_placeholders_their_order() -> None:
    """System and user prompts, or a list of messages, become chat messages."""
    both = PromptTemplate(name="t", system_prompt="Be <style>.", user_prompt="<q> <style> <a>")
    assert placeholders(both) == ("style", "q", "a")
    assert compile_template(both).render({"style": "brief", "q": "1", "a": "2"}) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 brief 2"},
    ]
    chat = PromptTemplate(
        name="t",
        messages=(ChatMessage(role="user", content="<q>"), ChatMessage(role="assistant", content="ok")),
    )
    assert compile_template(chat).render({"q": "hi"}) == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ok"},
    ]


def test_a_row_without_the_column_is_an_error() -> None:
    """Rendering names the placeholder and what the row has."""
    with pytest.raises(
        TemplateError, match=r"'qa', user message: this row has no column 'q'.*the column 'x'"
    ):
        filled(simple("<q>"), x=1)


def test_a_run_of_backslashes_is_read_in_linear_time() -> None:
    """A million backslashes without a bracket are text (with backtracking this would take hours)."""
    text = "\\" * 1_000_000 + "<" * 100_000
    assert filled(simple(text + "x")).endswith("<x")


# ---- Jinja


def test_jinja_templates_have_logic_and_keep_their_last_newline() -> None:
    """Loops, attributes and filters work; nothing is escaped for HTML."""
    text = "{% for p in doc.parts %}{{ loop.index }}. {{ p | upper }}\n{% endfor %}<{{ q }}>\n"
    assert filled(jinja(text), doc={"parts": ["a", "b"]}, q="&") == "1. A\n2. B\n<&>\n"
    assert placeholders(jinja(text)) == ("doc", "q")


def test_a_jinja_syntax_error_names_its_line() -> None:
    """It is found when the template is compiled."""
    with pytest.raises(TemplateError, match=r"'qa', user message, line 3: not a valid Jinja template"):
        compile_template(jinja("a\nb\n{% if x %}"))


@pytest.mark.parametrize("text", ["{{ q | nosuchfilter }}", "{% if q is nosuchtest %}{% endif %}"])
def test_an_unknown_filter_or_test_is_found_at_compile_time(text: str) -> None:
    """It would fail on every row."""
    with pytest.raises(TemplateError, match="nosuch"):
        compile_template(jinja(text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x\n{{ q.nothing }}", "line 2: UndefinedError"),
        ("{{ missing }}", "UndefinedError: 'missing' is undefined"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ q.append(1) }}", "SecurityError"),
        ("{% for i in range(10**9) %}{% endfor %}", "OverflowError"),
    ],
)
def test_a_jinja_expression_that_fails_is_a_template_error(text: str, problem: str) -> None:
    """The sandbox's refusals and a row's own problems are named."""
    with pytest.raises(TemplateError, match=problem):
        filled(jinja(text), q=[1])


@pytest.mark.parametrize(
    "text", ["{% include 'other' %}", "{% import 'other' as o %}", "{% extends 'other' %}"]
)
def test_a_jinja_prompt_stands_alone(text: str) -> None:
    """Other templates are nowhere to be found, which is said at once."""
    with pytest.raises(TemplateError, match="'other'"):
        compile_template(jinja(text))


# ---- against a dataset


def test_a_template_whose_columns_are_there_passes() -> None:
    """Columns that no placeholder uses are fine."""
    check_placeholders(simple("<question> <context>"), dataset("context", "other", "question"))
    check_placeholders(jinja("{{ question }} {{ range(3) | list }}"), dataset("question"))


def test_a_placeholder_without_a_column_is_named_with_the_remedy() -> None:
    """The message has the placeholder, the columns, the nearest one and the two ways out."""
    with pytest.raises(TemplateError) as caught:
        check_placeholders(simple("<Questoin>"), dataset("id", "question"))
    message = str(caught.value)
    assert "no column fills <Questoin>" in message
    assert "the columns 'id', 'question'" in message
    assert "Did you mean 'question'?" in message
    assert r"write \< for a literal <" in message


def test_all_placeholders_without_a_column_are_named_and_many_columns_are_cut() -> None:
    """A hundred columns do not drown the message."""
    with pytest.raises(TemplateError) as caught:
        check_placeholders(jinja("{{ zzz }} {{ colum_7 }}"), dataset(*(f"column_{i}" for i in range(100))))
    message = str(caught.value)
    assert "{{ zzz }}, {{ colum_7 }}" in message
    assert "and 80 more" in message and "'column_90'" not in message
    assert "Did you mean 'column_7' for 'colum_7'?" in message
    assert "literal" not in message


def test_a_column_that_some_rows_lack_is_an_error() -> None:
    """The message counts them and has the first one, both ways of counting."""
    sparse = Column(name="hint", type="string", rows=7, first_missing=2)
    with pytest.raises(
        TemplateError,
        match=r"'hint' is missing in 3 of 10 rows, first in row 2 \(counting from 0; the 3rd row\)",
    ):
        check_placeholders(simple("<hint>"), dataset("q", sparse))


@pytest.mark.parametrize(
    "text", ["{{ hint | default('none') }}", "{% if hint is defined %}{{ hint }}{% endif %}"]
)
def test_a_jinja_template_may_provide_for_missing_values(text: str) -> None:
    """A default or a test for it makes a sparse column fine, but not one that does not exist."""
    sparse = Column(name="hint", type="string", rows=7, first_missing=2)
    check_placeholders(jinja(text), dataset("q", sparse))
    with pytest.raises(TemplateError, match="no column fills"):
        check_placeholders(jinja(text), dataset("q"))


# ---- what a template may take

BOMBS = [
    "{{ 'a' * 10**9 }}",
    "{{ q * 10**9 }}",
    "{{ 10 ** (10 ** 9) }}",
    "{{ n ** (n ** 9) }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{{ '%999999999d' | format(1) }}",
    "{{ '{:>999999999}'.format(q) }}",
    "{{ q | center(10**9) }}",
    "{{ q | indent(10**9) }}",
    "{{ lipsum(n=99999, html=False) }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% "
    "endfor %}{{ ns.x }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{{ range(99999) | batch(1) | map('list') | map('string') | join('x' * 9999) }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "{{ q" + " ~ q" * 200_000 + " }}",
]


@pytest.mark.parametrize("text", BOMBS, ids=lambda text: text[:40])
async def test_a_template_that_takes_too_much_is_an_error(text: str) -> None:
    """In time and in memory, when it is read and when it is filled."""
    with pytest.raises(TemplateError, match="Prompt template 'qa'"):
        await (await compile_template_async(jinja(text))).render_async({"q": "word", "n": 99})


def test_a_simple_template_does_not_multiply_a_column_without_bound() -> None:
    """A column of a megabyte, named twenty times, is more than a prompt may be."""
    with pytest.raises(TemplateError, match=r"more than 16,000,000 characters, at <q>"):
        filled(simple("<q>" * 20), q="x" * 1_000_000)


def test_many_placeholders_without_a_column_are_a_short_message() -> None:
    """With thousands of placeholders and of columns, and with names of any length."""
    text = "".join(f"<missing{n}>" for n in range(20_000)) + f"<{'y' * 100_000}>"
    with pytest.raises(TemplateError) as caught:
        check_placeholders(simple(text), dataset(*(f"column{n}" for n in range(5_000)), "z" * 100_000))
    assert "and 19,981 more" in str(caught.value) and len(str(caught.value)) < 5_000


# ---- what Jinja prints


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ options | tojson }}", '["l\'été <b> & c","東京"]'),
        ("{{ options }}", '["l\'été <b> & c","東京"]'),
        ("{{ order | tojson(indent=1) }}", '{\n "id": 1,\n "items": [\n  "a"\n ]\n}'),
        ("{{ order.items }}", '["a"]'),
        ("{{ order['items'] }}", '["a"]'),
        ("{{ other.items() | list }}", '[["x",1]]'),
        ("{{ other.items() }}", '[["x",1]]'),
        ("{% for k, v in other.items() %}{{ k }}={{ v }}{% endfor %}", "x=1"),
        ("{{ (1, 'a', none) }}", '[1,"a",null]'),
        ("{{ 1.0 }} {{ 0.1 }} {{ 10 ** 30 }}", f"1.0 0.1 {10**30}"),
        ("{{ keys }}", "of a column"),
        ("{{ [2 ** 70] }} {{ (2 ** 70) | tojson }}", f"[{2**70}] {2**70}"),
        ("{{ ['ü', 2 ** 70] | tojson(indent=0) }}", f'[\n"ü",\n{2**70}\n]'),
        ("{{ true }} {{ none }}. {{ {'a': true}.values() }} {{ range(3) }}", "true . [true] [0,1,2]"),
        ("{{ 'a' in order }} {{ order.id + 1 }} {{ 1.5e300 }} {{ -0.0 }}", "false 2 1.5e+300 -0.0"),
    ],
)
def test_jinja_prints_values_as_a_model_reads_them(text: str, result: str) -> None:
    """JSON without HTML's escapes; keys of data come before methods."""
    row = {
        "options": ["l'été <b> & c", "東京"],
        "order": {"id": 1, "items": ["a"]},
        "other": {"x": 1},
        "keys": "of a column",
    }
    assert filled(jinja(text), **row) == result


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ order.keys }}", "'keys' is a function, not a value"),
        ("{{ range }}", "is a function"),
        ("{{ q.upper }}", "'upper' is a function"),
        ("{% macro m() %}{% endmacro %}{{ m }}", "is a function"),
        ("{{ order | map('upper') }}", r"add \| list"),
        ("{{ namespace(a=1) }}", "TypeError"),
    ],
)
def test_what_is_no_value_is_not_printed(text: str, said: str) -> None:
    """A prompt never has `<built-in method keys …>` in it."""
    with pytest.raises(TemplateError, match=said):
        filled(jinja(text), order={"id": 1}, q="x")


def test_a_value_that_is_no_json_cannot_fill_a_placeholder() -> None:
    """The column and the placeholder are named; the same in Jinja, by the row."""
    with pytest.raises(TemplateError, match=r"'qa', user message: column 'q' cannot fill <q>: .*not JSON"):
        filled(simple("<q>"), q=object())
    with pytest.raises(TemplateError, match="Prompt template 'qa' cannot be filled with this row: "):
        filled(jinja("{{ q }}"), q=object())


ORDINALS = "1st 2nd 3rd 4th 9th 10th 11th 12th 13th 14th 19th 20th 21st 22nd 30th 100th 101st 111th 121st"


@pytest.mark.parametrize("ordinal", ORDINALS.split())
def test_rows_are_counted_as_people_count(ordinal: str) -> None:
    """Eleventh, twelfth and thirteenth are their own."""
    first = int(ordinal[:-2]) - 1
    sparse = Column(name="hint", type="string", rows=199, first_missing=first)
    with pytest.raises(TemplateError, match=rf"in 1 of 200 rows, first in row {first} .* {ordinal} row\)"):
        check_placeholders(simple("<hint>"), dataset(sparse, rows=200))


def test_a_prompt_of_the_greatest_length_is_filled() -> None:
    """16 million characters, the template's own among them; not one more."""
    assert len(filled(simple("<q>"), q="x" * 15_999_997)) == 15_999_997
    with pytest.raises(TemplateError, match=r"more than 16,000,000 .* at <q>\. Shorten the column 'q'"):
        filled(simple("<q>"), q="x" * 15_999_998)
    assert len(filled(jinja("{{ q }}"), q="x" * 16_000_000)) == 16_000_000
    with pytest.raises(TemplateError, match=r"more than 16,000,000 characters"):
        filled(jinja("{{ q }}"), q="x" * 16_000_001)


def test_a_dataset_without_columns_is_said_to_have_none() -> None:
    """And one with a single column has that."""
    with pytest.raises(TemplateError, match=r"no column fills <q>\. The dataset has no columns\."):
        check_placeholders(simple("<q>"), dataset())
    with pytest.raises(TemplateError, match=r"The dataset has the column 'a'\."):
        check_placeholders(simple("<q>"), dataset("a"))
