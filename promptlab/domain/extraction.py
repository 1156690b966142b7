"""The steps that take what is judged out of an answer, as an experiment writes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_serializer, model_validator

PLAIN = ("last_number", "boxed", "choice", "code_block")
"""Steps that may be written as a name alone."""
STEPS = (*PLAIN[:2], "after", "json", "regex", *PLAIN[2:], "strip")
_HOW = (
    "a step is last_number, boxed, choice or code_block, or one of {after: 'Answer:'}, {json: $.path}, "
    "{regex: '…'}, {choice: ABCDE}, {code_block: python} and {strip: reasoning}"
)
LETTERS = "ABCD"
"""The letters of a choice, unless a step names others."""


class Step(BaseModel):
    """One step of an extraction: exactly one of its fields, besides `take`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    last_number: Literal[True] | None = Field(default=None, description="The last number of the text.")
    boxed: Literal[True] | None = Field(
        default=None, description="What the last \\boxed{…} of the text has in it."
    )
    after: str | None = Field(
        default=None,
        min_length=1,
        max_length=1_000,
        description="What follows this text, up to the end; upper and lower case are the same.",
    )
    json_path: str | None = Field(
        default=None,
        alias="json",
        min_length=1,
        max_length=1_000,
        description="The value at this path of the JSON in the text: $.answer, $.items[0], $['a name'].",
    )
    regex: str | None = Field(
        default=None,
        min_length=1,
        max_length=10_000,
        description="What this pattern matches: its first group that took part, or all of it.",
    )
    choice: Literal[True] | str | None = Field(
        default=None, description="The letter that the text chooses, of A to D or of these letters."
    )
    code_block: Literal[True] | str | None = Field(
        default=None, description="The last fenced block of code, or the last one of this language."
    )
    strip: Literal["reasoning"] | None = Field(
        default=None, description="The text without what was thought: <think>…</think> and the like."
    )
    take: Literal["first", "last"] | None = Field(
        default=None, description="With after and regex: which occurrence counts; the last by default."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in PLAIN:
                raise ValueError(f"{value[:80]!r} is no step: {_HOW}")
            return {value: True}
        return value

    @model_validator(mode="after")
    def _is_one(self) -> Step:
        given = [name for name in STEPS if getattr(self, "json_path" if name == "json" else name) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'nothing'} in one step: {_HOW}")
        if self.take is not None and given[0] not in ("after", "regex"):
            raise ValueError(f"take is for after and regex, not for {given[0]}")
        letters = self.choice
        if isinstance(letters, str) and not (
            2 <= len(set(letters)) == len(letters) <= 26 and letters.isascii() and letters.isupper()
        ):
            raise ValueError(f"choice must be 2 to 26 capital letters, each once, not {letters[:40]!r}")
        if isinstance(self.code_block, str) and not 1 <= len(self.code_block) <= 50:
            raise ValueError("code_block must name a language, as in {code_block: python}")
        return self

    @property
    def kind(self) -> str:
        """The name of the step."""
        return next(n for n in STEPS if getattr(self, "json_path" if n == "json" else n) is not None)

    @property
    def value(self) -> str | None:
        """Its argument; None where it has none."""
        found = getattr(self, "json_path" if self.kind == "json" else self.kind)
        return found if isinstance(found, str) else None

    @model_serializer
    def as_written(self) -> str | dict[str, str]:
        """Write the step as an experiment does."""
        if self.value is None:
            return self.kind
        return {self.kind: self.value, **({"take": self.take} if self.take else {})}

    def described(self) -> str:
        """Say the step in words: `after 'Answer:'`."""
        take = f" ({self.take})" if self.take else ""
        return self.kind if self.value is None else f"{self.kind} {self.value!r}{take}"


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | dict | Step) else value


Steps = Annotated[
    tuple[Step, ...],
    BeforeValidator(_listed, json_schema_input_type=str | dict[str, str] | list[str | dict[str, str]]),
    Field(max_length=10),
]
"""A chain of steps: each gets what the one before it gave. One step may stand alone."""
