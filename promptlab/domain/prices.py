"""The cost of a model call: a dated price table, which a configuration overrides. Unknown stays unknown."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import orjson

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.results import ModelResponse
from promptlab.domain.secrets import OWN_HOSTS

LISTED_HOSTS = {provider: urlsplit(origins[0]).hostname or "" for provider, origins in OWN_HOSTS.items()}
"""The host of each provider at which the prices of its list hold: the first of its own. Its regional ones
have prices of their own, and so has anybody else behind another endpoint."""
_FURTHER_HOSTS = {
    "generativelanguage.googleapis.com": "google",
    "api.x.ai": "x-ai",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.moonshot.ai": "moonshotai",
}
"""Others that speak OpenAI's protocol and have a list of prices: `openai/…` with their endpoint."""
BATCH = "batch"
"""The tier of batch mode."""
_TIERS = {
    "openai": {"flex": 0.5, BATCH: 0.5},
    "anthropic": {BATCH: 0.5},
    "bedrock": {BATCH: 0.5},
    "groq": {"flex": 1.0, "on_demand": 1.0},
}
"""What a provider's service tiers cost, as a share of the standard price, where the table has no price of
their own. OpenAI charges flex as its batches, half (developers.openai.com/api/docs/guides/flex-processing);
Groq as any call (console.groq.com/docs/flex-processing). Batches: platform.claude.com, "Batch processing";
aws.amazon.com, "Amazon Bedrock pricing"."""
_STANDARD_TIERS = (None, "default", "standard", "standard_only")
_WRITES_COST = {"anthropic": (1.25, 2.0), "bedrock": (1.25, 2.0)}
"""What a token that is written to the cache costs, as a multiple of one that is read, where the price of
reading is given and that of writing is not: for five minutes, and for an hour (docs.anthropic.com, "Prompt
caching", Pricing)."""
# A version that costs what its model costs: gpt-4o-2024-08-06, claude-sonnet-4-20250514, …-v2:0.
# Four digits are not one of these: mistral-large-2407 and -2512 have different prices.
_DATE = re.compile(
    r"-(20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])|20\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))$"
)
_BEDROCK_VERSION = re.compile(r"-v\d+(:\d+)?(:\d+k)?$")
_BEDROCK_REGION = re.compile(r"^(us|us-gov|eu|apac|jp|au|ca|global)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPrompt:
    """What all tokens of a call cost whose prompt is longer than `above_tokens`, as in `Price`."""

    above_tokens: int
    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None
    cached_usd_per_mtok: float | None = None
    cache_write_usd_per_mtok: float | None = None
    cache_write_hour_usd_per_mtok: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Dollars per million tokens; None for the half that is not known."""

    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None
    cached_usd_per_mtok: float | None = None
    """A token from the provider's cache; None: as any token that is read."""
    cache_write_usd_per_mtok: float | None = None
    """A token that goes into the provider's cache; None: as any token that is read."""
    cache_write_hour_usd_per_mtok: float | None = None
    """One that stays there for an hour; None: as any token that goes there."""
    long_prompts: tuple[LongPrompt, ...] = ()
    """Where long prompts cost more: from the shortest of them to the longest."""
    as_of: str | None = None
    """The day (ISO) that the table has the price from; None for a price from the configuration."""
    source: str = "table"
    """Who lists it: table, or the kept table's name and version; config (both halves from the configuration),
    or both (table+config)."""
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        found = {**asdict(self), "long_prompts": [_known(asdict(step)) for step in self.long_prompts]}
        return {name: value for name, value in found.items() if value not in (None, [])}

    def rates(self, prompt_tokens: float | None) -> Price | LongPrompt:
        """The rates for a prompt of so many tokens."""
        over = [step for step in self.long_prompts if (prompt_tokens or 0) > step.above_tokens]
        return over[-1] if over else self


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def price_of(config: ModelConfig, *, tier: str | None = None) -> Price | None:
    """The price of a model, or None where it is not known.

    `input_usd_per_mtok` and `output_usd_per_mtok` of the configuration go before the table.

    Args:
        config: the model.
        tier: the service tier that the provider says it billed; default: the one that the configuration
            asks for.
    """
    asked = tier or config.extra_params.get("service_tier")
    own = (config.input_usd_per_mtok, config.output_usd_per_mtok)
    known = asked if isinstance(asked, str) else asked is None  # what is no name is no tier either
    key = (config.name, config.endpoint, known, *own)
    if key not in _found:
        if len(_found) >= _MOST_FOUND:
            _found.clear()
        _found[key] = _price_of(config, asked)
    return _found[key]


_found: dict[tuple[Any, ...], Price | None] = {}
"""Prices by what they depend on: each call of a model asks for its price twice or more."""
_MOST_FOUND = 1_000


def _price_of(config: ModelConfig, tier: object) -> Price | None:
    listed = _listed(config, tier)
    own_in, own_out = config.input_usd_per_mtok, config.output_usd_per_mtok
    if own_in is None and own_out is None:
        return listed
    if listed is None or (own_in is not None and own_out is not None):
        own = Price(input_usd_per_mtok=own_in, output_usd_per_mtok=own_out, source="config")
        return _with_writes(own, config.provider)
    mixed = replace(listed, source=f"{listed.source}+config", long_prompts=())
    if own_in is None:
        return replace(mixed, output_usd_per_mtok=own_out)
    # What the cache costs hangs on the price of reading.
    bare = Price(
        input_usd_per_mtok=own_in,
        output_usd_per_mtok=listed.output_usd_per_mtok,
        as_of=listed.as_of,
        source=mixed.source,
        note=listed.note,
    )
    return _with_writes(bare, config.provider)


def _with_writes(price: Price, provider: str) -> Price:
    """The price with that of tokens that go into the cache, where the provider has a multiple for them."""
    shares = _WRITES_COST.get(provider)
    read = price.input_usd_per_mtok
    if shares is None or read is None or price.cache_write_usd_per_mtok is not None:
        return price
    return replace(
        price, cache_write_usd_per_mtok=read * shares[0], cache_write_hour_usd_per_mtok=read * shares[1]
    )


def cost_usd(
    price: Price | None,
    prompt_tokens: float | None,
    completion_tokens: float | None,
    *,
    cached: int | None = None,
    cache_write: int | None = None,
    for_an_hour: int = 0,
) -> float | None:
    """Dollars of one call; None when a price or a number of tokens that it needs is not known.

    Args:
        price: the model's price.
        prompt_tokens: tokens read in all, those from and for the cache among them.
        completion_tokens: tokens written.
        cached: how many of `prompt_tokens` came from the provider's cache; unknown counts as none.
        cache_write: how many of them went into it; unknown counts as none.
        for_an_hour: how many of `cache_write` stay there for an hour.
    """
    if price is None:
        return None
    rates, read = price.rates(prompt_tokens), prompt_tokens
    own = rates.input_usd_per_mtok
    parts: list[tuple[float | None, float | None]] = []
    if read is not None and (cached or cache_write):
        from_cache = min(cached or 0, read)
        hour = min(for_an_hour, cache_write or 0)
        into_cache = min(cache_write or 0, read - from_cache) - hour
        write = _or(rates.cache_write_usd_per_mtok, own)
        parts = [
            (_or(rates.cached_usd_per_mtok, own), from_cache),
            (write, into_cache),
            (_or(rates.cache_write_hour_usd_per_mtok, write), hour),
        ]
        read -= from_cache + into_cache + hour
    total = 0.0
    for usd_per_mtok, tokens in ((own, read), *parts, (rates.output_usd_per_mtok, completion_tokens)):
        if usd_per_mtok == 0 or tokens == 0:
            continue
        if usd_per_mtok is None or tokens is None:
            return None
        total += usd_per_mtok * tokens / 1_000_000
    return total


def _or(rate: float | None, other: float | None) -> float | None:
    return other if rate is None else rate


def cost_of(price: Price | None, answer: ModelResponse) -> float | None:
    """Dollars of an answer: what it says itself, else what its tokens cost."""
    if answer.cost_usd is not None:
        return answer.cost_usd
    return cost_usd(
        price,
        answer.prompt_tokens,
        answer.completion_tokens,
        cached=answer.cached_tokens,
        cache_write=answer.cache_write_tokens,
    )


def tier_share(config: ModelConfig, tier: object) -> float | None:
    """The share of the standard price that a service tier costs, where the table has no price of its own;
    None where that is not known."""
    if tier in _STANDARD_TIERS:
        return 1.0
    return _TIERS.get(config.provider, {}).get(tier) if isinstance(tier, str) else None


def _listed(config: ModelConfig, tier: object) -> Price | None:
    free = config.provider == "openrouter" and config.model_id.endswith(":free")
    if config.provider == "simulated" or (free and is_own_endpoint(config)):
        return Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)
    row = listed_row(config)
    if row is None:
        return None
    note, share = row.get("note"), 1.0
    if tier not in _STANDARD_TIERS:
        own = row.get("tiers", {}).get(tier) if isinstance(tier, str) else None
        if own is not None:
            row, note = {**row, **own}, "; ".join(filter(None, (note, f"as service_tier {tier}")))
        elif (known := tier_share(config, tier)) is None:
            return None
        elif known != 1:
            share, note = known, "; ".join(filter(None, (note, f"{known:.0%} of it for service_tier {tier}")))
    return _with_writes(_price(row, share, note), config.provider)


