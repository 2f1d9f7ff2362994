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


def pytest_terminal_summary(terminalreporter):
    rows = [
        value
        for report in terminalreporter.stats.get("passed", [])
        for name, value in report.user_properties
        if name == "faults"
    ]
    if rows:
        terminalreporter.section("faults")
        terminalreporter.line("| fault | tried | survived | seconds lost, median (most) |")
        terminalreporter.line("|---|---|---|---|")
        for row in sorted(rows):
            terminalreporter.line(f"| {row} |")
