"""Tables of the documentation are built from recorded rows, of which some can be measured again."""

import json
from pathlib import Path

import pytest

from benchmarks.recorded_table import RecordedTable, update_tables
from transformer_jax.errors import InputError, RunError

PAGE, RECORD = Path("page.md"), Path("record.json")


def lines(records):
    return "".join(f"| {name} | {values['value']} |\n" for name, values in records.items())


TABLES = [RecordedTable(PAGE, "first", ["a 1", "a 2"], lines), RecordedTable(PAGE, "second", ["a 2", "b 3"], lines)]


@pytest.fixture
def update(tmp_path):
    """A function that updates the tables of a page, and returns the names of the measured rows."""
    markers = [marker for table in TABLES for marker in table.markers("benchmarks.some")]
    (tmp_path / PAGE).write_text("before\n{}\n{}\nbetween\n{}\n{}\nafter\n".format(*markers))

    def call(*arguments, value=0):
        measured = []

        def measure(name):
            measured.append(name)
            return {"value": value}

        update_tables(list(arguments), "benchmarks.some", RECORD, TABLES, measure, tmp_path)
        return measured

    return call


def test_each_row_is_measured_once(update, tmp_path):
    assert update() == ["a 1", "a 2", "b 3"]
    without_markers = [line for line in (tmp_path / PAGE).read_text().splitlines() if "<!--" not in line]
    assert without_markers == ["before", "| a 1 | 0 |", "| a 2 | 0 |", "between", "| a 2 | 0 |", "| b 3 | 0 |", "after"]


def test_other_rows_keep_their_values(update, tmp_path):
    assert update("--only", "3", value=7) == ["b 3"]
    assert update("--only", "a 1", value=5) == ["a 1"]
    assert json.loads((tmp_path / RECORD).read_text()) == {"a 1": {"value": 5}, "b 3": {"value": 7}}


def test_check_changes_nothing_and_finds_an_old_table(update, tmp_path):
    update()
    assert update("--check") == []
    page = tmp_path / PAGE
    page.write_text(page.read_text().replace("| b 3 | 0 |", "| b 3 | 2 |"))
    with pytest.raises(RunError, match=r"^page.md: the table is out of date\. Run: python -m benchmarks.some --only"):
        update("--check")
    assert "| b 3 | 2 |" in page.read_text()


def test_damaged_record_is_refused(update, tmp_path):
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(InputError, match=r"record\.json is damaged"):
        update()