_RATES = {
    "input": "input_usd_per_mtok",
    "output": "output_usd_per_mtok",
    "cached": "cached_usd_per_mtok",
    "cache_write": "cache_write_usd_per_mtok",
    "cache_write_hour": "cache_write_hour_usd_per_mtok",
}


def _price(row: Mapping[str, Any], share: float, note: str | None) -> Price:
    """Read a row of a table. A rate with steps is a list: the standard one, then [tokens, the rate above]."""
    given = {"output": 0.0, **{name: row[name] for name in _RATES if name in row}}
    rates = {name: rate if isinstance(rate, list) else [rate] for name, rate in given.items()}
    above = sorted({int(step[0]) for rate in rates.values() for step in rate[1:]})
    steps = [
        LongPrompt(
            above_tokens=tokens,
            **{_RATES[name]: share * _rate_above(rate, tokens) for name, rate in rates.items()},
        )
        for tokens in above
    ]
    base: dict[str, Any] = {_RATES[name]: share * float(rate[0]) for name, rate in rates.items()}
    about: dict[str, Any] = {"as_of": row["as_of"], "source": row["source"], "note": note}
    return Price(**about, **base, long_prompts=tuple(steps))


def _rate_above(rate: list[Any], tokens: int) -> float:
    return float(([rate[0], *(step[1] for step in rate[1:] if step[0] <= tokens)])[-1])


