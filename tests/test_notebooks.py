"""The notebook runs from top to bottom on a CPU, and its recorded outputs are small and complete."""

import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from simulated_devices import simulate_devices

ROOT = Path(__file__).parent.parent
TOUR = ROOT / "notebooks" / "transformer_tour.ipynb"
FEW_STEPS = "STEPS = 20"
TEST_SET = 'train("phrasebook", data={"test": "test.tsv"}, '


def read(notebook):
    return nbformat.read(notebook, as_version=nbformat.current_nbformat)


def execute(content, directory, **variables):
    """Run all cells in the directory, as if the package were installed. Raises the error of a cell.

    variables: environment variables that differ from those of the tests.
    """
    variables = simulate_devices(1) | variables | {"PYTHONPATH": str(ROOT)}
    del variables["MPLBACKEND"]  # The notebook shows pictures.
    resources = {"metadata": {"path": str(directory)}}
    client = NotebookClient(content, timeout=360, kernel_name="python3", resources=resources)
    client.execute(env=variables)


def outputs(content, kind):
    return [output for cell in content.cells for output in cell.get("outputs", []) if output.output_type == kind]


def printed(content):
    return "".join(output.text for output in outputs(content, "stream"))


def pictures(content):
    displayed = outputs(content, "display_data") + outputs(content, "execute_result")
    return sum("image/png" in output.data for output in displayed)


def test_every_cell_runs(tmp_path):
    content = read(TOUR)
    recorded = pictures(content)
    [steps] = [cell for cell in content.cells if cell.source.startswith("STEPS =")]
    steps.source = FEW_STEPS
    # Without it, a model that has learned nothing would translate the test set of the phrasebook.
    (tmp_path / "test.tsv").write_text("Our cat sleeps.\tUnsere Katze schläft.\n")
    [training] = [cell for cell in content.cells if 'train("phrasebook", ' in cell.source]
    training.source = training.source.replace('train("phrasebook", ', TEST_SET)
    execute(content, tmp_path)
    assert (tmp_path / "runs" / "tour" / "results.json").is_file()
    assert pictures(content) == recorded
    assert not [output for output in outputs(content, "stream") if output.name == "stderr"]


@pytest.mark.slow
def test_unchanged_it_learns_to_translate_in_six_minutes(tmp_path):
    content = read(TOUR)
    began = time.monotonic()
    execute(content, tmp_path, JAX_DISABLE_MOST_OPTIMIZATIONS="0", XLA_FLAGS="")
    assert time.monotonic() - began <= 360
    assert "Wo ist der alte Bahnhof?" in printed(content)


def test_recorded_outputs_are_of_one_complete_run_and_small():
    content = read(TOUR)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not outputs(content, "error")
    assert pictures(content) > 12
    assert TOUR.stat().st_size < 1.5e6
    assert not re.search(r"/(home|tmp|root|Users)/", printed(content))


def test_every_named_file_exists():
    text = "\n".join(cell.source for cell in read(TOUR).cells if cell.cell_type == "markdown")
    names = re.findall(r"`((?:transformer_jax|configs|docs)/[\w/.]+|README\.md)`", text)
    assert len(names) > 12
    assert not [name for name in names if not (ROOT / name).exists()]


def set_up(content, directory):
    """Run the first code cell where the package is not installed. Shell commands in it become comments."""
    source = re.sub(r"^( *)([!%])", r"\1pass  # \2", content.cells[1].source, flags=re.MULTILINE)
    command = [sys.executable, "-S", "-c", source]
    return subprocess.run(command, cwd=directory, env={}, capture_output=True, text=True)


def test_notebook_has_the_address_of_mkdocs_yml():
    [address] = re.findall(r'^repo_url: "(.*)"$', (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert f'REPOSITORY = "{address}"  # repo_url of mkdocs.yml\n' in read(TOUR).cells[1].source


def test_notebook_alone_says_how_to_get_the_code(tmp_path):
    result = set_up(read(TOUR), tmp_path)
    assert "FileNotFoundError: Upload the checkout as the directory repository, or clone your own copy" in result.stderr
    (tmp_path / "repository/transformer_jax").mkdir(parents=True)
    assert set_up(read(TOUR), tmp_path).returncode == 0
