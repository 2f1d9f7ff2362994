"""An uninterrupted run, and a summary of all faults as the table of docs/reliability.md."""

import pytest
from real_runs import train, write_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def uninterrupted(recipe):
    """The run directory of an uninterrupted run."""
    train(recipe, recipe.parent / "uninterrupted")
    return recipe.parent / "uninterrupted"


TABLES = {
    "faults": ("| fault | tried | survived | seconds lost, median (most) |", "|---|---|---|---|"),
    "mirror_faults": (
        "| fault | tried | survived | updates lost, median (most) | seconds lost, median (most) |",
        "|---|---|---|---|---|",
    ),
}
"""Property that a test records -> header of its table."""


def pytest_terminal_summary(terminalreporter):
    properties = [value for report in terminalreporter.stats.get("passed", []) for value in report.user_properties]
    for table, header in TABLES.items():
        if rows := sorted(row for name, row in properties if name == table):
            terminalreporter.section(table)
            for line in (*header, *(f"| {row} |" for row in rows)):
                terminalreporter.line(line)