def is_own_endpoint(config: ModelConfig) -> bool:
    """Whether calls go to the provider itself: others behind an endpoint have prices
    and models of their own."""
    if config.endpoint is None:
        return True
    host = urlsplit(config.endpoint).hostname or ""
    own = LISTED_HOSTS.get(config.provider)
    return host.endswith(".amazonaws.com") if config.provider == "bedrock" else host == own


def listed_as(config: ModelConfig) -> tuple[str, str] | None:
    """The provider whose list a model is on, and its name there; None where it is on none."""
    provider, model = config.provider, config.model_id
    if not is_own_endpoint(config):
        host = urlsplit(config.endpoint or "").hostname or ""
        found = _FURTHER_HOSTS.get(host) if provider == "openai" else None
        return (found, model.removeprefix("models/")) if found else None
    if provider == "openrouter":
        # OpenRouter passes on what these two charge; with other models the price depends on who serves them.
        provider, _, model = model.partition("/")
        if provider not in ("openai", "anthropic") or ":" in model:
            return None
        model = model.replace(".", "-") if provider == "anthropic" else model
    return provider, model


def listed_row(config: ModelConfig) -> dict[str, Any] | None:
    """The row of the tables that is a model's, by its exact name first, then by that of
    which it is a version."""
    found = listed_as(config)
    return None if found is None else _row(*found)


@functools.lru_cache(maxsize=4096)
def _row(provider: str, model: str) -> dict[str, Any] | None:
    kept = _kept()
    for name in names_of(provider, model):
        if (own := _table().get((provider, name))) is not None:
            return own
        for row in kept.get(provider, ()):
            if _fits(row["match"], name):
                return row
    return None


def names_of(provider: str, model: str) -> list[str]:
    """The names under which a model may be listed, the most exact one first."""
    names = [model]
    if provider == "bedrock":
        names = [model, _BEDROCK_REGION.sub("", model)]
        names += [_BEDROCK_VERSION.sub("", name) for name in names]
    return list(dict.fromkeys([*names, *(_DATE.sub("", name) for name in names)]))


def _fits(clause: Mapping[str, Any], name: str) -> bool:
    """Whether a row's clause is for a name, as `genai-prices` has it."""
    ((kind, what),) = clause.items()
    if kind in ("or", "and"):
        return (any if kind == "or" else all)(_fits(one, name) for one in what)
    if kind == "regex":
        return re.search(what, name) is not None
    low, what = name.lower(), what.lower()
    if kind == "equals":
        return bool(low == what)
    if kind == "contains":
        return what in low
    return low.startswith(what) if kind == "starts_with" else low.endswith(what)


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(resources.files("promptlab.domain").joinpath(name).read_bytes())
    return found


@functools.cache
def _table() -> dict[tuple[str, str], dict[str, Any]]:
    """Prices of our own, which go before the kept table."""
    rows = _read("prices.json")["prices"]
    return {(row["provider"], row["model"]): {"source": "table", **row} for row in rows}


@functools.cache
def _kept() -> dict[str, list[dict[str, Any]]]:
    """The kept table, which `make prices` writes anew: by provider, in the order of looking up."""
    table = _read("model_prices.json")
    about = {name: table[name] for name in ("source", "as_of")}
    return {
        provider: [{**about, **row} for row in rows]
        for provider, rows in table.items()
        if isinstance(rows, list)
    }
