"""Saving and restoring a run: its state through orbax, and beside it all else that it goes on from.

A checkpoint is a folder named by its step that holds ``state``, ``progress.json``, and the checksums of their files. It
is put together under another name and takes its own when it is whole, so it is whole or not there.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import shutil
from collections.abc import Callable
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
"""A NamedTuple of arrays with a field `step`, such as `TrainState`."""

UNFINISHED = ".unfinished"
"""Ends the names of folders that are being written or removed; one that is left over was cut off, and is removed."""


class Progress(NamedTuple):
    """What a run remembers beside its state.

    best_step, best_score: of validation so far, 0 and -1 before the first; stale: validations since the best one;
    validated: the step of the last validation; seconds: wall time spent on the run, over all its interruptions;
    window: metrics since the last report (``MetricAccumulator.saved``); data: the position in the batches, as grain gives it;
    divisor: what the rows of these batches are a multiple of, on whatever devices the run goes on; corpus: the size of
    the training text.
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

    def after(self, step: int, score: float) -> Progress:
        """The progress once ``score``, larger is better, is known for ``step``."""
        if score > self.best_score:
            return self._replace(best_step=step, best_score=score, stale=0, validated=step)
        return self._replace(stale=self.stale + 1, validated=step)

    def is_stale(self, patience: int) -> bool:
        """Whether to stop early: ``patience`` validations in a row without a better one; 0 never stops."""
        return 0 < patience <= self.stale


class Checkpoints:
    """The checkpoints of one run, the last two and the best; saved in the background.

    To be entered. Leaving waits until everything is on disk, on every process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.orbax = ocp.StandardCheckpointer()
        self.background = ThreadPoolExecutor(1)
        self.saving: Future[None] | None = None
        self.writes = jax.process_index() == 0
        if self.writes:
            _tidy(self.folder)
        sync_global_devices("checkpoints are tidy")

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is None:
            self.wait()
            sync_global_devices("checkpoints are saved")
        if failure is None or jax.process_count() == 1:  # Others may be gone, and not be waited for.
            self.background.shutdown()
            self.orbax.close()

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, None if there is none."""
        return max(_steps(self.folder), default=None)

    def save(self, state: Any, progress: Progress) -> None:
        """Start saving; returns as soon as the state is copied. An earlier checkpoint of the same step is replaced.

        Raises RunError if a checkpoint, this one or the one before, cannot be saved.
        """
        self.wait()
        step = int(state.step)
        unfinished = self.folder / f"{step}{UNFINISHED}"
        if self.writes:
            unfinished.mkdir()
            (unfinished / "progress.json").write_text(json.dumps(progress._asdict()))
        self.orbax.save(unfinished / "state", state._asdict())
        self.saving = self.background.submit(self._finish, unfinished)

    def _finish(self, unfinished: Path) -> None:
        """What follows when orbax has written all; in the background."""
        self.orbax.wait_until_finished()
        if self.writes:
            seal(unfinished)
            atomic.sync(unfinished)
            finished = unfinished.with_suffix("")
            # A kill between the two leaves neither name: the next start then takes the sealed one, see ``_tidy``.
            earlier = _set_aside(finished) if finished.exists() else None
            unfinished.rename(finished)
            if earlier:
                shutil.rmtree(earlier)
            _prune(self.folder)

    def check(self) -> None:
        """Raise RunError if saving has failed in the meantime."""
        if self.saving is not None and self.saving.done():
            self.wait()

    def wait(self) -> None:
        """Until what is being saved is on disk. Raises RunError if it cannot be saved."""
        saving, self.saving = self.saving, None
        try:
            if saving is not None:
                saving.result()
        except jax.errors.JaxRuntimeError:
            raise
        except Exception as error:  # Of many kinds, by the layer of orbax or tensorstore that met it.
            reason = str(error).partition("\n")[0]
            raise RunError(
                f"{self.folder}: a checkpoint cannot be saved ({reason}). Mend that and give the same command again: "
                f"the run goes on after step {self.latest_step() or 0}."
            ) from error

    def progress(self) -> Progress:
        """That of the newest checkpoint, or of a run that has none."""
        step = self.latest_step()
        progress = Progress() if step is None else _progress(self.folder / str(step))
        if progress.best_step in _steps(self.folder):
            return progress
        return progress._replace(best_step=0, best_score=-1.0)  # It was damaged: the best is sought anew.

    def restore(self, template: State) -> State:
        """The state of the newest checkpoint, which must be there; on the shardings of ``template``, of which no more
        than shapes is needed.
        """
        fields: dict[str, Any] = template._asdict()  # type: ignore[attr-defined]
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, fields)
        return type(template)(**self.orbax.restore(self.folder / str(self.latest_step()) / "state", abstract))


