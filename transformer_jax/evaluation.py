"""Corpus scores of hypotheses: BLEU and chrF as computed by sacreBLEU, with their signatures.

If the references are tokenized, BLEU and chrF are computed after detokenization by the rules of Moses. The result then
also contains the tokenized BLEU that many papers report.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU, CHRF

from transformer_jax.errors import InputError

SACREBLEU_TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}
"""Language -> sacreBLEU tokenizer, for languages that do not separate words with spaces. All others use 13a."""


class Score(NamedTuple):
    """The result of one metric.

    value: from 0 to 100.
    signature: the settings of sacreBLEU. Report them with the value.
    """

    value: float
    signature: str


def score(hypotheses: Sequence[str], references: Sequence[str], language: str = "en") -> dict[str, Score]:
    """Return corpus BLEU and chrF of sacreBLEU (Post 2018; Popović 2015).

    If the references are tokenized, the result also contains "BLEU-tokenized", which equals the score of Moses'
    multi-bleu.perl. If they are also lower-cased, case is ignored. The signatures state both.

    language: target language, which selects sacreBLEU's tokenizer and the rules of detokenization.

    Raises InputError if the numbers of lines differ or are 0, or if every reference is blank. Logs a warning if a
    reference is blank and its hypothesis is not.
    """
    _require_references(hypotheses, references)
    tokenized = is_tokenized(references)
    lowercase = tokenized and "".join(references).islower()
    text = hypotheses, references
    if tokenized:
        logging.info(
            "the references are tokenized: BLEU and chrF are computed after detokenization by the rules of Moses"
        )
        text = detokenize(hypotheses, language), detokenize(references, language)
    scores = {
        "BLEU": _corpus_score(BLEU(lowercase=lowercase, tokenize=SACREBLEU_TOKENIZERS.get(language[:2])), *text),
        "chrF": _corpus_score(CHRF(lowercase=lowercase), *text),
    }
    if tokenized:
        # force=True suppresses sacreBLEU's warning about tokenized text, which is intended here.
        token_bleu = BLEU(lowercase=lowercase, tokenize="none", force=True)
        scores["BLEU-tokenized"] = _corpus_score(token_bleu, hypotheses, references)
    return scores


def is_tokenized(lines: Sequence[str]) -> bool:
    """Return whether the final full stops of the lines show that the text is tokenized.

    At least a tenth of all lines, and most lines that end in a full stop, must end in a space and a full stop.
    """
    endings = [line.rstrip()[-2:] for line in lines]
    separated = sum(ending == " ." for ending in endings)
    return separated > sum(ending.endswith(".") for ending in endings) / 2 and 10 * separated >= len(lines)


def detokenize(lines: Sequence[str], language: str) -> list[str]:
    """Return the lines detokenized by the rules of Moses' detokenizer.perl."""
    from sacremoses import MosesDetokenizer

    detokenizer = MosesDetokenizer(language)
    return [detokenizer.detokenize(line.split()) for line in lines]


def _corpus_score(metric: BLEU | CHRF, hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    value = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Score(value, str(metric.get_signature()))


def _require_references(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references) or not references:
        raise InputError(
            f"the numbers of translations and references must be equal and above 0, but are {len(hypotheses)} and "
            f"{len(references)}. Give one reference line per translation."
        )
    blank = [number for number, line in enumerate(references, 1) if not line.strip()]
    if len(blank) == len(references):
        raise InputError("every reference line is blank. Choose a file that contains reference translations.")
    missing = [number for number in blank if hypotheses[number - 1].strip()]
    if missing:
        logging.warning(
            f"reference line {missing[0]} is blank but its translation is not, so the translation counts as wrong "
            f"(number of such lines: {len(missing)})."
        )
