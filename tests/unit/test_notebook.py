"""The SDK in a notebook: a real Jupyter kernel runs the cells."""

from __future__ import annotations

from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

# Jupyter's own; what the cells warn of is looked at below.
pytestmark = pytest.mark.filterwarnings("default")

SETUP = """
from promptlab import Dataset, Evaluator, PromptLab, PromptTemplate, get_model

class Shout(Evaluator):
    def evaluate(self, data):
        return data["response"].isupper()

pl = PromptLab({"type": "sqlite", "db_file": "lab.db"})
config = {
    "name": "notebook",
    "dataset": Dataset(name="words", rows=[{"word": "yes"}, {"word": "NO"}]),
    "prompt_template": PromptTemplate(name="say", user_prompt="<word>"),
    "model": get_model("simulated/echo"),
    "evaluation": [{"metric": "shout", "column_mapping": {"response": "$inference"}, "evaluator": Shout()}],
}
"""
CELLS = {
    "setup": SETUP,
    "sync run": "run = pl.experiment.run(config)\nrun",
    "async run": "again = await pl.run_experiment_async(config)\nagain.status",
    "sync after async": "[model_answer.response for model_answer in (config['model'].invoke('', 'a'), "
    "await config['model'].ainvoke('', 'b'))]",
    "results": "run.results()",
    "frame": "run.results().to_pandas()[['input.word', 'passed.shout']]",
    "resume": "again.resume().summary.metrics['shout'].mean",
    "progress": "seen = []\nrun = pl.experiment.run(config, on_progress=lambda p: seen.append(p.done))\nseen",
    "error": "try:\n    pl.experiment.run({**config, 'dataset': 'nothing'})\nexcept Exception as error:\n "
    "   print(type(error).__name__, error)",
    "close": "pl.close()",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Return what each cell showed: MIME type → text, with what it printed under `stdout`."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(variable, str(folder / variable.lower()))
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(code) for code in CELLS.values()]
        )
        client = nbclient.NotebookClient(
            notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        client.execute()
    return {name: shown(cell) for name, cell in zip(CELLS, notebook.cells, strict=True)}


def shown(cell: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for output in cell.outputs:
        if output.output_type == "stream":
            found[output.name] = found.get(output.name, "") + output.text
        else:
            found.update(output.data)
    return found


def test_a_run_in_a_cell_shows_its_summary(outputs: dict[str, dict[str, str]]) -> None:
    """The sync call works inside the kernel's running loop; the value of the cell is the table, as text and
    as HTML."""
    for form in ("text/plain", "text/html"):
        assert "2 of 2 cases succeeded" in outputs["sync run"][form]
        assert "shout" in outputs["sync run"][form]


def test_a_run_can_be_awaited_in_a_cell(outputs: dict[str, dict[str, str]]) -> None:
    """`await` and sync calls take turns on one lab and one model."""
    assert outputs["async run"]["text/plain"] == "'completed'"
    said = outputs["async run"]["stdout"]
    assert "2 of 2 done, 0 failed" in said and "promptlab studio" in said and "\x1b" not in said
    assert outputs["sync after async"] == {"text/plain": "['a', 'b']"}
    assert outputs["resume"]["text/plain"] == "0.5"


def test_results_show_as_a_table(outputs: dict[str, dict[str, str]]) -> None:
    """A short text, an HTML table, and a DataFrame."""
    assert outputs["results"]["text/plain"].startswith(
        "<Results: 2 rows; columns case, trial, id, input.word, response"
    )
    assert "<td>NO</td>" in outputs["results"]["text/html"]
    pytest.importorskip("pandas")
    assert outputs["frame"]["text/plain"].split() == [
        "input.word",
        "passed.shout",
        "0",
        "yes",
        "False",
        "1",
        "NO",
        "True",
    ]


def test_progress_is_told_in_a_cell(outputs: dict[str, dict[str, str]]) -> None:
    """The callback sees each case, and then its score."""
    assert outputs["progress"] == {"text/plain": "[0, 1, 2, 2, 2]"}


def test_an_error_in_a_cell_is_one_message(outputs: dict[str, dict[str, str]]) -> None:
    """As in a script."""
    assert outputs["error"] == {
        "stdout": "AssetNotFoundError There is no dataset 'nothing'. There are words.\n"
    }


def test_cells_warn_of_nothing(outputs: dict[str, dict[str, str]]) -> None:
    """Nothing on standard error, from any cell."""
    assert [name for name, output in outputs.items() if "stderr" in output] == []
