"""Scores of translations: sacreBLEU and chrF on raw text, with the signatures that make them comparable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU, CHRF

from transformer_jax.errors import InputError


class Score(NamedTuple):
    """One metric: value from 0 to 100, and the signature to report with it."""

    value: float
    signature: str


def score(translations: Sequence[str], references: Sequence[str]) -> dict[str, Score]:
    """Corpus BLEU and chrF as sacreBLEU computes them (Post 2018; Popović 2015).

    Raises InputError if the numbers of lines differ or are 0.
    """
    if len(translations) != len(references) or not references:
        raise InputError(
            f"{len(translations)} translations cannot be scored against {len(references)} references. "
            "Give one reference line for each translation."
        )
    scores = {}
    for name, metric in (("BLEU", BLEU()), ("chrF", CHRF())):
        value = metric.corpus_score(list(translations), [list(references)]).score
        scores[name] = Score(value, str(metric.get_signature()))
    return scores
