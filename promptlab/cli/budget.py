"""`promptlab budget`: what the runs of a store, or of a hosted project, may cost in a month."""

from __future__ import annotations

import asyncio

import click

from promptlab.cli.options import Store, json_option, opened, show_json, store_options


@click.command(
    short_help="Show or set what runs may cost in a month.",
    epilog="It holds for all runs of a local store, and for those of one project of a hosted Studio, whose "
    "admins set it. A month is one of the calendar, in UTC.",
)
@click.argument("usd", metavar="[USD|none]", required=False)
@store_options
@json_option
def budget(usd: str | None, store: Store, as_json: bool) -> None:
    """Show what runs may cost in a month and have cost in this one; with USD set it, with none remove it.

    A call that could go beyond is not made: its run ends as budget_reached. A budget for one run is
    `promptlab run --max-cost-usd`.
    """
    from promptlab.report import dollars

    found = asyncio.run(_budget(store, usd))
    if as_json:
        show_json(found)
    elif found["max_cost_usd_a_month"] is None:
        click.echo("No budget: runs may cost what they cost.")
    else:
        most, spent = found["max_cost_usd_a_month"], found["spent_usd_this_month"]
        click.echo(f"{dollars(most)} a month; {dollars(spent)} are spent of it in this one.")


async def _budget(store: Store, text: str | None) -> dict[str, float | None]:
    async with opened(store) as lab:
        if text is not None:
            await lab.set_month_usd(_usd(text))
        return {
            "max_cost_usd_a_month": await lab.month_usd(),
            "spent_usd_this_month": await lab.spent_this_month(),
        }


def _usd(text: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        return float(text.removeprefix("$"))
    except ValueError:
        raise click.UsageError(f"{text!r} is no number of dollars, as in 50, and not none.") from None
