"""The price table: what it knows, and what it must not claim to know."""

from __future__ import annotations

from datetime import date

import pytest

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import Price, _table, cost_usd, cost_with_cache_usd, price_of


def listed(name: str, **params: object) -> tuple[float | None, float | None] | None:
    price = price_of(ModelConfig.model_validate({"name": name, **params}))
    return (price.input_usd_per_mtok, price.output_usd_per_mtok) if price else None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai/gpt-4o-mini", (0.15, 0.60)),
        ("openai/gpt-4o-mini-2024-07-18", (0.15, 0.60)),
        ("openai/gpt-4o-2024-08-06", (2.50, 10.0)),
        ("openai/gpt-4o-mini-20240718", (0.15, 0.60)),
        ("openai/gpt-6-luna", (0.10, 0.50)),
        ("openrouter/openai/gpt-4o-mini-2024-07-18", (0.15, 0.60)),
        ("bedrock/eu.anthropic.claude-3-5-sonnet-20240620-v1:0:18k", (3.0, 15.0)),
        ("openai/gpt-4o-2024-05-13", (5.0, 15.0)),
        ("openai/text-embedding-3-small", (0.02, 0.0)),
        ("anthropic/claude-sonnet-4-5-20250929", (3.0, 15.0)),
        ("anthropic/claude-sonnet-4-20250514", (3.0, 15.0)),
        ("groq/openai/gpt-oss-120b", (0.15, 0.60)),
        ("bedrock/us.anthropic.claude-3-5-sonnet-20241022-v2:0", (3.0, 15.0)),
        ("bedrock/amazon.nova-lite-v1:0", (0.06, 0.24)),
        ("bedrock/amazon.titan-embed-text-v2:0", (0.02, 0.0)),
        ("openrouter/openai/gpt-4o-mini", (0.15, 0.60)),
        ("openrouter/anthropic/claude-3.5-sonnet", (3.0, 15.0)),
        ("openrouter/meta-llama/llama-3.3-70b-instruct:free", (0.0, 0.0)),
        ("simulated/anything", (0.0, 0.0)),
    ],
)
def test_known_model_has_its_price(name: str, expected: tuple[float, float]):
    """Names, dated names, regional names and routed names find their row."""
    assert listed(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "openai/gpt-4o-mini-audio-preview",
        "openai/gpt-4o-mini-2024-07-18-preview",
        "openai/gpt-4o-mini-2024-07",
        "openai/gpt-4o-mini-2024-13-18",
        "openai/gpt-4o-mini-20240732",
        "openai/gpt-4o-mini-0718",
        "openai/gpt-4o-mini2024-07-18",
        "openai/2024-07-18",
        "mistral/mistral-large-2407-2024-07-181",
        "openai/gpt-4o-realtime",
        "openai/gpt-5.99",
        "anthropic/claude-sonnet-4-9",
        "mistral/mistral-large-latest",
        "openrouter/meta-llama/llama-3.3-70b-instruct",
        "openrouter/openai/gpt-4o:extended",
        "ollama/llama3.2",
        "vllm/gpt-4o",
        "azure/gpt-4o",
        "custom/MyModel",
    ],
)
def test_unknown_model_has_no_price(name: str):
    """A longer name is another model; a local or self-hosted one has no list price."""
    assert listed(name) is None


def test_price_holds_at_the_provider_only():
    """Another endpoint under a provider's name charges what it likes."""
    assert listed("openai/gpt-4o-mini", endpoint="http://127.0.0.1:9100/v1") is None
    assert listed("openai/gpt-4o-mini", endpoint="https://api.openai.com.example.org/v1") is None
    assert listed("openai/gpt-4o-mini", endpoint="https://api.openai.com/v1") == (0.15, 0.60)


def test_special_service_tier_has_no_list_price():
    """Priority processing costs something else, and so does flex where nobody says how much."""
    assert listed("openai/gpt-5", service_tier="priority") is None
    assert listed("anthropic/claude-opus-4", service_tier="flex") is None
    assert listed("openai/gpt-5", service_tier=["flex"]) is None
    assert listed("openai/gpt-5", service_tier="default") == (1.25, 10.0)


def test_flex_costs_what_the_provider_charges_for_it():
    """OpenAI half, with a note; Groq as much as any call; a price of one's own stays as it is."""
    assert listed("openai/gpt-5", service_tier="flex") == (0.625, 5.0)
    assert listed("groq/llama-3.1-8b-instant", service_tier="flex") == listed("groq/llama-3.1-8b-instant")
    assert listed("openai/gpt-5", service_tier="flex", input_usd_per_mtok=3, output_usd_per_mtok=4) == (3, 4)
    flex = price_of(ModelConfig.model_validate({"name": "openai/gpt-5", "service_tier": "flex"}))
    assert flex is not None and flex.note == "50% of it for service_tier flex"


