"""Tables of the documentation whose rows are stored in a JSON record, and commands that measure the rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.record import read_record
from benchmarks.results import replace_block
from transformer_jax.commands.cli import parse_arguments
from transformer_jax.errors import RunError
from transformer_jax.storage import atomic

ROOT = Path(__file__).parent.parent
Records = dict[str, dict[str, Any]]
"""Name of a row -> its values."""


@dataclass(frozen=True)
class TableCommand:
    """Measure rows, store them, and build the tables of the documentation from the stored rows."""

    only: str = ""
    """Measure only the rows whose name contains this text. Other rows keep their recorded values."""
    check: bool = False
    """Measure nothing and write nothing. Exit with an error if a table is out of date."""
    debug: bool = False
    """Show the traceback of an error."""


class RecordedTable(NamedTuple):
    """A table.

    page: file that contains the table between two markers.
    name: name of the table in its markers.
    rows: names of the rows.
    lines: returns the Markdown table of the recorded rows, by name.
    """

    page: Path
    name: str
    rows: Sequence[str]
    lines: Callable[[Records], str]

    def markers(self, module: str) -> tuple[str, str]:
        """Return the lines before and after the table.

        module: the benchmark that writes the table.
        """
        return f"<!-- {self.name}: written by python -m {module} -->", f"<!-- {self.name}: end -->"


def update_tables(
    arguments: list[str],
    module: str,
    record: Path,
    tables: Sequence[RecordedTable],
    measure: Callable[[str], Mapping[str, Any]],
    root: Path = ROOT,
) -> None:
    """Measure rows and rebuild the tables, or check the tables.

    arguments: arguments of the command line, see ``TableCommand``.
    module: name of the benchmark, for messages.
    record: file with the measured rows of all tables, relative to ``root``.
    measure: returns the values of a row.
    root: repository root.
    """
    command = parse_arguments(TableCommand(), arguments, f"python -m {module}")
    records: Records = read_record(root / record, dict) if (root / record).exists() else {}
    names = list(dict.fromkeys(name for table in tables for name in table.rows))
    for name in names:
        if command.only in name and not command.check:
            records[name] = dict(measure(name))
            print(f"{name}: {json.dumps(records[name])}", flush=True)
            records = {name: records[name] for name in names if name in records}
            atomic.write_text(root / record, json.dumps(records, indent=2) + "\n")
    for table in tables:
        path = root / table.page
        text = path.read_text(encoding="utf-8")
        lines = table.lines({name: records[name] for name in table.rows if name in records})
        rebuilt = replace_block(text, *table.markers(module), lines, path)
        if command.check and rebuilt != text:
            raise RunError(f"{table.page}: the table is out of date. Run: python -m {module} --only NOTHING")
        if rebuilt != text:
            atomic.write_text(path, rebuilt)
