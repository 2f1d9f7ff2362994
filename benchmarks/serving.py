"""Whether CTranslate2 translates as the run that was exported to it, and as well: python -m benchmarks.serving.

    python -m benchmarks.serving --workdir runs/multi30k --source data/multi30k/test_2016_flickr.en.gz \
        --reference data/multi30k/test_2016_flickr.de.gz

Text in, text out, for each way of storing weights and each pair of settings of docs/serving.md, whose table this
prints. How fast either is, ``benchmarks/decoding.py`` measures. Needs requirements-parity.txt.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from tokenizers import Tokenizer

from benchmarks.record import machine, require
from transformer_jax import Translator
from transformer_jax.bridges.ctranslate2 import export_ctranslate2
from transformer_jax.bridges.exported import Quantization
from transformer_jax.commands.cli import keep_compiled_programs
from transformer_jax.data.sources import read_lines
from transformer_jax.evaluation import score


class Settings(NamedTuple):
    """A search here and the one of CTranslate2 that is compared with it."""

    beam: int
    penalty: float
    theirs: float
    """Its ``length_penalty``."""


SETTINGS = (Settings(1, 0, 0), Settings(4, 0, 0), Settings(4, 0.6, 0.42), Settings(4, 0.6, 0.6))
STORED: tuple[Quantization, ...] = ("float32", "int8")


@dataclass(frozen=True)
class Benchmark:
    """Compare a run's translations with those of its export to CTranslate2."""

    workdir: Path
    """Run folder of a trained model."""
    source: Path
    """Text to translate, one sentence a line: plain, .gz or .xz."""
    reference: Path
    """Its translations, one a line."""
    output: Path | None = None
    """JSON file to write."""


def theirs(folder: Path, texts: Sequence[str], settings: Settings) -> list[str]:
    """What CTranslate2 makes of the texts, as the program of docs/serving.md does."""
    import ctranslate2

    model = ctranslate2.Translator(str(folder), device="cpu")
    source, target = (Tokenizer.from_file(str(folder / f"tokenizer.{side}.json")) for side in ("source", "target"))
    source.encode_special_tokens = True
    pieces = [encoding.tokens for encoding in source.encode_batch(list(texts))]
    results = model.translate_batch(
        pieces,
        beam_size=settings.beam,
        length_penalty=settings.theirs,
        min_decoding_length=0,
        max_decoding_length=2 * max(map(len, pieces)) + 10,
        max_batch_size=64,
    )
    ids_of = target.get_vocab()
    ids = (
        [ids_of[piece] for piece in result.hypotheses[0][: 2 * len(line) + 9]]
        for line, result in zip(pieces, results, strict=True)
    )
    return [target.decode(one).replace("\n", " ") for one in ids]


def measure(benchmark: Benchmark) -> list[dict[str, Any]]:
    """A row for each way of storing weights and each pair of settings."""
    translator = Translator.load(benchmark.workdir)
    texts, references = (
        [line.decode().rstrip("\r\n") for line in read_lines(path)] for path in (benchmark.source, benchmark.reference)
    )

    def bleu(translations: Sequence[str]) -> float:
        return score(translations, references, translator.config.data.target)["BLEU"].value

    ours = {
        settings: [one.text for one in translator.translate(texts, settings.beam, settings.penalty)]
        for settings in SETTINGS
    }
    rows = []
    for stored in STORED:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "model"
            export_ctranslate2(translator, folder, stored)
            for settings, here in ours.items():
                there = theirs(folder, texts, settings)
                same = sum(a == b for a, b in zip(here, there, strict=True)) / len(texts)
                megabytes = (folder / "model.bin").stat().st_size / 1e6
                scores = {"BLEU here": bleu(here), "BLEU there": bleu(there)}
                rows.append({"stored": stored, "MB": megabytes, **settings._asdict(), "same": same, **scores})
    return rows


def main() -> None:
    """Measure, print the table, write the record."""
    benchmark = tyro.cli(Benchmark)
    require("ctranslate2")
    keep_compiled_programs()
    rows = measure(benchmark)
    print("| here | CTranslate2 | stored as | model.bin | the same translation | BLEU here, there |")
    print("|---" * 6 + "|")
    for row in rows:
        here, there = f"beam {row['beam']}, A = {row['penalty']}", f"beam {row['beam']}, {row['theirs']}"
        kinds = ("greedy", "greedy") if row["beam"] == 1 else (here, there)
        print(
            f"| {' | '.join(kinds)} | {row['stored']} | {row['MB']:.2f} MB | {row['same']:.1%} "
            f"| {row['BLEU here']:.2f}, {row['BLEU there']:.2f} |"
        )
    if benchmark.output:
        benchmark.output.write_text(json.dumps({"measured": rows, "machine": machine()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
