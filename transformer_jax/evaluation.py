"""Scores of translations: sacreBLEU and chrF on raw text, with the signatures that make them comparable.

Where the references are tokenised, so are the translations of whoever was trained on such text: sacreBLEU and chrF then
see both put together again by Moses' rules, and BLEU of the tokens, which many papers report, stands beside them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU, CHRF

from transformer_jax.errors import InputError

TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}
"""sacreBLEU's tokenizers for languages that do not put single words between spaces; 13a is for all others."""


class Score(NamedTuple):
    """One metric: value from 0 to 100, and the signature to report with it."""

    value: float
    signature: str


def score(translations: Sequence[str], references: Sequence[str], language: str = "en") -> dict[str, Score]:
    """Corpus BLEU and chrF as sacreBLEU computes them (Post 2018; Popović 2015).

    Tokenised references give "BLEU-tokenized" as well, which is that of Moses' multi-bleu.perl; if they are also
    lower-cased, case does not count, as the signatures say. language: by whose rules tokens become text again, and
    text is cut into words, as the signature says, too.

    Raises InputError if the numbers of lines differ or are 0, or if every reference is blank. A blank one of a
    translation that is not is reported.
    """
    _require_references(translations, references)
    tokenized = is_tokenized(references)
    lowercase = tokenized and "".join(references).islower()
    text = translations, references
    if tokenized:
        logging.info("the references are tokenised: BLEU and chrF are of the text that Moses' rules make of the tokens")
        text = detokenize(translations, language), detokenize(references, language)
    scores = {
        "BLEU": _scored(BLEU(lowercase=lowercase, tokenize=TOKENIZERS.get(language[:2])), *text),
        "chrF": _scored(CHRF(lowercase=lowercase), *text),
    }
    if tokenized:
        of_tokens = BLEU(lowercase=lowercase, tokenize="none", force=True)  # Not warned: tokens are what is meant.
        scores["BLEU-tokenized"] = _scored(of_tokens, translations, references)
    return scores


def is_tokenized(lines: Sequence[str]) -> bool:
    """Whether a tenth of the lines and most of those with a full stop at the end have it apart from the last word."""
    ends = [line.rstrip()[-2:] for line in lines]
    apart = sum(end == " ." for end in ends)
    return apart > sum(end.endswith(".") for end in ends) / 2 and 10 * apart >= len(lines)


def detokenize(lines: Sequence[str], language: str) -> list[str]:
    """Tokens put together to text by the rules of Moses' detokenizer.perl."""
    from sacremoses import MosesDetokenizer

    detokenizer = MosesDetokenizer(language)
    return [detokenizer.detokenize(line.split()) for line in lines]


def _scored(metric: BLEU | CHRF, translations: Sequence[str], references: Sequence[str]) -> Score:
    value = metric.corpus_score(list(translations), [list(references)]).score
    return Score(value, str(metric.get_signature()))


def _require_references(translations: Sequence[str], references: Sequence[str]) -> None:
    if len(translations) != len(references) or not references:
        raise InputError(
            f"{len(translations)} translations cannot be scored against {len(references)} references. "
            "Give one reference line for each translation."
        )
    blank = [number for number, line in enumerate(references, 1) if not line.strip()]
    if len(blank) == len(references):
        raise InputError(f"all {len(blank)} references are blank. Give the translations to compare with.")
    missing = [number for number in blank if translations[number - 1].strip()]
    if missing:
        logging.warning(
            f"{len(missing)} references are blank, the first on line {missing[0]}, where there is a translation: it "
            "counts as wrong"
        )
