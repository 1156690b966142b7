"""The command line: `promptlab run EXPERIMENT.yaml` and what goes with it.

The modules of the commands import little beside click: what a command needs it loads when it runs,
so that `promptlab --help` is there at once.
"""

from __future__ import annotations

import errno
import sys
from io import TextIOWrapper
from typing import Any

import click

from promptlab.cli.assets import code, datasets, prompts
from promptlab.cli.beginning import init
from promptlab.cli.budget import budget
from promptlab.cli.cache import cache
from promptlab.cli.cloud import cloud
from promptlab.cli.comparing import compare
from promptlab.cli.deletions import deletions
from promptlab.cli.doctor import doctor
from promptlab.cli.editing import archive, delete, describe, label, tag
from promptlab.cli.gating import gate
from promptlab.cli.labels import judge, labels
from promptlab.cli.planning import estimate, power
from promptlab.cli.results import export, runs, show
from promptlab.cli.running import cancel, resume, run
from promptlab.cli.scoring import score
from promptlab.cli.serving import schema, studio, version
from promptlab.cli.slicing import slices
from promptlab.cli.sql import sql
from promptlab.cli.sweeping import sweep
from promptlab.domain.masking import hide_text
from promptlab.errors import DiskFullError, ModelError, PromptLabError
from promptlab.program import program

__all__ = ["commands", "main"]

INTERRUPTED = 130
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""The machine's faults and not ours: what a user mends is a message, without our lines of code."""


class _Refused(click.ClickException):
    exit_code = 2


class _Commands(click.Group):
    """Commands in the order in which one meets them; an error of ours is one message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and error.filename is None:  # of os.getcwd()
                raise _Refused(
                    "The working folder was deleted: go to another, or give absolute paths."
                ) from error
            if error.errno not in _OF_THE_DISK:
                raise
            raise click.ClickException("\n".join((str(error), *getattr(error, "__notes__", ())))) from error
        except PromptLabError as error:
            ours = isinstance(error, (ModelError, DiskFullError))  # nothing is wrong with what was asked for
            raise (click.ClickException if ours else _Refused)(hide_text(str(error))) from error


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="promptlab-serverless", message="%(version)s")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Run a prompt over every row of a dataset, score the answers, keep all of it.

    \b
    Exit codes:
      0    it is done; a run ended with status completed, and some of its cases may have failed
      1    a run failed as a whole, every case of it failed, or something unexpected happened
      2    wrong usage or configuration: nothing was run or stored
      3    with --fail-on-error: the run is completed, and some of its cases failed
      4    with --fail-if: the run is completed, and a condition holds; a gate that fails
      5    a gate that cannot decide
      130  interrupted by Ctrl-C; 143 by SIGTERM. What was answered is kept: promptlab resume
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (
    *(init, run, resume, score, cancel, gate),
    *(runs, show, compare, slices, sweep, sql, power, estimate, export, tag, describe, archive),
    *(delete, deletions),
    *(prompts, datasets, code, label, labels, judge),
    *(studio, cloud, budget, cache, doctor, schema, version),
):
    commands.add_command(command)


def main() -> None:
    """Run the command that `sys.argv` names, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows ? for what it lacks
    commands(prog_name=program())
