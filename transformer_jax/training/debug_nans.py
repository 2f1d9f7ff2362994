"""Locate the operation that first produces a NaN."""

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
    """Return a slower training step that raises an error instead of skipping an update.

    It repeats the update operation by operation, and raises RunError with the first operation that returns a NaN.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        before = jax.tree.map(lambda leaf: leaf.copy(), state)  # The step donates the memory of its state.
        after, metrics = train_step(state, batch)
        if int(metrics["skipped"]):
            try:
                with jax.disable_jit(), jax.debug_nans(True):
                    train_step(before, batch)
            except FloatingPointError as error:
                frames = traceback.extract_tb(error.__traceback__)
                frame = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)][-1]
                raise RunError(
                    f"update {int(after.step)}: {error} at {frame.filename}:{frame.lineno}, in {frame.name}: "
                    f"{frame.line}"
                ) from error
            raise RunError(
                f"update {int(after.step)}: loss or gradients overflow, but no operation returns a NaN. "
                "Try a lower --optimizer.factor in another --workdir."
            )
        return after, metrics

    return step
