"""The cost of a model call: a dated price table, which a configuration overrides. Unknown stays unknown."""

from __future__ import annotations

import functools
import re
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import orjson

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.secrets import OWN_HOSTS

LISTED_HOSTS = {provider: urlsplit(origins[0]).hostname or "" for provider, origins in OWN_HOSTS.items()}
"""The host of each provider at which the prices of its list hold: the first of its own. Its regional ones
have prices of their own, and so has anybody else behind another endpoint."""
CACHE_WRITE, CACHE_WRITE_HOUR = 1.25, 2.0
BATCH = "batch"
"""The tier of batch mode; half the price wherever there is one, also Gemini's, which no row is of."""
_TIERS = {
    "openai": {"flex": 0.5, BATCH: 0.5},
    "anthropic": {BATCH: 0.5},
    "bedrock": {BATCH: 0.5},
    "groq": {"flex": 1.0, "on_demand": 1.0},
}
"""What a provider's service tiers cost, as a share of the standard price. OpenAI charges flex as its batches,
half (developers.openai.com/api/docs/guides/flex-processing); Groq as any call
(console.groq.com/docs/flex-processing). Batches: platform.claude.com, "Batch processing"; aws.amazon.com,
"Amazon Bedrock pricing"."""
_STANDARD_TIERS = (None, "default", "standard", "standard_only")
# A version that costs what its model costs: gpt-4o-2024-08-06, claude-sonnet-4-20250514, …-v2:0.
# Four digits are not one of these: mistral-large-2407 and -2512 have different prices.
_DATE = re.compile(
    r"-(20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])|20\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))$"
)
_BEDROCK_VERSION = re.compile(r"-v\d+(:\d+)?(:\d+k)?$")
_BEDROCK_REGION = re.compile(r"^(us|us-gov|eu|apac|jp|au|ca|global)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Dollars per million tokens; None for the half that is not known."""

    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None
    as_of: str | None = None
    """The day (ISO) that the table has the price from; None for a price from the configuration."""
    source: str = "table"
    """table, config (both halves from the configuration) or table+config."""
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def price_of(config: ModelConfig, *, tier: str | None = None) -> Price | None:
    """The price of a model, or None where it is not known.

    `input_usd_per_mtok` and `output_usd_per_mtok` of the configuration go before the table.

    Args:
        config: the model.
        tier: the service tier that the provider says it billed; default: the one that the configuration
            asks for.
    """
    listed = _listed(config, tier or config.extra_params.get("service_tier"))
    own_in, own_out = config.input_usd_per_mtok, config.output_usd_per_mtok
    if own_in is None and own_out is None:
        return listed
    if listed is None or (own_in is not None and own_out is not None):
        return Price(input_usd_per_mtok=own_in, output_usd_per_mtok=own_out, source="config")
    return Price(
        input_usd_per_mtok=listed.input_usd_per_mtok if own_in is None else own_in,
        output_usd_per_mtok=listed.output_usd_per_mtok if own_out is None else own_out,
        as_of=listed.as_of,
        source="table+config",
        note=listed.note,
    )


def cost_usd(price: Price | None, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
    """Dollars of one call; None when a price or a number of tokens that it needs is not known."""
    if price is None:
        return None
    total = 0.0
    for usd_per_mtok, tokens in (
        (price.input_usd_per_mtok, prompt_tokens),
        (price.output_usd_per_mtok, completion_tokens),
    ):
        if usd_per_mtok == 0 or tokens == 0:
            continue
        if usd_per_mtok is None or tokens is None:
            return None
        total += usd_per_mtok * tokens / 1_000_000
    return total


def cost_with_cache_usd(
    price: Price | None,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    cached: int,
    cached_for_an_hour: int = 0,
) -> float | None:
    """Work out a call's dollars where tokens read were written to Anthropic's cache, which costs more.

    1.25 times the price of a token read for the five minutes that are the default, twice it for an hour
    (docs.anthropic.com, "Prompt caching", Pricing). Tokens read from the cache cost less; they count in full.

    Args:
        cached: how many of `prompt_tokens` were written to the cache.
        cached_for_an_hour: how many of `cached` for an hour.
    """
    plain = cost_usd(price, prompt_tokens, completion_tokens)
    if price is None or plain is None or price.input_usd_per_mtok is None:
        return plain
    more = (cached - cached_for_an_hour) * (CACHE_WRITE - 1) + cached_for_an_hour * (CACHE_WRITE_HOUR - 1)
    return plain + more * price.input_usd_per_mtok / 1_000_000


def tier_share(config: ModelConfig, tier: object) -> float | None:
    """The share of the standard price that a service tier costs; None where it is not known."""
    if tier in _STANDARD_TIERS:
        return 1.0
    return _TIERS.get(config.provider, {}).get(tier) if isinstance(tier, str) else None


def _listed(config: ModelConfig, tier: object) -> Price | None:
    if config.provider == "simulated":
        return Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)
    share = tier_share(config, tier)
    if share is None or not is_own_endpoint(config):
        return None
    if config.provider == "openrouter" and config.model_id.endswith(":free"):
        return Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)
    row = listed_row(config)
    if row is None:
        return None
    notes = (row.get("note"), None if share == 1 else f"{share:.0%} of it for service_tier {tier}")
    return Price(
        input_usd_per_mtok=float(row["input"]) * share,
        output_usd_per_mtok=float(row["output"]) * share,
        as_of=row["as_of"],
        note="; ".join(note for note in notes if note) or None,
    )


def is_own_endpoint(config: ModelConfig) -> bool:
    """Whether calls go to the provider itself: others behind an endpoint have prices
    and models of their own."""
    if config.endpoint is None:
        return True
    host = urlsplit(config.endpoint).hostname or ""
    own = LISTED_HOSTS.get(config.provider)
    return host.endswith(".amazonaws.com") if config.provider == "bedrock" else host == own


def listed_row(config: ModelConfig) -> dict[str, Any] | None:
    """The row of the table that is a model's, by its exact name first, then by that of
    which it is a version."""
    provider, model = config.provider, config.model_id
    if provider == "openrouter":
        # OpenRouter passes on what these two charge; with other models the price depends on who serves them.
        provider, _, model = model.partition("/")
        if provider not in ("openai", "anthropic") or ":" in model:
            return None
        model = model.replace(".", "-") if provider == "anthropic" else model
    table = _table()
    return next(
        (table[provider, name] for name in _names(provider, model) if (provider, name) in table), None
    )


def _names(provider: str, model: str) -> list[str]:
    """The names under which a model may be listed, the most exact one first."""
    names = [model]
    if provider == "bedrock":
        names = [model, _BEDROCK_REGION.sub("", model)]
        names += [_BEDROCK_VERSION.sub("", name) for name in names]
    return [*names, *(_DATE.sub("", name) for name in names)]


@functools.cache
def _table() -> dict[tuple[str, str], dict[str, Any]]:
    rows = orjson.loads(resources.files("promptlab.domain").joinpath("prices.json").read_bytes())["prices"]
    return {(row["provider"], row["model"]): row for row in rows}