def best_step(folder: Path) -> int:
    """The step to translate with: the best of the run, or else the newest that is whole, which is then said.

    Raises InputError if there is none.
    """
    for step in reversed(_steps(folder)):
        checkpoint = folder / str(step)
        if reason := find_damage(checkpoint, "progress.json"):
            logging.warning(f"{checkpoint} is damaged: {reason}. It is not used.")
            continue
        best = _progress(checkpoint).best_step
        # Among them: a stranger's could be "../../elsewhere".
        if best in _steps(folder) and not (reason := find_damage(folder / str(best))):
            return best
        if not find_damage(checkpoint):
            why = reason or "it is missing"
            missing = f"the best checkpoint, {best}, is damaged: {why}" if best else "no step is validated yet"
            logging.warning(f"{folder}: {missing}. Step {step} is used.")
            return step
    none = "only damaged checkpoints. Copy the run again" if _steps(folder) else "no checkpoint. Train the model first"
    raise InputError(f"{folder} holds {none}, or name another --workdir.")


def load_params(folder: Path, step: int | None = None, require: Callable[[Any], None] = lambda shapes: None) -> Any:
    """The parameters of a step, as numpy arrays; ``best_step`` unless given. Optimizer and random state are not read.

    require: is shown the shapes, as a tree, before anything of that size is read, and may raise.
    Raises InputError if there is no checkpoint, or if it cannot be read.
    """
    state = folder.absolute() / str(step or best_step(folder)) / "state"
    with ocp.PyTreeCheckpointer() as reader:
        try:
            saved = reader.metadata(state).item_metadata.tree
            part = "average" if saved.get("average") is not None else "params"
            require(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), saved[part]))
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved[part])
            restore = ocp.args.PyTreeRestore(
                item={part: saved[part]}, restore_args={part: as_numpy}, partial_restore=True
            )
            return reader.restore(state, args=restore)[part]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{state} cannot be read ({type(error).__name__}). Copy the run again.") from error


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("*") if re.fullmatch("[1-9][0-9]*", path.name))


def _progress(checkpoint: Path) -> Progress:
    path = checkpoint / "progress.json"
    try:
        return Progress(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}). Copy the run again.") from error


def _tidy(folder: Path) -> None:
    """Remove what a kill cut off, and set aside what is damaged."""
    folder.mkdir(exist_ok=True)
    for left_over in folder.glob(f"*{UNFINISHED}"):
        finished = left_over.with_suffix("")
        if finished.name.isdecimal() and not finished.exists() and not find_damage(left_over):
            left_over.rename(finished)
        else:
            shutil.rmtree(left_over)
    for checkpoint in [folder / str(step) for step in _steps(folder)]:
        if reason := find_damage(checkpoint):
            names = (checkpoint.with_name(f"{checkpoint.name}.damaged-{number}") for number in itertools.count(1))
            aside = next(name for name in names if not name.exists())
            checkpoint.rename(aside)
            logging.warning(f"{checkpoint} is damaged: {reason}. It is kept as {aside.name}, and not used.")


def _prune(folder: Path) -> None:
    """Remove all checkpoints but the last two and the best."""
    steps = _steps(folder)
    kept = {*steps[-2:], _progress(folder / str(steps[-1])).best_step}
    for step in set(steps) - kept:
        shutil.rmtree(_set_aside(folder / str(step)))


def _set_aside(checkpoint: Path) -> Path:
    """A checkpoint loses its name before it is removed: half removed, it must not be taken for a damaged one."""
    return checkpoint.rename(checkpoint.with_name(f"{checkpoint.name}.removed{UNFINISHED}"))
