"""BLEU of a trained model by beam size and length penalty: python -m benchmarks.search_settings runs/NAME.

The benchmark translates the validation set with every combination of beam size and length penalty, so no choice depends
on the test set. New scores are added to the earlier scores of the same weights. ``python -m benchmarks.results`` builds
the tables from the records.
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

from benchmarks.record import machine, read_record
from transformer_jax import Translator
from transformer_jax.commands.cli import parse_arguments, run_command
from transformer_jax.config import DecodingConfig
from transformer_jax.data.sources import open_pairs
from transformer_jax.errors import InputError
from transformer_jax.evaluation import score
from transformer_jax.storage import atomic, checksums
from transformer_jax.terminal import quote

ROOT = Path(__file__).parent.parent
RECORDS = Path("benchmarks/results/search")
BEGIN_MARKER = "<!-- search: written by python -m benchmarks.results -->"
END_MARKER = "<!-- search: end -->"


@dataclass(frozen=True)
class SearchCommand:
    """Score a run on its validation set with several beam sizes and length penalties."""

    run: tyro.conf.Positional[Path | None] = None
    """Run directory."""
    beams: tuple[int, ...] = (1, 2, 5, 10)
    """Beam sizes to try."""
    penalties: tuple[float, ...] = (0.0, 0.3, 0.6, 1.0, 1.4)
    """Length penalties to try. Greedy search (beam size 1) ignores them."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: list[str], root: Path = ROOT) -> None:
    """Score a run with every combination of settings, record the scores and print them.

    root: repository root.
    Raises InputError before translation if the settings are invalid.
    """
    command = parse_arguments(SearchCommand(), arguments, "python -m benchmarks.search_settings")
    if command.run is None:
        raise InputError("no run directory given. Run: python -m benchmarks.search_settings runs/NAME")
    settings = [
        DecodingConfig(beam, penalty)
        for beam in command.beams
        for penalty in (command.penalties if beam > 1 else (0.0,))
    ]
    if not settings:
        raise InputError(
            "no beam size or length penalty given. "
            f"Run: python -m benchmarks.search_settings {quote(command.run)} --beams 1 5 --penalties 0.6"
        )
    translator = Translator.load(command.run)
    data = translator.config.data
    pairs = list(open_pairs(data.valid, data.source, data.target, "valid"))
    sources, references = [pair.source for pair in pairs], [pair.target for pair in pairs]
    rows: list[dict[str, Any]] = []
    for setting in settings:
        translations = [
            translation.text for translation in translator.translate(sources, **dataclasses.asdict(setting))
        ]
        scores = score(translations, references, data.target, translator.config.evaluation.tokenize)
        bleu = scores.get("BLEU-tokenized", scores["BLEU"])
        rows.append({**dataclasses.asdict(setting), "BLEU": bleu.value, "signature": bleu.signature})
    checksum_file = command.run / "checkpoints" / str(translator.step) / checksums.CHECKSUMS_FILE
    weights = {
        "run": command.run.resolve().name,
        "step": translator.step,
        "valid": data.valid,
        "checksum": hashlib.sha256(checksum_file.read_bytes()).hexdigest(),
    }
    path = root / RECORDS / f"{weights['run']}.json"
    earlier = read_record(path, _require_table) if path.exists() else {}
    if all(earlier.get(name) == value for name, value in weights.items()):
        measured = {(setting.beam, setting.length_penalty) for setting in settings}
        rows = [row for row in earlier["rows"] if (row["beam"], row["length_penalty"]) not in measured] + rows
    record = {**weights, "rows": rows, "machine": machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(_table(record))


def search_tables(root: Path, prefix: str) -> str:
    """Return the tables of all recorded runs with names that start with the prefix."""
    tables = [read_record(path, _table) for path in sorted((root / RECORDS).glob(f"{prefix}*.json"))]
    return "\n".join(tables) or "No run is recorded yet.\n"


def _require_table(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record unchanged, after checking that a table can be built from it."""
    _table(record)
    return record


def _table(record: dict[str, Any]) -> str:
    """Return a table with one row per beam size and one column per length penalty."""
    scores = {(row["beam"], row["length_penalty"]): f"{row['BLEU']:.2f}" for row in record["rows"]}
    beams, penalties = (sorted(set(values)) for values in zip(*scores, strict=True))
    header = [record["run"], *(f"length penalty {penalty:g}" for penalty in penalties)]
    rows = [[f"beam {beam}", *(scores.get((beam, penalty), "") for penalty in penalties)] for beam in beams]
    lines = [header, ["---"] * len(header), *rows]
    signature = record["rows"][0]["signature"]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n`{record['valid']}`, BLEU `{signature}`.\n"


if __name__ == "__main__":
    sys.exit(run_command(main))
