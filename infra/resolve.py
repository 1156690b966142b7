"""A transformed template as one deployment has it: conditions decided, parameters filled in.

The rules of checkov and cfn-guard look at values and know no `Fn::If`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

NOTHING = object()
"""The value of AWS::NoValue: what holds it is left out."""
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "lab",
    "AWS::URLSuffix": "amazonaws.com",
}


def resolved(template: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    """The template with these parameters, and the default of each other one."""
    return _Deployment(template, parameters).template()


_KINDS: dict[str, Callable[[str], Any]] = {"CommaDelimitedList": lambda text: text.split(","), "Number": int}


class _Deployment:
    def __init__(self, template: dict[str, Any], parameters: dict[str, str]) -> None:
        self._source = template
        declared = template["Parameters"]
        given = {name: str(one["Default"]) for name, one in declared.items()} | parameters
        self._values: dict[str, Any] = PSEUDO | {
            name: _KINDS.get(declared[name]["Type"], str)(value) for name, value in given.items()
        }
        self._holds: dict[str, bool] = {}

    def template(self) -> dict[str, Any]:
        """The template without conditions; resources of which the condition does not hold are gone."""
        decided = ("Conditions", "Rules", "Outputs", "Parameters")
        found = {k: v for k, v in self._source.items() if k not in decided}
        found["Resources"] = {
            name: self._value({k: v for k, v in resource.items() if k != "Condition"})
            for name, resource in self._source["Resources"].items()
            if "Condition" not in resource or self._condition(resource["Condition"])
        }
        return found

    def _condition(self, name: str) -> bool:
        if name not in self._holds:
            self._holds[name] = self._truth(self._source["Conditions"][name])
        return self._holds[name]

    def _truth(self, rule: Any) -> bool:
        ((kind, parts),) = rule.items()
        if kind == "Condition":
            return self._condition(parts)
        if kind == "Fn::Equals":
            first, second = (str(self._value(part)) for part in parts)
            return first == second
        if kind == "Fn::Not":
            return not self._truth(parts[0])
        truths = [self._truth(part) for part in parts]
        return all(truths) if kind == "Fn::And" else any(truths)

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [kept for one in value if (kept := self._value(one)) is not NOTHING]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"Fn::If"}:
            condition, yes, no = value["Fn::If"]
            return self._value(yes if self._condition(condition) else no)
        if value.keys() == {"Ref"}:
            return NOTHING if value["Ref"] == "AWS::NoValue" else self._values.get(value["Ref"], value)
        if value.keys() == {"Fn::Select"}:
            index, choices = value["Fn::Select"]
            found = self._value(choices)
            return found[int(index)] if isinstance(found, list) else f"one-of-them-{index}"
        if value.keys() == {"Fn::FindInMap"}:
            mapping, first, second = (self._value(part) for part in value["Fn::FindInMap"])
            return self._source["Mappings"][mapping][first][second]
        if value.keys() == {"Fn::GetAtt"} and value["Fn::GetAtt"][1] == "Arn":
            return self._arn(value["Fn::GetAtt"][0])
        if value.keys() == {"Fn::Sub"} and isinstance(value["Fn::Sub"], str):
            return self._text(value["Fn::Sub"])
        return {k: kept for k, v in value.items() if (kept := self._value(v)) is not NOTHING}

    def _arn(self, name: str) -> str:
        """An ARN of the form that rules look at."""
        if self._source["Resources"][name]["Type"] == "AWS::S3::Bucket":
            return f"arn:aws:s3:::{name.lower()}"
        return f"arn:aws:service:us-east-1:123456789012:{name}"

    def _text(self, text: str) -> Any:
        known = {name: value for name, value in self._values.items() if isinstance(value, str)}
        arns = re.sub(r"\$\{(\w+)\.Arn\}", lambda m: self._arn(m[1]), text)
        return re.sub(r"\$\{([\w:.]+)\}", lambda m: known.get(m[1], m[1]), arns)
