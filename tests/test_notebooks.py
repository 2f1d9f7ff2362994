"""The notebooks run from top to bottom on a CPU, and what is kept of a run is small and whole."""

import os
import re
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
TOUR = ROOT / "notebooks" / "transformer_tour.ipynb"
FEW = "STEPS = 20"
TESTS_ONLY = ("XLA_FLAGS", "MPLBACKEND")
"""Eight pretended devices, and pictures that nobody sees."""
BADGE = re.compile(r"\[!\[Open in Colab\]\(\S+\)\]\((\S+)\)")


def read(notebook):
    return nbformat.read(notebook, as_version=nbformat.current_nbformat)


def execute(content, folder):
    """Run all cells in the folder, as if the package were installed; raises the error of a cell."""
    environment = {name: value for name, value in os.environ.items() if name not in TESTS_ONLY}
    client = NotebookClient(content, timeout=360, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env={**environment, "PYTHONPATH": str(ROOT)})


def outputs(content, kind):
    return [one for cell in content.cells for one in cell.get("outputs", []) if one.output_type == kind]


def printed(content):
    return "".join(one.text for one in outputs(content, "stream"))


def pictures(content):
    return sum("image/png" in one.data for one in outputs(content, "display_data") + outputs(content, "execute_result"))


def test_every_cell_runs(tmp_path):
    content = read(TOUR)
    kept = pictures(content)
    [steps] = [cell for cell in content.cells if cell.source.startswith("STEPS =")]
    steps.source = FEW
    execute(content, tmp_path)
    assert (tmp_path / "runs" / "tour" / "results.json").is_file()
    assert pictures(content) == kept
    assert not [one for one in outputs(content, "stream") if one.name == "stderr"]


@pytest.mark.slow
def test_as_it_stands_it_learns_to_translate_in_six_minutes(tmp_path):
    content = read(TOUR)
    began = time.monotonic()
    execute(content, tmp_path)
    assert time.monotonic() - began <= 360
    assert "Wo ist der alte Bahnhof?" in printed(content)


def test_the_outputs_kept_are_of_one_whole_run_and_small():
    content = read(TOUR)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not outputs(content, "error")
    assert pictures(content) > 12
    assert TOUR.stat().st_size < 1.5e6
    assert not re.search(r"/(home|tmp|root|Users)/", printed(content))


def test_every_file_named_exists():
    text = "\n".join(cell.source for cell in read(TOUR).cells if cell.cell_type == "markdown")
    named = re.findall(r"`((?:transformer_jax|configs|docs)/[\w/.]+|README\.md)`", text)
    assert len(named) > 12
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_badges_open_the_notebook():
    addresses = {BADGE.search(text)[1] for text in (read(TOUR).cells[0].source, (ROOT / "README.md").read_text())}
    [address] = addresses
    assert address.endswith(f"/blob/main/{TOUR.relative_to(ROOT)}")
