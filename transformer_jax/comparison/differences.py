"""How runs with the same test set differ: their settings, scores and translations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from transformer_jax.comparison.scored_runs import ScoredRun
from transformer_jax.comparison.significance import ComparedScore, compare_systems
from transformer_jax.config import flatten
from transformer_jax.data.languages import bleu_tokenizer, find_language
from transformer_jax.errors import InputError
from transformer_jax.evaluation import Metric, make_metrics

MAX_LINES = 10
"""Number of lines that a comparison shows."""


class LineDifference(NamedTuple):
    """A line of the test set that the runs translate differently.

    number: line number, counted from 1.
    hypotheses, chrf: the translation of each run, and its chrF against the reference.
    """

    number: int
    source: str
    reference: str
    hypotheses: Sequence[str]
    chrf: Sequence[float]


class Comparison(NamedTuple):
    """The differences between runs.

    runs: the run directories as the user names them.
    sentences: number of lines of the test set.
    settings: SECTION.FIELD -> value of each run, for fields that differ. None if a run does not have the field.
    scores: metric -> score of each run, tested against the first run.
    lines: the lines that differ most, which are those with the widest range of chrF.
    """

    runs: Sequence[str]
    sentences: int
    settings: dict[str, list[Any]]
    scores: dict[str, list[ComparedScore]]
    lines: list[LineDifference]


def compare_runs(runs: Sequence[ScoredRun]) -> Comparison:
    """Compare runs with the same test set. Raises InputError if their scores are computed in different ways."""
    first = runs[0]
    require_same_metrics(runs)
    metrics = make_metrics(first.references, first.language, first.tokenize)
    return Comparison(
        [str(run.path) for run in runs],
        len(first.references),
        differing_settings(runs),
        compare_systems(metrics, first.references, [run.hypotheses for run in runs]),
        most_differing_lines(runs, metrics["chrF"]),
    )


def require_same_metrics(runs: Sequence[ScoredRun]) -> None:
    """Raise InputError if two runs have different target languages or tokenizers of BLEU."""
    first, *others = runs
    for run in others:
        languages = [find_language(scored.language).code for scored in (first, run)]
        if languages[0] != languages[1]:
            raise InputError(
                f"{first.path} translates to {first.language} and {run.path} to {run.language}. Name runs with the "
                "same target language."
            )
        tokenizers = [
            bleu_tokenizer(scored.language) if scored.tokenize == "auto" else scored.tokenize for scored in (first, run)
        ]
        if tokenizers[0] != tokenizers[1]:
            raise InputError(
                f"{first.path} is scored with the tokenizer {tokenizers[0]} and {run.path} with {tokenizers[1]}. Train "
                f"one of them in a new --workdir with the --evaluation.tokenize of the other."
            )


def differing_settings(runs: Sequence[ScoredRun]) -> dict[str, list[Any]]:
    """Return the values of each run, for the config fields in which the runs differ."""
    configs = [flatten(run.results["config"]) for run in runs]
    fields = dict.fromkeys(field for config in configs for field in config)
    values = {field: [config.get(field) for config in configs] for field in fields}
    return {field: row for field, row in values.items() if any(value != row[0] for value in row)}


def most_differing_lines(runs: Sequence[ScoredRun], metric: Metric) -> list[LineDifference]:
    """Return the lines with the widest range of sentence chrF, widest first, of those that differ."""
    first = runs[0]
    references = metric.text(first.references)
    texts = [metric.text(run.hypotheses) for run in runs]
    lines = []
    for index, reference in enumerate(references):
        hypotheses = [run.hypotheses[index] for run in runs]
        if len(set(hypotheses)) > 1:
            chrf = [float(metric.metric.sentence_score(text[index], [reference]).score) for text in texts]
            lines.append(LineDifference(index + 1, first.sources[index], first.references[index], hypotheses, chrf))
    return sorted(lines, key=lambda line: min(line.chrf) - max(line.chrf))[:MAX_LINES]
