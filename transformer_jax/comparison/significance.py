"""Paired significance tests of sacreBLEU: is the difference between two systems more than chance?

Paired bootstrap resampling (Koehn 2004, ``bootstrap``) scores test sets that are drawn from the lines of the test set.
Paired approximate randomization (Riezler and Maxwell 2005, ``randomization``) swaps the translations of random lines.
The seed is fixed, so the same translations always have the same p-values.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sacrebleu.significance import PairedTest, Result

from transformer_jax.evaluation import Metric

SEED = 12345
"""The default seed of sacreBLEU."""


class ComparedScore(NamedTuple):
    """The score of one system.

    value: from 0 to 100.
    signature: the settings of sacreBLEU.
    bootstrap, randomization: p-value of the difference from the first system; None for the first system.
    differing_lines: number of lines with another text than those of the first system.
    """

    value: float
    signature: str
    bootstrap: float | None = None
    randomization: float | None = None
    differing_lines: int = 0

    @property
    def least_p_value(self) -> float:
        """The smallest p-value of randomization that the number of differing lines allows.

        There are 2 ** k ways to swap k lines, and at least two of them give the observed difference. sacreBLEU does not
        count such ties, so its p-value may be smaller if few lines differ.
        """
        return min(1.0, 2.0 ** (1 - self.differing_lines))


def compare_systems(
    metrics: Mapping[str, Metric], references: Sequence[str], systems: Sequence[Sequence[str]]
) -> dict[str, list[ComparedScore]]:
    """Return the score of each system by each metric, tested against the first system.

    systems: the hypotheses of each system.
    """
    # It reports every step of a test.
    logging.getLogger("sacrebleu").setLevel(logging.WARNING)
    return {name: _compare_by_metric(metric, references, systems) for name, metric in metrics.items()}


def _compare_by_metric(
    metric: Metric, references: Sequence[str], systems: Sequence[Sequence[str]]
) -> list[ComparedScore]:
    reference_text, (baseline, *others) = metric.text(references), map(metric.text, systems)
    texts = [baseline, *others]
    bootstrap, randomization = (_run_test(texts, metric, reference_text, test_type) for test_type in ("bs", "ar"))
    signature = str(metric.metric.get_signature())
    scores = [ComparedScore(bootstrap[0].score, signature)]
    for text, resampled, randomized in zip(others, bootstrap[1:], randomization[1:], strict=True):
        # For equal scores, sacreBLEU's p-values are those of the greatest possible difference.
        is_equal = resampled.score == scores[0].value
        p_values = (1.0, 1.0) if is_equal else (resampled.p_value, randomized.p_value)
        differing_lines = sum(line != other for line, other in zip(baseline, text, strict=True))
        scores.append(ComparedScore(resampled.score, signature, *p_values, differing_lines))
    return scores


def _run_test(
    texts: Sequence[Sequence[str]], metric: Metric, references: Sequence[str], test_type: str
) -> list[Result]:
    """Return score and p-value of each system. The p-value of the first one is None."""
    systems = [(str(index), text) for index, text in enumerate(texts)]
    with _fixed_seed():
        test = PairedTest(systems, {"metric": metric.metric}, [references], test_type)
    _, results = test()[1].values()
    return [result for result in results if isinstance(result, Result)]


@contextlib.contextmanager
def _fixed_seed() -> Iterator[None]:
    """Let sacreBLEU use ``SEED``. It reads the seed from an environment variable, which may also say "no seed"."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(SEED)
    try:
        yield
    finally:
        del os.environ["SACREBLEU_SEED"]
        if before is not None:
            os.environ["SACREBLEU_SEED"] = before
