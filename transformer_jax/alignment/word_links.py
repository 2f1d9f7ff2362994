"""Word alignment of raw texts and their translations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from transformer_jax.alignment.cross_attention import TokenizedPair, compute_pair_attention
from transformer_jax.alignment.error_rate import Link, Links
from transformer_jax.alignment.reading import AlignmentRule, link_target_words, word_weights
from transformer_jax.attention.words import word_numbers
from transformer_jax.decoding.translation import Translation
from transformer_jax.decoding.translator import Translator


def word_links(translator: Translator, texts: Sequence[str], translations: Sequence[Translation]) -> list[Links]:
    """Align each text with its translation by ``AlignmentRule.default``, and return the links.

    Words are separated by white space. Their zero-based indices refer to the complete text, even if it was translated
    in parts. In a text that was copied unchanged, each word is linked to itself.
    """
    config = translator.model.config
    rule = AlignmentRule.default(config.decoder_layers, config.heads)
    pairs = [
        TokenizedPair(sentence.source, sentence.text, sentence.source_ids, sentence.target_ids)
        for translation in translations
        for sentence in translation.sentences
    ]
    attention = compute_pair_attention(translator.model, translator.params, translator.tokenizers, pairs)
    links = {index: link_target_words(word_weights(pair, rule)) for index, pair in attention}
    sentence_links = iter([links[index] for index in range(len(pairs))])
    return [
        _join_links(text, translation, sentence_links) for text, translation in zip(texts, translations, strict=True)
    ]


def _join_links(text: str, translation: Translation, sentence_links: Iterator[Links]) -> Links:
    """Return the links of a text. The word indices of ``sentence_links`` start at 0 in each sentence.

    In a part that was copied unchanged, each word is linked to itself.
    """
    links: set[Link] = set()
    source_words, target_words = word_numbers(text), word_numbers(translation.text)
    source_end = target_end = 0
    for part in translation.parts or (translation,):
        source, code_words = part.source or part.text, 0
        source_start = text.find(source, source_end)
        if source_start < 0:  # The part begins with the language code of the text.
            source, code_words = source.partition(" ")[2], 1
            source_start = text.index(source, source_end)
        target_start = translation.text.index(part.text, target_end)
        # A long word may be cut in two. It is then the last word of one part and the first word of the next.
        source_offset = _first_word(source_words, source_start)
        target_offset = _first_word(target_words, target_start)
        part_links = (
            next(sentence_links) if part.source_ids else ((word, word) for word in range(len(part.text.split())))
        )
        links |= {
            (source_offset + source_word - code_words if source_word >= code_words else 0, target_offset + target_word)
            for source_word, target_word in part_links
        }
        source_end, target_end = source_start + len(source), target_start + len(part.text)
    return frozenset(links)


def _first_word(words: Sequence[int], start: int) -> int:
    """Return the number of the first word at or after a character; 0 if there is none."""
    return next((word for word in itertools.islice(words, start, None) if word >= 0), 0)
