"""The Pharaoh format of word alignments, and the alignment error rate (AER) on gold alignments.

A link (i, j) connects source word i with target word j. Both are zero-based indices. The Pharaoh format writes a link
as ``i-j``, and one sentence pair per line. Gold alignments are annotated by hand. They distinguish sure links, ``i-j``,
from possible links, ``ipj`` (Och and Ney 2003, "A Systematic Comparison of Various Statistical Alignment Models").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from transformer_jax.data.text_files import decode_line, read_lines, require_text_file
from transformer_jax.errors import InputError

Link = tuple[int, int]
Links = frozenset[Link]


class GoldLinks(NamedTuple):
    """The gold alignment of one sentence pair.

    sure: the sure links.
    possible: the possible links, including all sure links.
    """

    sure: Links
    possible: Links


class AlignmentScores(NamedTuple):
    """Scores of predicted links A on sure links S and possible links P. Sizes are summed over all sentence pairs.

    precision: |A ∩ P| / |A|; 0 if no links are predicted.
    recall: |A ∩ S| / |S|.
    error_rate: the alignment error rate, 1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|).

    Source: Och and Ney 2003.
    """

    precision: float
    recall: float
    error_rate: float


def score_alignments(predictions: Sequence[Links], gold: Sequence[GoldLinks]) -> AlignmentScores:
    """Return the scores of the links predicted for sentence pairs. At least one gold link must be sure."""
    pairs = list(zip(predictions, gold, strict=True))
    predicted, sure = sum(map(len, predictions)), sum(len(links.sure) for links in gold)
    predicted_sure = sum(len(links & gold_links.sure) for links, gold_links in pairs)
    predicted_possible = sum(len(links & gold_links.possible) for links, gold_links in pairs)
    return AlignmentScores(
        precision=predicted_possible / predicted if predicted else 0.0,
        recall=predicted_sure / sure,
        error_rate=1 - (predicted_sure + predicted_possible) / (predicted + sure),
    )


def format_links(links: Iterable[Link]) -> str:
    """Return the sorted links as one line in the Pharaoh format."""
    return " ".join(f"{source}-{target}" for source, target in sorted(links))


def read_gold_links(path: Path, word_counts: Sequence[tuple[int, int]]) -> list[GoldLinks]:
    """Return the gold alignment of each sentence pair in a file.

    word_counts: number of source words and target words of each sentence pair.

    Raises InputError if a link is malformed or refers to a word that does not exist, if the number of lines is wrong,
    or if no link is sure, because the error rate is then undefined.
    """
    require_text_file(path)
    lines = list(read_lines(path))
    if len(lines) != len(word_counts):
        raise InputError(
            f"the number of lines in {path} ({len(lines)}) differs from the number of sentence pairs "
            f"({len(word_counts)}). Write one line per sentence pair."
        )
    gold = []
    for index, (line, counts) in enumerate(zip(lines, word_counts, strict=True)):
        location = f"{path}:{index + 1}"
        gold.append(_parse_line(decode_line(line, location, path=path), location, *counts))
    if not any(links.sure for links in gold):
        raise InputError(
            f"{path} has no sure link, so the error rate is undefined. Add at least one sure link, such as 0-0."
        )
    return gold


def _parse_line(line: str, location: str, source_words: int, target_words: int) -> GoldLinks:
    sure, possible = set(), set()
    for item in line.split():
        match = re.fullmatch(r"(\d{1,9})([-p])(\d{1,9})", item, re.ASCII)
        if match is None:
            raise InputError(
                f"{location}: {item!r} is not a link. Write i-j for a sure link and ipj for a possible link."
            )
        link = int(match[1]), int(match[3])
        if link[0] >= source_words or link[1] >= target_words:
            raise InputError(
                f"{location}: {item} links to a word that does not exist. The source words are numbered from 0 to "
                f"{source_words - 1}, the target words from 0 to {target_words - 1}. Write the source word first."
            )
        possible.add(link)
        if match[2] == "-":
            sure.add(link)
    return GoldLinks(frozenset(sure), frozenset(possible))
