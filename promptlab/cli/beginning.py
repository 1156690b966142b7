"""`promptlab init`: an experiment to start from."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote

import click

from promptlab.program import program

_ROWS = """\
{"question": "A crate holds 12 times 8 bottles. How many is that?", "answer": 96}
{"question": "Of 60 mugs 17 broke: 60 minus 17. How many are left?", "answer": 43}
{"question": "Three boxes of 25 pens and 4 loose ones: 75 plus 4. How many pens?", "answer": 79}
"""
_EXPERIMENT = """\
# Run it:      promptlab run FILE
# Look at it:  promptlab studio
# Fields:      promptlab schema, docs/cli.md
name: NAME
dataset: {name: NAME, file_path: ROWS}
prompt_template:
  name: NAME
  user_prompt: "<question> End with the number alone."
# Runs on this machine, without a key. Then a real one, such as {name: openai/MODEL, temperature: 0}.
model: simulated/demo
evaluation:
  - metric: numeric_match
    column_mapping: {response: $inference, reference: answer}
"""


@click.command(short_help="Write an experiment to start from.")
@click.argument(
    "file", metavar="[FILE.yaml]", type=click.Path(path_type=Path), default=Path("experiment.yaml")
)
def init(file: Path) -> None:
    """Write an experiment and a few rows beside it. What is there already is left as it is."""
    rows = file.with_suffix(".jsonl")
    if file.suffix not in (".yaml", ".yml"):
        raise click.UsageError(f"{file}: an experiment's file ends in .yaml.")
    for path in (file, rows):
        if path.exists():
            raise click.UsageError(f"There is a file {path} already: name another one.")
    if not file.absolute().parent.is_dir():
        raise click.UsageError(f"There is no folder {file.absolute().parent}.")
    name = "".join(c if c.isalnum() else "_" for c in file.stem)[:100]
    text = _EXPERIMENT.replace("FILE", str(file)).replace("ROWS", json.dumps(rows.name))
    rows.write_text(_ROWS, "utf-8")
    file.write_text(text.replace("NAME", json.dumps(name)), "utf-8")
    click.echo(f"Wrote {file} and {rows}. Next: {program()} run {quote(str(file))}", err=True)