def test_configuration_goes_before_the_table():
    """Each half of a price can be overridden, also where nothing is listed."""
    assert listed("openai/gpt-4o-mini", input_usd_per_mtok=1, output_usd_per_mtok=2) == (1.0, 2.0)
    assert listed("openai/gpt-4o-mini", output_usd_per_mtok=2) == (0.15, 2.0)
    assert listed("ollama/x", input_usd_per_mtok=0.5) == (0.5, None)
    assert listed("simulated/x", input_usd_per_mtok=3, output_usd_per_mtok=4) == (3.0, 4.0)


@pytest.mark.parametrize(
    ("price", "read", "written", "expected"),
    [
        (Price(input_usd_per_mtok=2.0, output_usd_per_mtok=8.0), 500_000, 250_000, 3.0),
        (Price(input_usd_per_mtok=2.0, output_usd_per_mtok=8.0), None, 5, None),
        (Price(input_usd_per_mtok=2.0, output_usd_per_mtok=8.0), 5, None, None),
        (Price(input_usd_per_mtok=2.0, output_usd_per_mtok=None), 500_000, 0, 1.0),
        (Price(input_usd_per_mtok=2.0, output_usd_per_mtok=None), 5, 5, None),
        (Price(input_usd_per_mtok=0.0, output_usd_per_mtok=0.0), None, None, 0.0),
        (None, 5, 5, None),
    ],
)
def test_cost_is_unknown_unless_all_of_it_is_known(
    price: Price | None, read: int | None, written: int | None, expected: float | None
):
    """None is never turned into 0."""
    assert cost_usd(price, read, written) == expected


def test_every_row_is_dated_and_positive():
    """A row says from when it is."""
    assert len(_table()) > 80
    for (provider, model), row in _table().items():
        assert date(2024, 1, 1) < date.fromisoformat(row["as_of"]), model
        assert row["input"] > 0, (provider, model)
        assert row["output"] == 0 or row["output"] >= row["input"], (provider, model)


def test_price_as_json_says_where_it_is_from():
    """A run records its price and the price's source."""
    price = price_of(ModelConfig(name="openai/gpt-4o-mini"))
    assert price is not None
    assert price.to_json() == {
        "input_usd_per_mtok": 0.15,
        "output_usd_per_mtok": 0.6,
        "as_of": "2026-03-21",
        "source": "table",
    }


PRICE = Price(input_usd_per_mtok=2.0, output_usd_per_mtok=8.0)


@pytest.mark.parametrize(
    ("price", "read", "cached", "an_hour", "expected"),
    [
        (PRICE, 1_000_000, 0, 0, 2.0),
        (PRICE, 1_000_000, 1_000_000, 0, 2.5),
        (PRICE, 1_000_000, 1_000_000, 1_000_000, 4.0),
        (PRICE, 1_000_000, 500_000, 250_000, 2.0 + 0.125 + 0.5),
        (PRICE, None, 5, 0, None),
        (None, 5, 5, 5, None),
        (Price(input_usd_per_mtok=None, output_usd_per_mtok=8.0), 0, 5, 0, 0.0),
    ],
)
def test_tokens_written_to_a_cache_cost_more(
    price: Price | None, read: int | None, cached: int, an_hour: int, expected: float | None
) -> None:
    """A quarter more for five minutes, twice as much for an hour; the unknown stays unknown."""
    assert cost_with_cache_usd(price, read, 0, cached, an_hour) == expected
    if not an_hour:
        assert cost_with_cache_usd(price, read, 0, cached) == expected


@pytest.mark.parametrize(
    ("endpoint", "priced"),
    [
        (None, True),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com", True),
        ("https://bedrock.amazonaws.com.example.org", False),
        ("http://127.0.0.1:9000", False),
    ],
)
def test_prices_of_bedrock_hold_at_amazons_hosts(endpoint: str | None, priced: bool) -> None:
    """In every region."""
    assert (listed("bedrock/amazon.nova-lite-v1:0", endpoint=endpoint) is not None) == priced


def test_where_a_price_is_from() -> None:
    """The table, the configuration, or one half from each; the table's date goes with its half."""
    own = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}
    half = price_of(ModelConfig(name="openai/gpt-4o-mini", input_usd_per_mtok=1.0))
    assert half is not None
    assert (half.input_usd_per_mtok, half.output_usd_per_mtok, half.source) == (1.0, 0.6, "table+config")
    assert half.as_of is not None
    both = price_of(ModelConfig(name="openai/gpt-4o-mini", **own))
    assert both == Price(**own, source="config")
    free = price_of(ModelConfig(name="simulated/x"))
    assert free is not None and free.source == "table"
