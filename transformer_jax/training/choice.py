"""The choice of the best validation, which decides the checkpoint that is used and when a run stops early.

Rule: a higher BLEU is better. If BLEU is equal, a lower loss is better. A BLEU below 1.0 counts as 0, and a loss that
is not finite counts as infinite. So the loss decides where BLEU is not informative: early in training, if BLEU is stuck
at one value, and for sentences of fewer than four words, whose BLEU is always 0.

This is a total order. The best of all validations is therefore either the newest one or the best of the earlier ones,
so a checkpoint that was pruned would never be chosen later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

from transformer_jax.storage.checkpoints import Progress

MIN_BLEU = 1.0
"""Smallest BLEU that is informative. Smaller values come from single words that match by chance."""


class Validation(NamedTuple):
    """The scores of one validation.

    step: the step that was validated.
    loss: loss per target token on all validation pairs.
    bleu: sacreBLEU of the first validation pairs.
    """

    step: int
    loss: float
    bleu: float


def rank(loss: float, bleu: float) -> tuple[float, float]:
    """Return a sort key of the scores of a validation. A larger key is better."""
    return _informative_bleu(bleu), -loss if math.isfinite(loss) else -math.inf


def record_validation(progress: Progress, validation: Validation) -> Progress:
    """Return the progress after a validation. Of two equal validations, the first is the best."""
    step, loss, bleu = validation
    best_loss = math.inf if progress.best_loss is None else progress.best_loss
    if progress.best_step and rank(loss, bleu) <= rank(best_loss, progress.best_score):
        return progress._replace(stale=progress.stale + 1, validated=step)
    finite_loss = loss if math.isfinite(loss) else None
    return progress._replace(best_step=step, best_score=bleu, best_loss=finite_loss, stale=0, validated=step)


def deciding_metric(progress: Progress, validations: Iterable[Validation]) -> Literal["bleu", "loss"]:
    """Return the metric by which the best of all validations of a run was chosen."""
    validations = list(validations)
    if len({_informative_bleu(validation.bleu) for validation in validations}) > 1:
        return "bleu"
    # Earlier versions recorded no loss and chose by BLEU alone.
    is_earlier = progress.best_loss is None and all(math.isfinite(validation.loss) for validation in validations)
    return "bleu" if is_earlier else "loss"


def describe_end(progress: Progress, step: int, steps: int, validations: Iterable[Validation]) -> str:
    """Return why a run stopped after ``step`` updates, and which validation is the best.

    steps: ``training.steps``.
    """
    if step >= steps:
        reason = f"reached training.steps {steps}"
    else:
        reason = f"no better score for {progress.stale} validation{'s' if progress.stale > 1 else ''}"
    if not progress.best_step:  # Its checkpoint was damaged, and no validation followed.
        return reason
    if deciding_metric(progress, validations) == "bleu":
        return f"{reason}: best step {progress.best_step}, BLEU {progress.best_score:.2f}"
    loss = math.nan if progress.best_loss is None else progress.best_loss
    return f"{reason}: best step {progress.best_step}, validation loss {loss:.3f}"


def _informative_bleu(bleu: float) -> float:
    return bleu if bleu >= MIN_BLEU else 0.0
