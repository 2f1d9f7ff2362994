"""Memory, communication and compile time of the WMT14 recipes on TPU slices, by the TPU compiler.

    python -m benchmarks.topologies                   # all rows; takes about two minutes per row on 2 cores
    python -m benchmarks.topologies --only wmt14_base    # the rows whose command contains this text

The rows are stored in benchmarks/results/topologies.json. The tables in docs/scaling.md and, for rematerialization, in
docs/memory.md are built from this file.
"""

from __future__ import annotations

import re
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.recorded_table import ROOT, RecordedTable, Records, update_tables
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.dry_run import compile_for_topology, minimum_seconds
from transformer_jax.commands.train import parse_train
from transformer_jax.errors import InputError

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

REMAT_ROWS = tuple(
    f"wmt14_base --topology v5e:1x1 {BATCH}{length}{remat}"
    for length in ("", *(f" --data.max-length {length} --data.row-length {length}" for length in (1024, 4096)))
    for remat in ("", " --training.remat blocks")
)
"""Like ROWS, for the table of rematerialization. The recipe has rows of 256 tokens."""


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
        "compile_cpu_seconds": round(step.program.cpu_seconds),
        "versions": versions,
    }


def table(records: Records) -> str:
    """Return the Markdown table of the recorded rows."""
    columns = (
        "recipe and options | state | temporary | all-reduce | reduce-scatter | all-gather | minimum ms | compile CPU s"
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
        lines.append(f"{name} {' | '.join(sizes)} | {milliseconds} | {values.get('compile_cpu_seconds', '')} |")
    return "\n".join(lines) + "\n"


def remat_table(records: Records) -> str:
    """Return the Markdown table of steps without and with rematerialization."""
    lines = [
        "| row length | `training.remat` | temporary, MiB | peak, MiB | compile CPU s |",
        "|---|---|---|---|---|",
    ]
    for row, values in records.items():
        [length] = re.findall(r"row-length (\d+)", row) or ["256"]
        name = f"| {int(length):,} | {'blocks' if 'remat' in row else 'none'} |"
        if "problem" in values:
            [sizes] = re.findall(r"[\d.]+ of [\d.]+ GiB needed", values["problem"])
            lines.append(f"{name} does not fit, {sizes} | | |")
            continue
        *_, temporary = values["memory"].values()
        sizes = f"{temporary / MIB:,.0f} | {values['peak'] / MIB:,.0f}"
        lines.append(f"{name} {sizes} | {values.get('compile_cpu_seconds', '')} |")
    return "\n".join(lines) + "\n"


RECORD = Path("benchmarks/results/topologies.json")
TABLES = (
    RecordedTable(Path("docs/scaling.md"), "topologies", ROWS, table),
    RecordedTable(Path("docs/memory.md"), "remat", REMAT_ROWS, remat_table),
)


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Compile the rows and rebuild the tables, or check the tables. See ``update_tables``."""
    update_tables(arguments, "benchmarks.topologies", RECORD, TABLES, compile_row, root)


if __name__ == "__main__":
    sys.exit(run_command(main))
