"""The options that name a deployed stack."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click


def stack_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --stack-name, --region and --profile, and call it with the `stack` that they mean."""

    @click.option(
        "--stack-name",
        metavar="NAME",
        help="The stack.  [env var: PROMPTLAB_STACK; default: that of samconfig.toml, else promptlab]",
    )
    @click.option(
        "--region",
        metavar="REGION",
        help="Its region.  [env var: AWS_REGION; default: that of samconfig.toml, else of the profile]",
    )
    @click.option("--profile", metavar="PROFILE", help="A profile of ~/.aws/config.  [env var: AWS_PROFILE]")
    @functools.wraps(command)
    def with_stack(
        *args: Any, stack_name: str | None, region: str | None, profile: str | None, **options: Any
    ) -> Any:
        from promptlab.cloud.stack import Stack

        return command(*args, stack=Stack(stack_name, region=region, profile=profile), **options)

    return with_stack
