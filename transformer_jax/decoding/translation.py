"""Texts before and after the search: split into sentences, and translated."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformer_jax.decoding.parts import Part
from transformer_jax.decoding.search import SearchOptions, make_method, make_requests
from transformer_jax.decoding.slot_loop import Request
from transformer_jax.decoding.slots import SearchMethod
from transformer_jax.decoding.warnings import Checks, TranslationWarning, join_warnings


@dataclass(frozen=True)
class Translation:
    """One translation of one text.

    text: the translation as raw text.
    score: the sum of the tokens' log-probabilities. Beam search divides it by the length penalty.
    tokens: the target tokens, [EOS] last.
    source_ids: ids of the source tokens, [EOS] last; empty if the text was copied unchanged.
    target_ids: ids of the target tokens, [EOS] last; empty if the text was copied unchanged.
    parts: the translations of the sentences, or of pieces of long sentences; empty if the text is a single sentence.
    source: the text that was translated; empty if it was copied unchanged.
    mean_log_probability: mean log-probability per token; None if the text was copied unchanged or translated in parts.
    warnings: reasons to check the translation.
    """

    text: str
    score: float
    tokens: tuple[str, ...]
    source_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    parts: tuple[Translation, ...] = ()
    source: str = ""
    mean_log_probability: float | None = None
    warnings: tuple[TranslationWarning, ...] = ()

    @property
    def has_attention(self) -> bool:
        """Whether there is an attention map: False if the text was copied unchanged or translated in parts.

        Each of ``parts`` may have an attention map of its own.
        """
        return bool(self.source_ids) and not self.parts

    @property
    def sentences(self) -> tuple[Translation, ...]:
        """The translations that the model produced, in order: of the parts, or of the complete text."""
        return tuple(part for part in self.parts or (self,) if part.source_ids)


class PreparedTexts(NamedTuple):
    """Texts that are split into the sentences to search.

    texts: the texts.
    text_parts: the parts of each text.
    first: number of the first text, on which random draws depend.
    options: the options of the search.
    sources: ids of each sentence to search, [EOS] last. With sampling, a key has the number of the text, the index of
        the part in it and the number of the draw.
    keys: the keys in ``sources`` of each part that is searched, by the number of its text and its index in it.
    """

    texts: list[str]
    text_parts: list[list[Part]]
    first: int
    options: SearchOptions
    sources: dict[Any, tuple[int, ...]]
    keys: dict[tuple[int, int], list[Any]]

    @property
    def method(self) -> SearchMethod:
        """The search method."""
        return make_method(*self.options)

    @property
    def requests(self) -> list[Request]:
        """The request of each sentence to search."""
        return make_requests(list(self.sources.values()), self.options.sampling, list(self.sources))


def join_parts(
    text: str, parts: Sequence[Part], n_best_lists: Sequence[list[Translation] | None], blank: str, checks: Checks
) -> list[Translation]:
    """Return the joined translations of a text: the best translations of all parts, the second-best, and so on.

    n_best_lists: the translations of each part; None for a part that is copied.
    blank: joins translations between which the text has no white space.
    checks: the checks that find warnings about copied parts.
    """
    counts = [len(n_best) for n_best in n_best_lists if n_best is not None]
    if not counts:
        text = text.strip()
        copied = TranslationWarning("copied", "the text has no letters or digits and is copied unchanged.")
        return [Translation(text, 0.0, (), (), (), warnings=checks.about_copy(text) or (copied,) * bool(text))]
    if len(parts) == 1 and n_best_lists[0] is not None:
        return n_best_lists[0]
    cut = sum(part.is_cut for part in parts)
    message = f"text that is longer than the longest sentence in training is translated in {cut} parts."
    cut_warnings = [TranslationWarning("cut_sentence", message)] if cut else []
    # A symbol that is copied stays next to its sentence, and the pieces of a word stay together.
    blanks = [
        before.blank or (blank if before.ids and after.ids and not (before.is_cut and after.is_cut) else "")
        for before, after in itertools.pairwise(parts)
    ]
    joined = []
    for rank in range(min(counts)):
        translations = tuple(
            Translation(part.text, 0.0, (), (), (), warnings=checks.about_copy(part.text))
            if n_best is None
            else n_best[rank]
            for part, n_best in zip(parts, n_best_lists, strict=True)
        )
        joined.append(
            Translation(
                text="".join(best.text + after for best, after in zip(translations, [*blanks, ""], strict=True)),
                score=sum(best.score for best in translations),
                tokens=tuple(token for best in translations for token in best.tokens),
                source_ids=tuple(token for best in translations for token in best.source_ids),
                target_ids=tuple(token for best in translations for token in best.target_ids),
                parts=translations,
                source=text,
                warnings=(
                    *cut_warnings,
                    *join_warnings((bool(best.source_ids), best.warnings) for best in translations),
                ),
            )
        )
    return joined
