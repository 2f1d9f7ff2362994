"""Word alignments as text, and their alignment error rate on gold alignments.

A link (i, j) connects source word i and target word j, counted from 0. In the Pharaoh format it is ``i-j``, and one
line contains the links of one sentence pair. Gold alignments are made by people. Their links are sure, ``i-j``, or only
possible, ``ipj`` (Och and Ney 2003, "A Systematic Comparison of Various Statistical Alignment Models").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from transformer_jax.data.text_files import decode_line, read_lines, require_file
from transformer_jax.errors import InputError

Link = tuple[int, int]
Links = frozenset[Link]


class GoldLinks(NamedTuple):
    """The gold alignment of one sentence pair.

    sure: the sure links.
    possible: the possible links, which include the sure ones.
    """

    sure: Links
    possible: Links


class AlignmentScores(NamedTuple):
    """Scores of predicted links A on sure links S and possible links P. Sizes are summed over all sentence pairs.

    precision: |A ∩ P| / |A|; 0 without predicted links.
    recall: |A ∩ S| / |S|.
    error_rate: the alignment error rate, 1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|).

    Source: Och and Ney 2003.
    """

    precision: float
    recall: float
    error_rate: float


def score_alignments(predictions: Sequence[Links], gold: Sequence[GoldLinks]) -> AlignmentScores:
    """Score the predicted links of sentence pairs. At least one gold link must be sure."""
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
    """Return one line in the Pharaoh format, with sorted links."""
    return " ".join(f"{source}-{target}" for source, target in sorted(links))


def read_gold_links(path: Path, word_counts: Sequence[tuple[int, int]]) -> list[GoldLinks]:
    """Read a file of gold alignments.

    word_counts: number of source words and target words of each sentence pair.

    Raises InputError if a link is malformed or its words do not exist, if the number of lines is wrong, or if there is
    no sure link, because then the error rate is undefined.
    """
    require_file(path)
    lines = list(read_lines(path))
    if len(lines) != len(word_counts):
        raise InputError(
            f"{path} has {len(lines)} lines for {len(word_counts)} sentence pairs. Write one line per sentence pair."
        )
    gold = []
    for index, (line, counts) in enumerate(zip(lines, word_counts, strict=True)):
        location = f"{path}:{index + 1}"
        gold.append(_parse_line(decode_line(line, index, location), location, *counts))
    if not any(links.sure for links in gold):
        raise InputError(
            f"{path} has no sure link, so the error rate is undefined. Write at least one sure link as i-j."
        )
    return gold


def _parse_line(line: str, location: str, source_words: int, target_words: int) -> GoldLinks:
    sure, possible = set(), set()
    for item in line.split():
        match = re.fullmatch(r"(\d{1,9})([-p])(\d{1,9})", item, re.ASCII)
        if match is None:
            raise InputError(
                f"{location}: {item!r} is not a link. Write i-j for a sure link and ipj for a possible one."
            )
        link = int(match[1]), int(match[3])
        if link[0] >= source_words or link[1] >= target_words:
            raise InputError(
                f"{location}: {item} links to a word that does not exist: the source has {source_words} words, "
                f"the target {target_words}. Write the source word first, and count from 0."
            )
        possible.add(link)
        if match[2] == "-":
            sure.add(link)
    return GoldLinks(frozenset(sure), frozenset(possible))
