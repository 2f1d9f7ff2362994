"""Memory, communication and compile time of the WMT14 recipes on TPU slices, by the TPU compiler.

    python -m benchmarks.topologies                   # all rows; takes about two minutes per row on 2 cores
    python -m benchmarks.topologies --only wmt14_base    # the rows whose command contains this text

The rows are stored in benchmarks/results/topologies.json. The table in docs/scaling.md is built from this file.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.record import read_record
from benchmarks.results import replace_block
from transformer_jax.commands.cli import parse_arguments, run_command
from transformer_jax.commands.dry_run import compile_for_topology, minimum_seconds
from transformer_jax.commands.train import parse_train
from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic

ROOT = Path(__file__).parent.parent
RECORD = Path("benchmarks/results/topologies.json")
PAGE = Path("docs/scaling.md")
BEGIN_MARKER = "<!-- topologies: written by python -m benchmarks.topologies -->"
END_MARKER = "<!-- topologies: end -->"
MIB = 2**20

BATCH = "--data.batch-tokens 24576"
ROWS = (
    f"wmt14_base --topology v5e:1x1 {BATCH}",
    f"wmt14_base --topology v5e:2x2 {BATCH}",
    f"wmt14_base --topology v5e:4x4 {BATCH}",
    f"wmt14_base --topology v5e:4x8 {BATCH}",
    f"wmt14_base --topology v5p:2x2x1 {BATCH}",
    f"wmt14_base --topology v6e:2x2 {BATCH}",
    f"wmt14_big --topology v5e:1x1 {BATCH} --training.accumulate 8",
    f"wmt14_big --topology v5e:2x2 {BATCH} --mesh.fsdp 4",
    f"wmt14_big --topology v5e:4x4 {BATCH}",
    f"wmt14_big --topology v5e:4x4 {BATCH} --mesh.fsdp 16",
    f"wmt14_big --topology v5e:4x4 {BATCH} --mesh.fsdp 4 --mesh.tensor 2",
    f"wmt14_big --topology v5e:4x8 {BATCH} --mesh.fsdp 8",
    f"wmt14_big --topology v5p:2x2x1 {BATCH}",
    f"wmt14_big --topology v6e:1x1 {BATCH} --training.accumulate 4",
    f"wmt14_big --topology v6e:1x1 {BATCH} --training.remat blocks",
    f"wmt14_big --topology v6e:2x2 {BATCH}",
)
"""The recipe and the options of each row, as for ``python train.py --dry-run --config``."""


@dataclass(frozen=True)
class TopologiesCommand:
    """Compile the WMT14 recipes for TPU slices, and build the table in docs/scaling.md."""

    only: str = ""
    """Compile only the rows whose recipe and options contain this text. Other rows keep their recorded values."""
    check: bool = False
    """Compile nothing and write nothing. Exit with an error if the table is out of date."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Compile the rows and rebuild the table, or check the table.

    root: repository root.
    """
    command = parse_arguments(TopologiesCommand(), arguments, "python -m benchmarks.topologies")
    records: dict[str, Any] = read_record(root / RECORD, dict) if (root / RECORD).exists() else {}
    for row in ROWS:
        if command.only in row and not command.check:
            records[row] = compile_row(row)
            print(f"{row}: {json.dumps(records[row])}", flush=True)
            records = {name: records[name] for name in ROWS if name in records}
            atomic.write_text(root / RECORD, json.dumps(records, indent=2) + "\n")
    text = (root / PAGE).read_text(encoding="utf-8")
    rebuilt = replace_block(text, BEGIN_MARKER, END_MARKER, table(records), root / PAGE)
    if command.check and rebuilt != text:
        raise RunError(f"{PAGE}: the table is out of date. Run: python -m benchmarks.topologies --only NOTHING")
    if rebuilt != text:
        atomic.write_text(root / PAGE, rebuilt)


def compile_row(row: str) -> dict[str, Any]:
    """Compile the training step of a row and return what the table and its readers need, or why it does not fit."""
    versions = {package: metadata.version(package) for package in ("jax", "libtpu")}
    command = parse_train(["--dry-run", "--config", *shlex.split(row)])
    try:
        step, topology = compile_for_topology(command.config, command.topology)
    except InputError as error:
        return {"problem": str(error), "versions": versions}
    sent: dict[str, int] = {}
    for collective in step.collectives:
        name = f"{collective.kind} {', '.join(collective.types)}"
        sent[name] = sent.get(name, 0) + collective.bytes_sent * collective.executions
    return {
        "mesh": dict(step.mesh.shape),
        "rows": step.shape.rows,
        "memory": step.memory,
        "peak": step.program.peak,
        "sent": sent,
        "sent_in_loops": sum(
            collective.bytes_sent * collective.executions for collective in step.collectives if collective.in_loop
        ),
        "minimum_seconds": minimum_seconds(step, topology.chip),
        "compile_seconds": round(step.program.seconds, 1),
        "versions": versions,
    }


def table(records: dict[str, Any]) -> str:
    """Return the Markdown table of the recorded rows."""
    columns = (
        "recipe and options | state | temporary | all-reduce | reduce-scatter | all-gather | minimum ms | compiled in"
    )
    lines = [f"| {columns} |", f"|{'---|' * (columns.count('|') + 1)}"]
    for row, values in records.items():
        name = f"| `{row.replace(f' {BATCH}', '')}` |"
        if "problem" in values:
            lines.append(f"{name} does not fit |{' |' * (columns.count('|') - 1)}")
            continue
        parameters, optimizer, _, temporary = values["memory"].values()
        sent = [
            sum(size for name, size in values["sent"].items() if name.startswith(kind))
            for kind in ("all-reduce", "reduce-scatter", "all-gather")
        ]
        sizes = [f"{size / MIB:,.0f}" for size in (parameters + optimizer, temporary, *sent)]
        milliseconds = f"{1000 * max(values['minimum_seconds']):.1f}"
        lines.append(f"{name} {' | '.join(sizes)} | {milliseconds} | {values['compile_seconds']:.0f} s |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run_command(main))
