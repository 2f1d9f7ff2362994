"""Where a number that is none comes from."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from transformer_jax.data.batches import Batch
from transformer_jax.errors import RunError
from transformer_jax.training.state import TrainState

PACKAGE = Path(__file__).parent.parent
Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Any]]]


def check_nans(train_step: Step) -> Step:
    """The same step, slower: one that would be skipped is done again, operation by operation.

    It raises RunError that names the first operation whose result is not a number.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        before = jax.tree.map(lambda leaf: leaf.copy(), state)  # The step gives its memory away.
        after, metrics = train_step(state, batch)
        if int(metrics["skipped"]):
            try:
                with jax.disable_jit(), jax.debug_nans(True):
                    train_step(before, batch)
            except FloatingPointError as error:
                frames = traceback.extract_tb(error.__traceback__)
                at = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)][-1]
                raise RunError(
                    f"update {int(after.step)}: {error} at {at.filename}:{at.lineno}, in {at.name}: {at.line}"
                ) from error
            raise RunError(
                f"update {int(after.step)}: its loss or gradients are too large for their type, though no operation "
                "gives what is not a number. Try a lower --optimizer.factor in another --workdir."
            )
        return after, metrics

    return step
