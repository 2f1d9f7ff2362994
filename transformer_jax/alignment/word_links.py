"""Which word of a text each word of its translation came from."""

from __future__ import annotations

from collections.abc import Sequence

from transformer_jax.alignment.cross_attention import TokenizedPair, compute_pair_attention
from transformer_jax.alignment.error_rate import Link, Links
from transformer_jax.alignment.reading import AlignmentRule, link_target_words, word_weights
from transformer_jax.attention.words import word_numbers
from transformer_jax.decoding.translator import Translation, Translator


def word_links(translator: Translator, texts: Sequence[str], translations: Sequence[Translation]) -> list[Links]:
    """The links (word of the text, word of the translation) of each pair, read as ``AlignmentRule.default`` says.

    Words are those between white space, from 0, also of a text that was translated in parts. Each word of a text that
    was passed on as it is came from itself.
    """
    pieces = [(number, part) for number, one in enumerate(translations) for part in one.parts or (one,)]
    pieces = [(number, part) for number, part in pieces if part.source_ids]
    encoded = [TokenizedPair(part.source, part.text, part.source_ids, part.target_ids) for _, part in pieces]
    config = translator.model.config
    reading = AlignmentRule.default(config.decoder_layers, config.heads)
    read = compute_pair_attention(translator.model, translator.params, translator.tokenizers, encoded)
    links_of_piece = {place: link_target_words(word_weights(tokens, reading)) for place, tokens in read}

    links: list[set[Link]] = [set() for _ in texts]
    for number, (text, translation) in enumerate(zip(texts, translations, strict=True)):
        if not translation.source_ids:
            links[number] = {(word, word) for word in range(len(text.split()))}
    characters, words = [0] * len(texts), [0] * len(texts)  # of the text, and of the translation, before the next part
    words_at = {number: word_numbers(texts[number]) for number, _ in pieces}
    for place, (number, part) in enumerate(pieces):
        begin = texts[number].index(part.source, characters[number])
        # A part may begin within a word, where none is short enough: that word is then the first of the part, too.
        after = (words_at[number][at] for at in range(begin, len(texts[number])))
        first = next((word for word in after if word >= 0), 0)
        links[number] |= {(first + source, words[number] + target) for source, target in links_of_piece[place]}
        characters[number] = begin + len(part.source)
        words[number] += len(part.text.split())
    return [frozenset(one) for one in links]
