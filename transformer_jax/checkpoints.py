"""Saving and restoring a run with orbax: the state, the position in the data, and what early stopping remembers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from transformer_jax.errors import InputError, RunError
from transformer_jax.training.state import TrainState


class Progress(NamedTuple):
    """What a run remembers beside its state.

    best_step, best_score: of validation so far, 0 and -1 before the first; stale: validations since the best one;
    seconds: wall time spent on the run, over all its interruptions.
    """

    best_step: int = 0
    best_score: float = -1.0
    stale: int = 0
    seconds: float = 0.0

    def after(self, step: int, score: float) -> Progress:
        """The progress once ``score``, larger is better, is known for ``step``."""
        if score > self.best_score:
            return self._replace(best_step=step, best_score=score, stale=0)
        return self._replace(stale=self.stale + 1)

    def is_stale(self, patience: int) -> bool:
        """Whether to stop early: ``patience`` validations in a row without a better one; 0 never stops."""
        return 0 < patience <= self.stale


class Checkpoints:
    """The checkpoints of one run: the last two and the best; saved in the background."""

    def __init__(self, folder: Path) -> None:
        keep = [
            policies.LatestN(2),
            policies.BestN(get_metric_fn=lambda metrics: metrics["best_at"], n=1),
        ]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(keep), cleanup_tmp_directories=True
        )
        self.manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, None if there is none."""
        return self.manager.latest_step()

    def save(self, state: TrainState, iterator: grain.DatasetIterator, progress: Progress) -> None:
        """Start saving; returns as soon as the state is copied."""
        step = int(state.step)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()),
            data=grain.checkpoint.CheckpointSave(iterator),
            progress=ocp.args.JsonSave(progress._asdict()),
        )
        # What orbax keeps as the best must be what ``progress`` calls the best, also when scores are equal.
        best_at = step if progress.best_step == step else 0
        if not self.manager.save(step, args=items, metrics={"best_at": best_at}):
            raise RunError(
                f"{self.manager.directory} already has a checkpoint of step {step} or later. Use another --workdir."
            )

    def restore(self, template: TrainState, iterator: grain.DatasetIterator) -> tuple[TrainState, Progress]:
        """Read the newest checkpoint onto the shardings of ``template`` and move ``iterator`` to its position."""
        step = self.latest_step()
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template._asdict())
        restored = self.manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract),
                data=grain.checkpoint.CheckpointRestore(iterator),
                progress=ocp.args.JsonRestore(),
            ),
        )
        return TrainState(**restored["state"]), Progress(**restored["progress"])

    def close(self) -> None:
        """Wait until everything is on disk."""
        self.manager.close()


def load_params(folder: Path, require: Callable[[Any], None] = lambda shapes: None) -> Any:
    """The best parameters of a run, as numpy arrays. Optimizer and random state are not read.

    require: is shown the shapes, as a tree, before anything of that size is read, and may raise.
    Raises InputError if there is no checkpoint, or if it cannot be read.
    """
    if not any(entry.name.isdigit() for entry in folder.glob("*")):
        raise InputError(f"{folder} holds no checkpoint. Train the model first, or name another --workdir.")
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "progress": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(folder.absolute(), item_handlers=handlers) as manager:
        latest = manager.latest_step()
        try:
            progress = Progress(
                **manager.restore(latest, args=ocp.args.Composite(progress=ocp.args.JsonRestore()))["progress"]
            )
            step = int(progress.best_step)  # Never "../../elsewhere".
            saved = manager.item_metadata(step)["state"].tree
            part = "average" if saved.get("average") is not None else "params"
            require(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), saved[part]))
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved[part])
            restore = ocp.args.PyTreeRestore(
                item={part: saved[part]}, restore_args={part: as_numpy}, partial_restore=True
            )
            return manager.restore(step, args=ocp.args.Composite(state=restore))["state"][part]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder} has a damaged checkpoint ({type(error).__name__}). Copy the run again."
            ) from error
