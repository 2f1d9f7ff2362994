"""Word alignment of raw texts and their translations."""

from __future__ import annotations

from collections.abc import Sequence

from transformer_jax.alignment.cross_attention import TokenizedPair, compute_pair_attention
from transformer_jax.alignment.error_rate import Link, Links
from transformer_jax.alignment.reading import AlignmentRule, link_target_words, word_weights
from transformer_jax.attention.words import word_numbers
from transformer_jax.decoding.translator import Translation, Translator


def word_links(translator: Translator, texts: Sequence[str], translations: Sequence[Translation]) -> list[Links]:
    """Align each text with its translation by ``AlignmentRule.default``, and return the links.

    Words are separated by white space. Their zero-based indices refer to the complete text, even if it was translated
    in parts. In a text that was copied unchanged, each word is linked to itself.
    """
    config = translator.model.config
    rule = AlignmentRule.default(config.decoder_layers, config.heads)
    text_parts = [_translated_parts(translation) for translation in translations]
    pairs = [
        TokenizedPair(part.source, part.text, part.source_ids, part.target_ids)
        for parts in text_parts
        for part in parts
    ]
    attention = compute_pair_attention(translator.model, translator.params, translator.tokenizers, pairs)
    links = {index: link_target_words(word_weights(pair, rule)) for index, pair in attention}
    part_links = iter([links[index] for index in range(len(pairs))])
    return [
        _join_links(text, parts, [next(part_links) for _ in parts]) if parts else _copied_links(text)
        for text, parts in zip(texts, text_parts, strict=True)
    ]


def _translated_parts(translation: Translation) -> list[Translation]:
    """Return the parts that the model translated; none if the text was copied unchanged."""
    return [part for part in translation.parts or (translation,) if part.source_ids]


def _copied_links(text: str) -> Links:
    return frozenset((word, word) for word in range(len(text.split())))


def _join_links(text: str, parts: Sequence[Translation], part_links: Sequence[Links]) -> Links:
    """Join the links of the parts of a text. The word indices of ``part_links`` start at 0 in each part."""
    links: set[Link] = set()
    words_at = word_numbers(text)
    end, target_offset = 0, 0
    for part, links_in_part in zip(parts, part_links, strict=True):
        start = text.index(part.source, end)
        # A long word may be split between two parts. It is then also the first word of the second part.
        following = (words_at[index] for index in range(start, len(text)))
        source_offset = next((word for word in following if word >= 0), 0)
        links |= {(source_offset + source, target_offset + target) for source, target in links_in_part}
        end = start + len(part.source)
        target_offset += len(part.text.split())
    return frozenset(links)
