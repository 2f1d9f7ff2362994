"""Word alignments as text, and how far they are from those that people have made.

A link (i, j) joins word i of the source to word j of the target, from 0. As text, in the Pharaoh format, it is ``i-j``;
the links of a sentence pair are one line. In an alignment made by hand a link may be sure, ``i-j``, or only possible,
``ipj`` (Och and Ney 2003, "A Systematic Comparison of Various Statistical Alignment Models").
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
    """The links that people have made for one sentence pair: a sure link is also possible."""

    sure: Links
    possible: Links


class AlignmentScores(NamedTuple):
    """With A the links found, S the sure and P the possible ones: |A n P| / |A|, |A n S| / |S|, and the Alignment Error
    Rate 1 - (|A n S| + |A n P|) / (|A| + |S|). Sizes are summed over the sentence pairs first.

    Without any link found the precision is 0. Source: Och and Ney 2003.
    """

    precision: float
    recall: float
    error_rate: float


def score_alignments(found: Sequence[Links], gold: Sequence[GoldLinks]) -> AlignmentScores:
    """How good the links of sentence pairs are. The gold must hold a sure link."""
    pairs = list(zip(found, gold, strict=True))
    links, sure = sum(map(len, found)), sum(len(one.sure) for one in gold)
    in_sure = sum(len(links & one.sure) for links, one in pairs)
    in_possible = sum(len(links & one.possible) for links, one in pairs)
    return AlignmentScores(
        in_possible / links if links else 0.0, in_sure / sure, 1 - (in_sure + in_possible) / (links + sure)
    )


def format_links(links: Iterable[Link]) -> str:
    """One line in the Pharaoh format, in order."""
    return " ".join(f"{source}-{target}" for source, target in sorted(links))


def read_gold_links(path: Path, words: Sequence[tuple[int, int]]) -> list[GoldLinks]:
    """Read alignments made by hand.

    words: how many source and target words each sentence pair has.
    Raises InputError, with file and line, for what is no link, or one to a word that is not there; for a file of
    another length; and if no link is sure, since nothing can be measured then.
    """
    require_file(path)
    lines = list(read_lines(path))
    if len(lines) != len(words):
        raise InputError(f"{path} has {len(lines)} lines for {len(words)} sentence pairs. Give one for each.")
    gold = []
    for number, (line, counts) in enumerate(zip(lines, words, strict=True)):
        place = f"{path}:{number + 1}"
        gold.append(_parse(decode_line(line, number, place), place, *counts))
    if not any(one.sure for one in gold):
        raise InputError(f"{path} holds no sure link, i-j, so that nothing can be measured. Give alignments with some.")
    return gold


def _parse(line: str, place: str, source_words: int, target_words: int) -> GoldLinks:
    sure, possible = set(), set()
    for written in line.split():
        parts = re.fullmatch(r"(\d{1,9})([-p])(\d{1,9})", written, re.ASCII)
        if parts is None:
            raise InputError(f"{place}: {written!r} is no link. Write i-j for a sure link, ipj for a possible one.")
        link = int(parts[1]), int(parts[3])
        if link[0] >= source_words or link[1] >= target_words:
            raise InputError(
                f"{place}: {written} links to a word that is not there: the source has {source_words} words, "
                f"the target {target_words}. Count from 0, the source first."
            )
        possible.add(link)
        if parts[2] == "-":
            sure.add(link)
    return GoldLinks(frozenset(sure), frozenset(possible))
