"""Checkpoints of a run: the training state, saved with orbax, and the progress of the run.

A checkpoint is a directory named after its step. It holds ``state``, ``progress.json`` and the checksums of all files.
It is written under a temporary name and renamed when it is complete, so a checkpoint is either complete or absent.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental.multihost_utils import sync_global_devices

from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic
from transformer_jax.storage.checksums import find_damage, seal

State = TypeVar("State")
"""A NamedTuple of arrays with a field ``step``, such as ``TrainState``."""

UNFINISHED = ".unfinished"
"""Suffix of directories that are being written or removed. The next start deletes such directories."""


class Progress(NamedTuple):
    """The progress of a run: everything that it needs to resume, apart from the training state.

    best_step: step of the best validation; 0 before the first.
    best_score: BLEU of the best validation; -1 before the first.
    stale: number of validations since the best one.
    validated: step of the last validation.
    seconds: wall time of the run up to this checkpoint, over all its starts.
    window: metrics since the last report (``MetricAccumulator.snapshot``).
    data: position in the training batches, as grain returns it.
    divisor: batch multiple of the training batches, which stays the same when the run resumes on other devices.
    corpus: pairs, source tokens and target tokens of the training text.
    best_loss: loss of the best validation; None before the first, if it was not finite, or in earlier versions.
    row_lengths: lengths of the packed rows; empty with buckets, None in earlier versions.
    """

    best_step: int = 0
    best_score: float = -1.0
    stale: int = 0
    validated: int = 0
    seconds: float = 0.0
    window: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    divisor: int = 0
    corpus: list[int] | None = None
    best_loss: float | None = None
    row_lengths: list[int] | None = None

    def is_stale(self, patience: int) -> bool:
        """Return whether the last ``patience`` validations brought no improvement; False if ``patience`` is 0."""
        return 0 < patience <= self.stale


class Checkpoints:
    """The checkpoints of one run, saved in the background: the last two and the best are kept.

    As a context manager, it waits at the end until everything is on disk, on every process.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.orbax = ocp.StandardCheckpointer()
        self.background = ThreadPoolExecutor(1)
        self.saving: Future[None] | None = None
        self.writes = jax.process_index() == 0
        if self.writes:
            _clean_up(self.directory)
        sync_global_devices("checkpoints are cleaned up")

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.wait()
            sync_global_devices("checkpoints are saved")
        if error is None or jax.process_count() == 1:  # Closing would wait for other processes, which may be gone.
            self.background.shutdown()
            self.orbax.close()

    def latest_step(self) -> int | None:
        """Return the step of the newest checkpoint, or None if no checkpoint exists."""
        return max(checkpoint_steps(self.directory), default=None)

    def save(self, state: Any, progress: Progress) -> None:
        """Start saving a checkpoint, and return as soon as the state is copied.

        It replaces an earlier checkpoint of the same step.
        Raises RunError if saving the previous checkpoint failed.
        """
        self.wait()
        step = int(state.step)
        unfinished = self.directory / f"{step}{UNFINISHED}"
        if self.writes:
            unfinished.mkdir()
            (unfinished / "progress.json").write_text(json.dumps(progress._asdict()))
        self.orbax.save(unfinished / "state", _saved_fields(state))
        self.saving = self.background.submit(self._finish, unfinished)

    def _finish(self, unfinished: Path) -> None:
        """Wait for orbax, then seal and rename the checkpoint. Runs in the background."""
        self.orbax.wait_until_finished()
        if self.writes:
            seal(unfinished)
            atomic.sync(unfinished)
            finished = unfinished.with_suffix("")
            # After a kill between the two renames neither name exists; ``_clean_up`` then restores the sealed one.
            earlier = _mark_for_removal(finished) if finished.exists() else None
            unfinished.rename(finished)
            if earlier:
                shutil.rmtree(earlier)
            _prune(self.directory)

    def check(self) -> None:
        """Raise RunError if saving in the background has failed."""
        if self.saving is not None and self.saving.done():
            self.wait()

    def wait(self) -> None:
        """Wait until the current checkpoint is on disk. Raise RunError if saving it failed."""
        saving, self.saving = self.saving, None
        try:
            if saving is not None:
                saving.result()
        except jax.errors.JaxRuntimeError:
            raise
        except Exception as error:  # The layers of orbax and tensorstore raise many types.
            reason = str(error).partition("\n")[0]
            raise RunError(
                f"{self.directory}: saving a checkpoint failed ({reason}). Fix this error and run the same command "
                f"again. The run resumes after step {self.latest_step() or 0}."
            ) from error

    def progress(self) -> Progress:
        """Return the progress at the newest checkpoint, or the initial progress if no checkpoint exists."""
        step = self.latest_step()
        progress = Progress() if step is None else read_progress(self.directory / str(step))
        if progress.best_step in checkpoint_steps(self.directory):
            return progress
        # The best checkpoint was damaged: the next validation becomes the best.
        return progress._replace(best_step=0, best_score=-1.0, best_loss=None)

    def restore(self, template: State) -> State:
        """Return the state of the newest checkpoint, which must exist.

        template: the state as arrays or shapes, with the shardings to restore to.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _saved_fields(template))
        return type(template)(**self.orbax.restore(self.directory / str(self.latest_step()) / "state", abstract))


def _saved_fields(state: Any) -> dict[str, Any]:
    """Return the fields of a state, without optional fields that are None: checkpoints of earlier versions lack them.

    Orbax would refuse to restore a field that a checkpoint lacks, even if it is None.
    """
    return {
        name: value for name, value in state._asdict().items() if value is not None or name not in state._field_defaults
    }


def best_step(directory: Path) -> int:
    """Return the step of the best checkpoint or, with a warning, of the newest undamaged checkpoint.

    The newest is used if the best is damaged or missing, or if the run has not been validated yet.

    Raises InputError if the run has no undamaged checkpoint.
    """
    for step in reversed(checkpoint_steps(directory)):
        checkpoint = directory / str(step)
        if reason := find_damage(checkpoint, "progress.json"):
            logging.warning(f"{checkpoint} is damaged and ignored: {reason}.")
            continue
        best = read_progress(checkpoint).best_step
        # The best step must be in the directory: an untrusted progress.json could name "../../elsewhere".
        if best in checkpoint_steps(directory) and not (reason := find_damage(directory / str(best))):
            return best
        if not find_damage(checkpoint):
            damage = f"the best checkpoint, step {best}, is {f'damaged: {reason}' if reason else 'missing'}"
            logging.warning(f"{directory}: {damage if best else 'no validation yet'}. Using step {step}.")
            return step
    if checkpoint_steps(directory):
        raise InputError(f"{directory}: all checkpoints are damaged. Restore the run from a copy or train again.")
    raise InputError(f"{directory} has no checkpoint. Train the model first, or choose another run directory.")


def load_params(
    directory: Path, step: int | None = None, check_shapes: Callable[[Any], None] = lambda shapes: None
) -> Any:
    """Return the parameters of a checkpoint as numpy arrays, without reading the optimizer state.

    If the run keeps a moving average of the parameters, return the average.

    step: step of the checkpoint; default: ``best_step``.
    check_shapes: called with the tree of shapes before any array is read; may raise.
    Raises InputError if a checkpoint does not exist or cannot be read.
    """
    state = directory.absolute() / str(step or best_step(directory)) / "state"
    with ocp.PyTreeCheckpointer() as reader:
        try:
            saved = reader.metadata(state).item_metadata.tree
            field = "average" if saved.get("average") is not None else "params"
            check_shapes(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), saved[field]))
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved[field])
            restore = ocp.args.PyTreeRestore(
                item={field: saved[field]}, restore_args={field: as_numpy}, partial_restore=True
            )
            return reader.restore(state, args=restore)[field]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{state} is damaged ({type(error).__name__}). Restore the run from a copy.") from error


def checkpoint_steps(directory: Path) -> list[int]:
    """Return the steps of all complete checkpoints in ascending order."""
    return sorted(int(path.name) for path in directory.glob("*") if re.fullmatch("[1-9][0-9]*", path.name))


def read_progress(checkpoint: Path) -> Progress:
    """Return the progress at a checkpoint. Raises InputError if it is damaged."""
    path = checkpoint / "progress.json"
    try:
        return Progress(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}). Restore the run from a copy.") from error


def _clean_up(directory: Path) -> None:
    """Delete incomplete checkpoints of a killed process, and rename damaged checkpoints."""
    directory.mkdir(exist_ok=True)
    for unfinished in directory.glob(f"*{UNFINISHED}"):
        finished = unfinished.with_suffix("")
        if finished.name.isdecimal() and not finished.exists() and not find_damage(unfinished):
            unfinished.rename(finished)
        else:
            shutil.rmtree(unfinished)
    for checkpoint in [directory / str(step) for step in checkpoint_steps(directory)]:
        if reason := find_damage(checkpoint):
            damaged = atomic.set_aside(checkpoint)
            logging.warning(f"{checkpoint} is damaged: {reason}. It was renamed to {damaged.name} and is not used.")


def retained_steps(steps: Sequence[int], best: int) -> list[int]:
    """Return the checkpoints that a run keeps: the last two and the best.

    steps: the steps of all checkpoints in ascending order.
    best: the best step, according to the newest checkpoint.
    """
    return sorted({*steps[-2:], best} & {*steps})


def _prune(directory: Path) -> None:
    """Delete all checkpoints except those that the run keeps."""
    steps = checkpoint_steps(directory)
    retained = retained_steps(steps, read_progress(directory / str(steps[-1])).best_step)
    for step in set(steps) - {*retained}:
        shutil.rmtree(_mark_for_removal(directory / str(step)))


def _mark_for_removal(checkpoint: Path) -> Path:
    """Rename a checkpoint before its removal, so that a partial removal is not damage. Return the new path."""
    return checkpoint.rename(checkpoint.with_name(f"{checkpoint.name}.removed{UNFINISHED}"))
