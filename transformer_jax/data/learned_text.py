"""What a model has learned of the text of its training sources: its characters, and words that end sentences."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from transformer_jax.data.tokenizers import Tokenizer


class LearnedText:
    """A container of the characters that a model can read: those that normalization turns into characters it has seen.

    source: the source tokenizer.
    characters: the characters of the normalized training sources; empty if they are unknown. Then all can be read.
    sentence_ends: see ``TextStatistics``.
    """

    def __init__(self, source: Tokenizer, characters: str = "", sentence_ends: Iterable[str] = ()) -> None:
        self.sentence_ends = frozenset(sentence_ends)
        self._source = source
        self._known: dict[object, bool] = dict.fromkeys(characters, True)
        self._all_known = not characters

    def __contains__(self, character: object) -> bool:
        if self._all_known or not isinstance(character, str):
            return self._all_known
        if character not in self._known:
            texts = [character]
            if unicodedata.category(character)[0] in "PS":  # A quote is normalized differently before and after a word.
                texts += [f"{character}a", f"a{character}"]
            self._known[character] = any(
                all(self._known.get(part, False) for part in self._source.normalize(text)) for text in texts
            )
        return self._known[character]

    def unknown_in(self, text: str) -> list[str]:
        """Return the unknown characters of the text that the model reads in place of ``text``, in order."""
        if self._all_known or all(character in self for character in set(text)):
            return []
        return [character for character in self._source.normalize(text) if not self._known.get(character, False)]

    def can_read(self, text: str) -> bool:
        """Return whether a text has a known letter or digit, so that the model can translate at least a part of it."""
        return any(character.isalnum() and character in self for character in text)
