"""Comparison of a run with its CTranslate2 export: identical translations and BLEU.

    python -m benchmarks.serving --workdir runs/multi30k --source data/multi30k/test_2016_flickr.en.gz \
        --reference data/multi30k/test_2016_flickr.de.gz

The benchmark prints the table of docs/serving.md, with one row per weight type and pair of search settings. It compares
detokenized text. ``benchmarks/decoding.py`` compares the speed. Requires requirements-parity.txt.
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

from benchmarks.record import machine, require_packages
from transformer_jax import Translator
from transformer_jax.bridges.ctranslate2 import export_ctranslate2
from transformer_jax.bridges.export_directory import Quantization
from transformer_jax.commands.cli import use_compilation_cache
from transformer_jax.data.sources import read_lines
from transformer_jax.evaluation import score


class Settings(NamedTuple):
    """Search settings of both systems for one comparison.

    beam: beam size.
    penalty: length penalty of this package.
    theirs: ``length_penalty`` of CTranslate2.
    """

    beam: int
    penalty: float
    theirs: float


SETTINGS = (Settings(1, 0, 0), Settings(4, 0, 0), Settings(4, 0.6, 0.42), Settings(4, 0.6, 0.6))
WEIGHT_TYPES: tuple[Quantization, ...] = ("float32", "int8")


@dataclass(frozen=True)
class ServingBenchmark:
    """Compare the translations of a run and of its CTranslate2 export."""

    workdir: Path
    """Run directory of a trained model."""
    source: Path
    """File to translate, with one sentence per line: plain or compressed text."""
    reference: Path
    """File with one reference translation per line: plain or compressed text."""
    output: Path | None = None
    """JSON file for the scores."""


def translate_with_ctranslate2(directory: Path, texts: Sequence[str], settings: Settings) -> list[str]:
    """Translate texts with CTranslate2, like the example program in docs/serving.md."""
    import ctranslate2

    model = ctranslate2.Translator(str(directory), device="cpu")
    source, target = (Tokenizer.from_file(str(directory / f"tokenizer.{side}.json")) for side in ("source", "target"))
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
    return [target.decode(token_ids).replace("\n", " ") for token_ids in ids]


def measure(benchmark: ServingBenchmark) -> list[dict[str, Any]]:
    """Compare the translations, and return one row per weight type and pair of search settings."""
    translator = Translator.load(benchmark.workdir)
    texts, references = (
        [line.decode().rstrip("\r\n") for line in read_lines(path)] for path in (benchmark.source, benchmark.reference)
    )

    def bleu(translations: Sequence[str]) -> float:
        config = translator.config
        return score(translations, references, config.data.target, config.evaluation.tokenize)["BLEU"].value

    our_translations = {
        settings: [translation.text for translation in translator.translate(texts, settings.beam, settings.penalty)]
        for settings in SETTINGS
    }
    rows = []
    for weight_type in WEIGHT_TYPES:
        with tempfile.TemporaryDirectory() as parent:
            directory = Path(parent) / "model"
            export_ctranslate2(translator, directory, weight_type)
            for settings, our_texts in our_translations.items():
                their_texts = translate_with_ctranslate2(directory, texts, settings)
                same = sum(a == b for a, b in zip(our_texts, their_texts, strict=True)) / len(texts)
                megabytes = (directory / "model.bin").stat().st_size / 1e6
                scores = {"BLEU here": bleu(our_texts), "BLEU there": bleu(their_texts)}
                rows.append({"stored": weight_type, "MB": megabytes, **settings._asdict(), "same": same, **scores})
    return rows


def main() -> None:
    """Compare the translations, print the table and write the record."""
    benchmark = tyro.cli(ServingBenchmark)
    require_packages("ctranslate2")
    use_compilation_cache()
    rows = measure(benchmark)
    print("| transformer_jax | CTranslate2 | weights | model.bin | same translation | BLEU of each |")
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
