"""What beam and length penalty a trained run should have: python -m benchmarks.search_settings runs/NAME.

Translates the run's validation set with each pair of both, so that the test set decides nothing, and records the scores
for the table that ``python -m benchmarks.results`` makes, beside those that the same weights have there already.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.record import machine, stored
from transformer_jax import Translator
from transformer_jax.commands.cli import parse
from transformer_jax.commands.cli import run as run_command
from transformer_jax.config import DecodingConfig
from transformer_jax.data.sources import open_pairs
from transformer_jax.errors import InputError
from transformer_jax.evaluation import score
from transformer_jax.storage import atomic, checksums

ROOT = Path(__file__).parent.parent
RECORDED = Path("benchmarks/results/search")
BEGIN = "<!-- search: written by python -m benchmarks.results -->"
END = "<!-- search: end -->"


@dataclass(frozen=True)
class SearchCommand:
    """Score a run on its validation set with several beams and length penalties."""

    run: tyro.conf.Positional[Path | None] = None
    """The run folder."""
    beams: tuple[int, ...] = (1, 2, 5, 10)
    """Which beams."""
    penalties: tuple[float, ...] = (0.0, 0.3, 0.6, 1.0, 1.4)
    """Which length penalties; greedy search has none."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Translate, record, print. root: the checkout that keeps the record. Raises InputError, before it translates, for
    settings that cannot be searched with.
    """
    command = parse(SearchCommand(), arguments, "-m benchmarks.search_settings")
    if command.run is None:
        raise InputError("no run is named. Give the folder of one that train.py made.")
    settings = [
        DecodingConfig(beam, penalty)
        for beam in command.beams
        for penalty in (command.penalties if beam > 1 else (0.0,))
    ]
    if not settings:
        raise InputError("there is nothing to search with. Give at least one of --beams and of --penalties.")
    translator = Translator.load(command.run)
    data = translator.config.data
    pairs = list(open_pairs(data.valid, data.source, data.target, "valid"))
    sources, references = [pair.source for pair in pairs], [pair.target for pair in pairs]
    rows: list[dict[str, Any]] = []
    for setting in settings:
        found = [one.text for one in translator.translate(sources, **dataclasses.asdict(setting))]
        scores = score(found, references, data.target)
        value = scores.get("BLEU-tokenized", scores["BLEU"])
        rows.append({**dataclasses.asdict(setting), "BLEU": value.value, "signature": value.signature})
    saved = command.run / "checkpoints" / str(translator.step) / checksums.NAME
    weights = {
        "run": command.run.resolve().name,
        "step": translator.step,
        "valid": data.valid,
        "checksum": hashlib.sha256(saved.read_bytes()).hexdigest(),
    }
    path = root / RECORDED / f"{weights['run']}.json"
    earlier = stored(path, _checked) if path.exists() else {}
    if all(earlier.get(name) == value for name, value in weights.items()):
        measured = {(setting.beam, setting.length_penalty) for setting in settings}
        rows = [row for row in earlier["rows"] if (row["beam"], row["length_penalty"]) not in measured] + rows
    record = {**weights, "rows": rows, "machine": machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(_table(record))


def tables(root: Path, prefix: str) -> str:
    """One table for each recorded run whose name begins so."""
    found = [stored(path, _table) for path in sorted((root / RECORDED).glob(f"{prefix}*.json"))]
    return "\n".join(found) or "No run is recorded yet.\n"


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """A record that makes a table, or else an error."""
    _table(record)
    return record


def _table(record: dict[str, Any]) -> str:
    """A row for each beam, a column for each length penalty."""
    scores = {(row["beam"], row["length_penalty"]): f"{row['BLEU']:.2f}" for row in record["rows"]}
    beams, penalties = (sorted(set(part)) for part in zip(*scores, strict=True))
    header = [record["run"], *(f"length penalty {penalty:g}" for penalty in penalties)]
    rows = [[f"beam {beam}", *(scores.get((beam, penalty), "") for penalty in penalties)] for beam in beams]
    lines = [header, ["---"] * len(header), *rows]
    signature = record["rows"][0]["signature"]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n`{record['valid']}`, BLEU `{signature}`.\n"


if __name__ == "__main__":
    sys.exit(run_command(main))
