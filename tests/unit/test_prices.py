"""The price table: what it knows, and what it must not claim to know."""

from __future__ import annotations

from datetime import date

import pytest

from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import LongPrompt, Price, _kept, _table, cost_of, cost_usd, price_of
from promptlab.domain.results import ModelResponse


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
        "mistral/mistral-huge-latest",
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
    """Where nobody says how much it is."""
    assert listed("openai/gpt-5", service_tier="auto") is None
    assert listed("anthropic/claude-opus-4", service_tier="flex") is None
    assert listed("openai/gpt-5", service_tier=["flex"]) is None
    assert listed("openai/gpt-5", service_tier="default") == (1.25, 10.0)


def test_flex_costs_what_the_provider_charges_for_it():
    """OpenAI half, with a note; Groq as much as any call; a price of one's own stays as it is."""
    assert listed("openai/gpt-5", service_tier="flex") == (0.625, 5.0)
    assert listed("openai/gpt-5", service_tier="priority") == (2.5, 20.0)
    assert listed("openai/gpt-4.1-nano", service_tier="flex") == (0.05, 0.2)  # without a row of its own
    assert listed("groq/llama-3.1-8b-instant", service_tier="flex") == listed("groq/llama-3.1-8b-instant")
    assert listed("openai/gpt-5", service_tier="flex", input_usd_per_mtok=3, output_usd_per_mtok=4) == (3, 4)
    flex = price_of(ModelConfig.model_validate({"name": "openai/gpt-5", "service_tier": "flex"}))
    assert flex is not None and flex.note == "as service_tier flex"
    assert flex.cached_usd_per_mtok == 0.0625


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
    """A row says from when it is, and from where."""
    rows = [row for listed in _kept().values() for row in listed]
    assert len(rows) > 400
    for row in (*rows, *_table().values()):
        assert date(2024, 1, 1) < date.fromisoformat(row["as_of"]), row
        assert row["source"] == "table" or row["source"].startswith("genai-prices "), row
        for rates in (row, *row.get("tiers", {}).values()):
            given = [rates[name] for name in ("input", "output", "cached", "cache_write") if name in rates]
            steps = [rate if isinstance(rate, list) else [rate] for rate in given]
            assert all(step[0] >= 0 and all(tokens > 1000 for tokens, _ in step[1:]) for step in steps), row


def test_price_as_json_says_where_it_is_from():
    """A run records its price and the price's source."""
    price = price_of(ModelConfig(name="openai/gpt-4o-mini"))
    assert price is not None
    assert price.to_json() == {
        "input_usd_per_mtok": 0.15,
        "output_usd_per_mtok": 0.6,
        "cached_usd_per_mtok": 0.075,
        "as_of": _kept()["openai"][0]["as_of"],
        "source": _kept()["openai"][0]["source"],
    }


PLAIN = Price(input_usd_per_mtok=2.0, output_usd_per_mtok=8.0)
PRICE = Price(
    input_usd_per_mtok=2.0,
    output_usd_per_mtok=8.0,
    cached_usd_per_mtok=0.2,
    cache_write_usd_per_mtok=2.5,
    cache_write_hour_usd_per_mtok=4.0,
    long_prompts=(
        LongPrompt(above_tokens=2_000_000, input_usd_per_mtok=4.0, output_usd_per_mtok=12.0),
        LongPrompt(above_tokens=4_000_000, input_usd_per_mtok=5.0, output_usd_per_mtok=15.0),
    ),
)


@pytest.mark.parametrize(
    ("price", "read", "cached", "written", "an_hour", "expected"),
    [
        (PRICE, 1_000_000, 0, 0, 0, 2.0),
        (PRICE, 1_000_000, None, 1_000_000, 0, 2.5),
        (PRICE, 1_000_000, None, 1_000_000, 1_000_000, 4.0),
        (PRICE, 1_000_000, None, 500_000, 250_000, 1.0 + 0.625 + 1.0),
        (PRICE, 1_000_000, 750_000, None, 0, 0.5 + 0.15),
        (PRICE, 1_000_000, 500_000, 250_000, 0, 0.5 + 0.1 + 0.625),
        (PRICE, 1_000_000, 5_000_000, 5_000_000, 0, 0.2),  # no more than was read
        (PRICE, 2_000_001, 0, 0, 0, pytest.approx(8.000004)),
        (PRICE, 5_000_000, 0, 0, 0, 25.0),
        (PLAIN, 1_000_000, 500_000, 250_000, 250_000, 2.0),
        (PRICE, None, 5, 5, 0, None),
        (None, 5, 5, 5, 5, None),
        (Price(input_usd_per_mtok=None, output_usd_per_mtok=8.0), 0, 5, 5, 0, 0.0),
    ],
)
def test_tokens_of_the_cache_and_of_long_prompts_have_rates_of_their_own(
    price: Price | None,
    read: int | None,
    cached: int | None,
    written: int | None,
    an_hour: int,
    expected: float | None,
) -> None:
    """A rate that nobody lists is that of any token read; the unknown stays unknown."""
    found = cost_usd(price, read, 0, cached=cached, cache_write=written, for_an_hour=an_hour)
    assert found == (expected if expected is None else pytest.approx(expected))


