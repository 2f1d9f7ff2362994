"""Corpus scores of hypotheses: BLEU and chrF as computed by sacreBLEU, with their signatures.

If the references are tokenized, BLEU and chrF are computed after detokenization by the rules of Moses. The result then
also contains the tokenized BLEU that many papers report.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU, CHRF

from transformer_jax.config import Config
from transformer_jax.data.languages import bleu_tokenizer, find_language
from transformer_jax.errors import InputError

SOURCES_FILE, HYPOTHESES_FILE, REFERENCES_FILE = "test.src.txt", "test.hyp.txt", "test.ref.txt"
"""Files of a finished run with the scored test set: UTF-8, one sentence per line."""


class Score(NamedTuple):
    """The result of one metric.

    value: from 0 to 100.
    signature: the settings of sacreBLEU. Report them with the value.
    """

    value: float
    signature: str


class Metric(NamedTuple):
    """A metric of sacreBLEU, and the text that it is computed on.

    language: whose rules of detokenization are applied to the text first; None for the text as it is.
    """

    metric: BLEU | CHRF
    language: str | None

    def text(self, lines: Sequence[str]) -> list[str]:
        """Return the lines as the metric reads them."""
        return list(lines) if self.language is None else detokenize(lines, self.language)


def score(
    hypotheses: Sequence[str], references: Sequence[str], language: str = "en", tokenize: str = "auto"
) -> dict[str, Score]:
    """Return corpus BLEU and chrF of sacreBLEU (Post 2018; Popović 2015).

    If the references are tokenized, the result also contains "BLEU-tokenized", which equals the score of Moses'
    multi-bleu.perl. If they are also lower-cased, case is ignored. The signatures state both.

    language: target language, which selects sacreBLEU's tokenizer and the rules of detokenization. See
        ``data/languages.py`` for its notations.
    tokenize: sacreBLEU's tokenizer, see ``EvaluationConfig.tokenize``.

    Raises InputError if the numbers of lines differ or are 0, if every reference is blank, or if the tokenizer needs a
    package that is not installed. Logs a warning if a reference is blank and its hypothesis is not.
    """
    _require_references(hypotheses, references)
    metrics = make_metrics(references, language, tokenize)
    if any(metric.language for metric in metrics.values()):
        logging.info(
            "the references are tokenized: BLEU and chrF are computed after detokenization by the rules of Moses"
        )
    texts: dict[str | None, tuple[list[str], list[str]]] = {}
    for metric in metrics.values():
        if metric.language not in texts:  # Detokenization takes longer than scoring.
            texts[metric.language] = metric.text(hypotheses), metric.text(references)
    return {name: _corpus_score(metric.metric, *texts[metric.language]) for name, metric in metrics.items()}


def make_metrics(references: Sequence[str], language: str, tokenize: str = "auto") -> dict[str, Metric]:
    """Return the metrics that ``score`` computes, by name."""
    tokenized = is_tokenized(references)
    lowercase = tokenized and "".join(references).islower()
    rules = find_language(language).code if tokenized else None
    tokenizer = bleu_tokenizer(language) if tokenize == "auto" else tokenize
    metrics = {
        "BLEU": Metric(_make_bleu(tokenizer, lowercase), rules),
        "chrF": Metric(CHRF(lowercase=lowercase), rules),
    }
    if tokenized:
        # force=True suppresses sacreBLEU's warning about tokenized text, which is intended here.
        metrics["BLEU-tokenized"] = Metric(BLEU(lowercase=lowercase, tokenize="none", force=True), None)
    return metrics


def check_evaluation(config: Config) -> None:
    """Raise InputError if a run cannot compute its scores, and warn if one of its languages is unknown."""
    for language in (config.data.source, config.data.target):
        find_language(language)
    if config.evaluation.tokenize != "auto":
        _make_bleu(config.evaluation.tokenize, lowercase=False)


def _make_bleu(tokenize: str, lowercase: bool) -> BLEU:
    """Return the metric. Raises InputError if its tokenizer needs a package that is not installed."""
    try:
        return BLEU(lowercase=lowercase, tokenize=tokenize)
    except (RuntimeError, AssertionError) as error:  # The latter for another dictionary than that of the package.
        extra = tokenize.partition("-")[0]
        raise InputError(
            f"evaluation.tokenize {tokenize} needs a package that is not installed. "
            f'Run: pip install "sacrebleu[{extra}]"'
        ) from error


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
