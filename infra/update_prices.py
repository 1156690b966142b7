"""Writes the kept table of models' prices, `promptlab/domain/model_prices.json`, anew from `genai-prices`.

    make prices

That package (MIT, github.com/pydantic/genai-prices) is maintained by many and checked against the providers'
pages. It is taken as data: imported, it costs 128 ms and 1.7 MB (docs/decisions/0105).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[1] / "promptlab" / "domain" / "model_prices.json"
PROVIDERS = {
    **{name: name for name in ("openai", "anthropic", "groq", "mistral", "deepseek", "google", "x-ai")},
    **{name: name for name in ("together", "fireworks", "cerebras", "moonshotai")},
    "bedrock": "aws",
}
"""Our providers, and further hosts of OpenAI's protocol, by that package's names."""
RATES = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_hour": "cache_write_1h_mtok",
}
BESIDE = ("input_audio_mtok", "output_audio_mtok", "output_image_mtok")
"""What has another price than tokens of text: a row with one of these says so."""
OTHER = re.compile(r"audio|realtime|live|tts|transcribe|speech|sonic|image|video", re.IGNORECASE)
"""Models whose sounds and pictures are most of the bill: of them a price of text would say too little."""
CLAUSES = ("equals", "starts_with", "ends_with", "contains", "regex")


def match_of(clause: Any) -> dict[str, Any]:
    """Write down which names a row is for."""
    for name in CLAUSES:
        if hasattr(clause, name):
            return {name: getattr(clause, name)}
    name = "or" if hasattr(clause, "or_") else "and"
    return {name: [match_of(one) for one in getattr(clause, f"{name}_")]}


def rate_of(price: Any) -> Any:
    """Write down a rate: a number, or the standard one with those of long prompts."""
    if hasattr(price, "tiers"):
        return [float(price.base), *([tier.start, float(tier.price)] for tier in price.tiers)]
    return float(price)


def rates_of(prices: Any) -> dict[str, Any]:
    """Write down the rates of a model, or of one of its variants."""
    found = {ours: getattr(prices, theirs, None) for ours, theirs in RATES.items()}
    return {name: rate_of(price) for name, price in found.items() if price is not None}


def _is_active(constraint: Any, now: datetime) -> bool:
    return constraint is None or hasattr(constraint, "start_time") or constraint.active(now)


def _input(rates: dict[str, Any]) -> float:
    given = rates.get("input", 0.0)
    return float(given[0] if isinstance(given, list) else given)


def row_of(model: Any, now: datetime) -> dict[str, Any] | None:
    """Write down a model as of now; of prices that change with the hour, the highest."""
    prices = model.prices
    if isinstance(prices, list):
        active = [one for one in prices if _is_active(one.constraint, now)]
        hourly = [one for one in active if hasattr(one.constraint, "start_time")]
        standard = [one for one in active if one not in hourly][-1:]
        chosen = max((rates_of(one.prices) for one in (*standard, *hourly)), key=_input, default={})
        beside = active[-1].prices if active else None
    else:
        chosen, hourly, beside = rates_of(prices), [], prices
    if "input" not in chosen or OTHER.search(model.id):
        return None
    row: dict[str, Any] = {"id": model.id, "match": match_of(model.match), **chosen}
    notes = ["the price of peak hours"] if hourly else []
    if any(getattr(beside, name, None) for name in BESIDE):
        notes.append("sounds and pictures cost more")
    if notes:
        row["note"] = "; ".join(notes)
    for variant in model.price_variants or ():
        if _is_active(variant.constraint, now) and (rates := rates_of(variant.prices)):
            tier = variant.when.get("service_tier") or variant.when.get("processing")
            row.setdefault("tiers", {})[tier] = rates
    return row


def main() -> None:
    """Write the table."""
    data = importlib.import_module("genai_prices.data")
    now = datetime.now(UTC)
    known = {provider.id: provider for provider in data.providers}
    rows = {
        ours: [row for model in known[theirs].models if (row := row_of(model, now)) is not None]
        for ours, theirs in sorted(PROVIDERS.items())
    }
    version = importlib.metadata.version("genai-prices")
    about = {
        "about": "Dollars per million tokens, by infra/update_prices.py. A rate with steps is a list: "
        "the standard one, then [tokens read, the rate of longer prompts]. Tiers have the rates that differ.",
        "source": f"genai-prices {version}",
        "as_of": date.today().isoformat(),
    }
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in about.items()]
    for name, listed in rows.items():
        written = ",\n".join(f"  {json.dumps(row, separators=(',', ':'))}" for row in listed)
        lines.append(f" {json.dumps(name)}: [\n{written}\n ]")
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    count = sum(map(len, rows.values()))
    size = TABLE.stat().st_size
    sys.stdout.write(f"{TABLE.name}: {count} models of {len(rows)} providers, {size:,} bytes\n")


def install_and_write() -> None:
    """Write the table with the newest version of the package, in a folder that goes again."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", folder, "genai-prices"]
        subprocess.run(pip, check=True)
        program = f"import sys; sys.path.insert(0, {folder!r}); import update_prices; update_prices.main()"
        subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent)


if __name__ == "__main__":
    install_and_write()
