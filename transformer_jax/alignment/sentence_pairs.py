"""Splitting of pairs of lines into sentence pairs, and numbering of the words of a sentence within its line."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from transformer_jax.alignment.error_rate import GoldLinks, Link, Links
from transformer_jax.data.sentences import SplitSentences, split_sentences
from transformer_jax.data.sources import Pair
from transformer_jax.data.text_statistics import needs_splitting
from transformer_jax.decoding.parts import LANGUAGE_CODE

if TYPE_CHECKING:
    from transformer_jax.decoding.translator import Translator


class SentencePair(NamedTuple):
    """A sentence of a line and its translation, or a pair of lines that is not split.

    pair: the two texts. If the line begins with a language code, each of its sentences does.
    line: number of the line.
    source_words: for each word of the source, its number in the line. Words are separated by white space.
    target_words: for each word of the target, its number in the line.
    sentence_counts: number of sentences in the source line and in the target line.
    """

    pair: Pair
    line: int
    source_words: Sequence[int]
    target_words: Sequence[int]
    sentence_counts: tuple[int, int] = (1, 1)


def needs_single_sentences(option: SplitSentences, translators: Iterable[Translator]) -> bool:
    """Return whether to split lines into sentences: if one of the models needs it."""
    return any(needs_splitting(option, translator.statistics) for translator in translators)


def split_pairs(
    pairs: Sequence[Pair], translator: Translator, by_sentences: bool, first: int = 1
) -> list[SentencePair]:
    """Return the sentence pairs of each pair of lines, in order.

    A pair is split only if both lines have the same number of sentences, and only at white space, so that no word is
    divided. Emoji and bullets stay with their sentence. A pair that is not split is returned unchanged.

    translator: the model, whose config has the languages of the pairs.
    by_sentences: whether to split pairs at all.
    first: number of the first line.
    """
    return [
        sentence_pair
        for line, pair in enumerate(pairs, start=first)
        for sentence_pair in (_split_pair(pair, line, translator) if by_sentences else [_complete_pair(pair, line)])
    ]


def warn_of_unequal_counts(sentence_pairs: Sequence[SentencePair]) -> None:
    """Log one warning if lines were not split because their numbers of sentences differ."""
    unequal = [pair for pair in sentence_pairs if pair.sentence_counts[0] != pair.sentence_counts[1]]
    if unequal:
        first, *others = unequal
        more = f" and {len(others)} other line{'s' if len(others) > 1 else ''}" if others else ""
        source_count, target_count = first.sentence_counts
        logging.warning(
            f"line {first.line}{more}: source and target have different numbers of sentences ({source_count} and "
            f"{target_count}) and are not split. Write one sentence per line, or set --split-sentences never."
        )


def join_links(sentence_pairs: Sequence[SentencePair], links: Iterable[Links]) -> list[Links]:
    """Return the links of each pair of lines.

    links: the links of each sentence pair.
    """
    joined: dict[int, set[Link]] = {}
    for pair, pair_links in zip(sentence_pairs, links, strict=True):
        joined.setdefault(pair.line, set()).update(
            (pair.source_words[source], pair.target_words[target]) for source, target in pair_links
        )
    return list(map(frozenset, joined.values()))


def split_gold_links(sentence_pairs: Sequence[SentencePair], gold: Sequence[GoldLinks]) -> list[GoldLinks]:
    """Return the gold links of each sentence pair, with word numbers within the sentences.

    A link between words of different sentence pairs is never predicted, but counts for recall. It is kept with negative
    numbers, so the scores equal those of the joined links.

    gold: the gold links of each pair of lines.
    """
    split: list[GoldLinks] = []
    groups = groupby(sentence_pairs, key=lambda pair: pair.line)
    for (_, group), links in zip(groups, gold, strict=True):
        pairs = list(group)
        split += map(GoldLinks, _split_links(pairs, links.sure), _split_links(pairs, links.possible))
    return split


def _split_links(pairs: Sequence[SentencePair], links: Links) -> list[Links]:
    """Return the links within each sentence pair of a line; the others with negative numbers in the first pair."""
    between = set(links)
    split: list[set[Link]] = []
    for pair in pairs:
        inside = {link for link in links if link[0] in pair.source_words and link[1] in pair.target_words}
        between -= inside
        split.append({(pair.source_words.index(source), pair.target_words.index(target)) for source, target in inside})
    split[0] |= {(-1 - source, -1 - target) for source, target in between}
    return list(map(frozenset, split))


def _complete_pair(pair: Pair, line: int, counts: tuple[int, int] = (1, 1)) -> SentencePair:
    """Return a pair of lines that is not split."""
    return SentencePair(pair, line, range(len(pair.source.split())), range(len(pair.target.split())), counts)


def _split_pair(pair: Pair, line: int, translator: Translator) -> Iterator[SentencePair]:
    """Yield the sentence pairs of a pair of lines."""
    languages = translator.config.data
    is_multilingual = translator.tokenizers.source.kind == "sentencepiece"
    match = LANGUAGE_CODE.match(pair.source) if is_multilingual else None
    code = match[0] if match else ""
    sources = _sentences(pair.source[len(code) :], languages.source)
    targets = _sentences(pair.target, languages.target)
    counts = len(sources), len(targets)
    sentences = list(_join_within_words(sources, targets)) if len(sources) == len(targets) else []
    if len(sentences) < 2:
        yield _complete_pair(pair, line, counts)
        return
    code_words = len(code.split())
    source_start, target_start = code_words, 0
    for source, target in sentences:
        source_end, target_end = source_start + len(source.split()), target_start + len(target.split())
        yield SentencePair(
            Pair(" ".join([*code.split(), source.strip()]), target.strip()),
            line,
            (*range(code_words), *range(source_start, source_end)),
            range(target_start, target_end),
            counts,
        )
        source_start, target_start = source_end, target_end


def _sentences(text: str, language: str) -> list[str]:
    """Return the sentences of a text. Put together, they are the text.

    Symbols without letters and digits belong to the sentence before them, or else to the first sentence.
    """
    sentences: list[str] = []
    for piece in split_sentences(text, language):
        if sentences and not (_has_words(piece) and _has_words(sentences[-1])):
            sentences[-1] += piece
        else:
            sentences.append(piece)
    return sentences


def _has_words(text: str) -> bool:
    return any(map(str.isalnum, text))


def _join_within_words(sources: Sequence[str], targets: Sequence[str]) -> Iterator[Pair]:
    """Yield the sentence pairs. Join two pairs if no white space separates their sources or their targets."""
    joined = Pair(sources[0], targets[0])
    for following in map(Pair, sources[1:], targets[1:]):
        if all(before[-1:].isspace() or after[:1].isspace() for before, after in zip(joined, following, strict=True)):
            yield joined
            joined = following
        else:
            joined = Pair(joined.source + following.source, joined.target + following.target)
    yield joined
