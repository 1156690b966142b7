"""How many cases a difference needs, before one pays."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from promptlab import PromptLab
from promptlab.cli import commands
from promptlab.errors import ConfigError, UnknownNameError
from promptlab.planning import guessed, power, power_lines
from promptlab.store_lab import StoreLab
from tests.unit.test_gates import marked, run


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    lab = StoreLab.open({"type": "sqlite", "db_file": str(tmp_path / "lab.db")})
    yield lab
    await lab.close()


@pytest.mark.parametrize(
    ("difference", "discordant", "rows"),
    [(0.01, 0.05, 3923), (0.01, 0.2, 15696), (0.02, 0.1, 1960), (0.05, 0.2, 626), (0.1, 0.3, 234)],
)
def test_rows_are_those_of_the_tables(difference: float, discordant: float, rows: int) -> None:
    """STATISTICS §4e."""
    assert guessed(difference, discordant).rows == rows


async def test_two_runs_tell_how_often_they_differ_and_what_a_case_costs(lab: StoreLab) -> None:
    """ψ with a pair more on each side; a case's cost is that of the other run."""
    base = await run(lab, ["1", "0"] * 100)
    other = await run(lab, ["1", "0"] * 90 + ["0", "1"] * 10)
    found = await power(lab, [base.run_id, other.run_id], 0.05)
    assert (found.kind, found.metric, found.have) == ("share", "right", 200)
    assert found.spread == pytest.approx(22 / 202) and found.rows == guessed(0.05, 22 / 202).rows
    assert found.usd_a_case == pytest.approx(0.001) and found.rows is not None
    assert found.usd == pytest.approx(0.001 * found.rows)
    said = "\n".join(power_lines(found))
    assert f"{found.rows:,} rows show a difference of pass/fail of 0.05 of right" in said
    assert (
        f"One run over {found.rows:,} rows costs about" in said and "The 200 rows that there are show" in said
    )
    wide = await power(lab, [base.run_id, other.run_id], 0.5)
    assert wide.rows is None and "No number of rows shows" in power_lines(wide)[0]
    with pytest.raises(UnknownNameError, match="metric of both runs"):
        await power(lab, [base.run_id, other.run_id], 0.05, metric="wrong")
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="above 0"):
            await power(lab, [base.run_id, other.run_id], wrong)


def test_the_command_line_and_scripts_plan_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By guesses without a store; by runs, also by their labels."""
    monkeypatch.chdir(tmp_path)

    def invoke(*args: str, code: int = 0) -> str:
        result = CliRunner().invoke(commands, ["power", *args], prog_name="promptlab")
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.stderr

    assert "626 rows show a difference of pass/fail of 0.05 with 80% power" in invoke("-d", "0.05")
    assert json.loads(invoke("-d", "5", "--deviation", "20", "--json"))["rows"] == 126
    assert "at most 1" in invoke("-d", "0.05", "--discordance", "2", code=2)
    assert "give one" in invoke("-d", "1", "--discordance", "0.1", "--deviation", "1", code=2)
    assert "two runs, the base first" in invoke("-d", "0.05", "latest", code=2)
    with PromptLab() as pl:
        base, other = (pl.experiment.run(marked(o), quiet=True) for o in (["1", "0"] * 50, ["1"] * 100))
        found = pl.experiment.power(0.05, base, other)
        assert found.rows == guessed(0.05, 52 / 102).rows
        assert pl.experiment.power(0.05, discordance=0.1).rows == 312
        pl.experiment.label(base, "production")
        with pytest.raises(ConfigError, match="two runs"):
            pl.experiment.power(0.05, base)
    assert json.loads(invoke("marked@production", other.run_id, "-d", "0.05", "--json")) == found.to_json()
