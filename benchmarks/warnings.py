"""How often translations have warnings: on ordinary text (false alarms), and on text that should have one.

    python -m benchmarks.warnings --workdir runs/tatoeba --foreign data/tanaka-en-ja/test.ja.gz

The sources are the test set of the run. Each damaged text is made from one line of it. The last rows change the
translation instead of the source: the best translation is cut to a third, its last two tokens are repeated four times,
or the complete translation is repeated three times. Also reports sacreBLEU of the test set line by line and of its
lines joined by twos and threes, and the share of the time that splitting into sentences and normalization take.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from transformer_jax.commands.cli import use_compilation_cache
from transformer_jax.data.sources import Pair, open_pairs, read_lines
from transformer_jax.decoding.parts import split_into_parts
from transformer_jax.decoding.search import max_target_length
from transformer_jax.decoding.translation import Translation
from transformer_jax.decoding.translator import Translator
from transformer_jax.decoding.warnings import Evidence
from transformer_jax.evaluation import score

Warnings = list[set[str]]
"""The codes of the warnings about each text."""


@dataclass(frozen=True)
class WarningsBenchmark:
    """Measure the warnings of a run on its test set and on damaged text."""

    workdir: Path
    """Run directory of a trained model."""
    foreign: Path
    """File of text in another script, with one sentence per line: plain or compressed text."""


def shuffle_characters(text: str) -> str:
    """Return the characters of a text in random order. The same text gives the same order."""
    return "".join(random.Random(text).sample(text, len(text))).strip()


def codes(translations: Sequence[Translation]) -> Warnings:
    """Return the codes of the warnings about each translation."""
    return [{code for code, _ in translation.warnings} for translation in translations]


def codes_of_changed(
    translator: Translator, translations: Sequence[Translation], change: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> Warnings:
    """Return the codes for translations whose target ids, without [EOS], are changed."""
    found = []
    for translation in translations:
        for sentence in translation.sentences:
            ids = (*change(sentence.target_ids[:-1]), sentence.target_ids[-1])
            limit = max_target_length(len(sentence.source_ids))
            text, mean = sentence.text, sentence.mean_log_probability
            evidence = Evidence(sentence.source, text, sentence.source_ids, ids, limit, mean)
            found.append({code for code, _ in translator.checks(evidence)})
    return found


def table(rows: dict[str, Warnings]) -> str:
    """Return a Markdown table: per kind of text, the share with any warning and the most frequent codes."""
    lines = ["| text | lines | with a warning | most frequent warnings |", "|---|---|---|---|"]
    for name, found in rows.items():
        counts = Counter(code for line in found for code in line)
        share = sum(map(bool, found)) / len(found)
        frequent = ", ".join(f"{code} {count / len(found):.1%}" for code, count in counts.most_common(4))
        lines.append(f"| {name} | {len(found)} | {share:.1%} | {frequent} |")
    return "\n".join(lines)


def joined_bleu(
    translator: Translator, pairs: Sequence[Pair], best: Sequence[Translation], count: int
) -> tuple[float, float]:
    """Return sacreBLEU on lines joined by ``count``: of the joined translations, and of translations of joined lines.

    best: the translation of each pair's source.
    """

    def join(texts: Sequence[str]) -> list[str]:
        return [" ".join(texts[start : start + count]) for start in range(0, len(texts), count)]

    sources, references = join([pair.source for pair in pairs]), join([pair.target for pair in pairs])
    one_by_one = join([translation.text for translation in best])
    together = [translation.text for translation in translator.translate(sources)]
    options = translator.config.data.target, translator.config.evaluation.tokenize
    bleu = [score(texts, references, *options)["BLEU"].value for texts in (one_by_one, together)]
    return bleu[0], bleu[1]


def run(command: WarningsBenchmark) -> None:
    """Print the tables."""
    translator = Translator.load(command.workdir)
    data = translator.config.data
    pairs = list(open_pairs(data.test, data.source, data.target, "test"))
    sources = [pair.source for pair in pairs]
    began = time.monotonic()
    best = translator.translate(sources)
    seconds = time.monotonic() - began
    foreign = [line.decode().strip() for line in read_lines(command.foreign)][: len(sources)]
    print(
        table(
            {
                "test set": codes(best),
                "lines in another script": codes(translator.translate(foreign)),
                "shuffled characters": codes(translator.translate(map(shuffle_characters, sources))),
                "translation cut to a third": codes_of_changed(translator, best, lambda ids: ids[: len(ids) // 3]),
                "last two tokens repeated": codes_of_changed(translator, best, lambda ids: ids + 3 * ids[-2:]),
                "translation repeated three times": codes_of_changed(translator, best, lambda ids: 3 * ids),
            }
        )
    )
    for count in (2, 3):
        one_by_one, together = joined_bleu(translator, pairs, best, count)
        print(f"sacreBLEU of lines joined by {count}: {one_by_one:.2f} one by one, {together:.2f} together")
    began = time.monotonic()
    split_into_parts(
        sources, translator.tokenizers.source, data.source, data.max_length, True, translator.checks.learned
    )
    print(f"splitting, normalization and encoding: {(time.monotonic() - began) / seconds:.2%} of {seconds:.1f} s")


if __name__ == "__main__":
    use_compilation_cache()
    run(tyro.cli(WarningsBenchmark))
