"""The choice of the best validation, which does not depend on interruptions or on pruned checkpoints."""

import itertools
import math

import pytest

from transformer_jax.storage.checkpoints import Progress
from transformer_jax.training.choice import Validation, deciding_metric, describe_end, rank, record_validation


def progress_after(scores, progress=None):
    """Return the progress after validations with these losses and BLEU scores, at steps 1, 2, ..."""
    progress = progress or Progress()
    for step, (loss, bleu) in enumerate(scores, start=progress.validated + 1):
        progress = record_validation(progress, Validation(step, float(loss), float(bleu)))
    return progress


@pytest.mark.parametrize(
    ("scores", "best", "stale"),
    [
        pytest.param([(3, 0), (2, 0), (1, 0), (2, 0)], 3, 1, id="bleu is 0"),
        pytest.param([(3, 0.9), (2, 0.1), (1, 0.5)], 3, 0, id="bleu is below 1"),
        pytest.param([(3, 7), (2, 7), (1, 7)], 3, 0, id="bleu is stuck"),
        pytest.param([(3, 0.9), (1, 0), (2, 1), (3, 0)], 3, 1, id="bleu becomes informative"),
        pytest.param([(3, 5), (2, 9), (1, 8), (0.5, 8)], 2, 2, id="bleu is informative"),
        pytest.param([(3, 9), (2, 9), (2, 9)], 2, 1, id="equal bleu and loss"),
        pytest.param([(math.nan, 0), (math.inf, 0), (9, 0), (math.nan, 0)], 3, 1, id="loss is not finite"),
        pytest.param([(math.nan, 0), (math.nan, 0)], 1, 1, id="loss is never finite"),
        pytest.param([(math.nan, 2), (1, 1)], 1, 1, id="bleu without a finite loss"),
    ],
)
def test_bleu_decides_if_it_is_informative_else_the_loss(scores, best, stale):
    progress = progress_after(scores)
    assert (progress.best_step, progress.stale, progress.validated) == (best, stale, len(scores))


def test_the_best_is_always_the_newest_or_the_best_before():
    values = list(itertools.product((1.0, 2.0, math.nan), (0.0, 0.5, 1.0, 2.0)))
    for scores in itertools.product(values, repeat=3):
        best = max(range(3), key=lambda index: rank(*scores[index]))  # max returns the first of equal items.
        assert progress_after(scores).best_step == best + 1


def test_progress_of_an_earlier_version_keeps_its_best_bleu():
    older = Progress(best_step=5, best_score=9.0, stale=1, validated=6)
    assert progress_after([(0.1, 8)], older).best_step == 5
    assert progress_after([(0.1, 9)], older).best_step == 7
    # It chose the first of several validations with a BLEU of 0, whose loss is unknown.
    unknown = older._replace(best_score=0.0)
    assert progress_after([(3, 0)], unknown).best_step == 7
    assert describe_end(unknown, 9, 9, []) == "reached training.steps 9: best step 5, BLEU 0.00"


def test_a_damaged_best_checkpoint_is_replaced_by_the_next_validation():
    assert progress_after([(9, 0)], Progress(validated=6, stale=2))[:3] == (7, 0, 0)


@pytest.mark.parametrize(("bleus", "metric"), [([0, 0.9], "loss"), ([7, 7], "loss"), ([0, 1], "bleu"), ([7], "loss")])
def test_the_deciding_metric_is_bleu_only_if_it_differs(bleus, metric):
    validations = [Validation(0, 1.0, float(bleu)) for bleu in bleus]
    assert deciding_metric(Progress(best_loss=1.0), validations) == metric


def test_the_end_of_a_run_is_explained():
    progress = progress_after([(3, 5), (2, 23.1), (1, 8)])
    validations = [Validation(1, 3.0, 5.0), Validation(2, 2.0, 23.1), Validation(3, 1.0, 8.0)]
    by_loss = "reached training.steps 9: best step 2, validation loss 2.000"
    assert describe_end(progress, 3, 9, validations) == "no better score for 1 validation: best step 2, BLEU 23.10"
    assert describe_end(progress, 9, 9, validations) == "reached training.steps 9: best step 2, BLEU 23.10"
    assert describe_end(progress, 9, 9, validations[:1]) == by_loss
    diverged = progress_after([(math.nan, 0), (math.nan, 0)])
    nans = [Validation(step, math.nan, 0.0) for step in (1, 2)]
    assert describe_end(diverged, 2, 2, nans) == "reached training.steps 2: best step 1, validation loss nan"
    assert describe_end(Progress(), 9, 9, validations) == "reached training.steps 9"