def test_an_answer_costs_what_it_says_or_what_its_tokens_do() -> None:
    """Those of the cache among them."""
    answer = ModelResponse("x", 1_000_000, 0, cached_tokens=1_000_000)
    assert cost_of(PRICE, answer) == pytest.approx(0.2)
    assert cost_of(PRICE, ModelResponse("x", 1_000_000, 0, cost_usd=7.0)) == 7.0


@pytest.mark.parametrize(
    ("name", "endpoint", "expected"),
    [
        ("openai/gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai", (1.25, 10.0)),
        (
            "openai/models/gemini-2.5-pro",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            (1.25, 10.0),
        ),
        ("openai/deepseek-ai/DeepSeek-V3", "http://127.0.0.1:8000/v1", None),
        ("openai/gemini-2.5-pro", "https://api.x.ai/v1", None),
        ("openai/gpt-4o-mini", "https://api.x.ai/v1", None),
    ],
)
def test_prices_of_others_that_speak_openais_protocol_hold_at_their_hosts(
    name: str, endpoint: str, expected: tuple[float, float] | None
) -> None:
    """There and nowhere else."""
    assert listed(name, endpoint=endpoint) == expected


def test_long_prompts_and_batches_have_the_prices_that_are_listed() -> None:
    """Gemini's prompts above 200,000 tokens cost twice as much; in batches half of it."""
    config = ModelConfig(
        name="openai/gemini-2.5-pro", endpoint="https://generativelanguage.googleapis.com/v1beta"
    )
    whole, half = price_of(config), price_of(config, tier="batch")
    assert cost_usd(whole, 200_000, 0) == 0.25
    assert cost_usd(whole, 400_000, 0) == 1.0
    assert cost_usd(half, 400_000, 0) == 0.5


def test_a_price_of_ones_own_keeps_what_the_cache_costs_beside_it() -> None:
    """Anthropic's multiples of it; a price of writing alone leaves the listed rates of reading."""
    own = price_of(ModelConfig(name="anthropic/claude-x", input_usd_per_mtok=4, output_usd_per_mtok=8))
    assert own is not None
    assert (own.cache_write_usd_per_mtok, own.cache_write_hour_usd_per_mtok) == (5.0, 8.0)
    mixed = price_of(ModelConfig(name="openai/gpt-4o-mini", output_usd_per_mtok=2))
    assert mixed is not None and mixed.cached_usd_per_mtok == 0.075


def test_the_kept_table_says_what_the_package_says() -> None:
    """Where `genai-prices` is installed: every model, short and long prompts, from the cache and not."""
    prices = pytest.importorskip("genai_prices")
    compared = 0
    for provider in ("openai", "anthropic", "google", "groq", "mistral"):
        endpoint = "https://generativelanguage.googleapis.com/v1beta" if provider == "google" else None
        for row in _kept()[provider]:
            if "peak" in row.get("note", ""):
                continue
            name = f"{'openai' if endpoint else provider}/{row['id']}"
            for read, cached in ((1000, 0), (900_000, 500_000)):
                usage = prices.Usage(input_tokens=read, output_tokens=100, cache_read_tokens=cached)
                try:
                    theirs = prices.calc_price(usage, row["id"], provider_id=provider)
                except (LookupError, ValueError):
                    continue
                if theirs.model.id != row["id"]:
                    continue
                ours = price_of(ModelConfig(name=name, endpoint=endpoint))
                found = cost_usd(ours, read, 100, cached=cached)
                assert found == pytest.approx(float(theirs.total_price)), (name, read, cached)
                compared += 1
    assert compared > 300


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
    assert (half.input_usd_per_mtok, half.output_usd_per_mtok) == (1.0, 0.6)
    assert half.source == f"{_kept()['openai'][0]['source']}+config"
    assert half.as_of is not None
    both = price_of(ModelConfig(name="openai/gpt-4o-mini", **own))
    assert both == Price(**own, source="config")
    free = price_of(ModelConfig(name="simulated/x"))
    assert free is not None and free.source == "table"
