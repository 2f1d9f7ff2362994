"""Checks of a run that resumes, and what it takes over from its last checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from transformer_jax.config import Config, flatten, load_config
from transformer_jax.data.languages import find_language
from transformer_jax.data.pipeline import configured_row_lengths
from transformer_jax.data.run_data import RunData
from transformer_jax.errors import InputError
from transformer_jax.storage.checkpoints import Progress
from transformer_jax.training.corpus import Corpus

CHANGEABLE_FIELDS = (
    *(f"training.{name}" for name in ("steps", "patience", "log_every", "valid_every", "save_every", "max_skipped")),
    "training.remat",
    "model.attention",
    "mesh",
    "decoding",
)
"""Config fields and sections that may change when a run resumes."""
TEXT_FIELDS = ("data.train", "data.valid", "data.test", "data.on_error")
"""Config fields that may also change if the run has recorded the content of its texts, which must stay the same."""


def require_same_config(config: Config, workdir: Path, mirror: str = "") -> None:
    """Raise InputError if ``workdir`` contains a run with a different config, or checkpoints without a config.

    mirror: location of the mirror that the files in ``workdir`` come from, for the message.
    """
    path = workdir / "config.json"
    has_checkpoints = any((workdir / "checkpoints").glob("[1-9]*"))
    if not path.exists() and has_checkpoints:
        raise InputError(f"{path} is missing, but checkpoints exist. Restore the file, or choose another --workdir.")
    if path.exists():
        saved, requested = (flatten(dataclasses.asdict(values)) for values in (load_config(path), config))
        changed = [key for key in requested if requested[key] != saved[key] and not key.startswith(CHANGEABLE_FIELDS)]
        if RunData.exists(workdir):
            changed = [key for key in changed if not _is_changeable_with_same_text(key, saved[key], requested[key])]
        # The initial weights are not read again after the first checkpoint. config.json contains the path on process 0.
        if saved["training.init"] and requested["training.init"] and (has_checkpoints or jax.process_index()):
            changed = [key for key in changed if key != "training.init"]
        if changed:
            differences = ", ".join(f"{key} {saved[key]} -> {requested[key]}" for key in changed)
            raise InputError(
                f"{mirror or workdir} contains a run with a different config: {differences}. Restore the old values, "
                f"or choose another {'--mirror' if mirror else '--workdir'}."
            )


def require_enough_steps(config: Config, completed: int, workdir: Path) -> None:
    """Raise InputError if the run has completed more updates than ``training.steps``."""
    if completed > config.training.steps:
        raise InputError(
            f"training.steps is {config.training.steps}, but the run in {workdir} has completed {completed} updates. "
            f"Nothing was changed. Set --training.steps to at least {completed}, or choose another --workdir."
        )


def require_same_corpus(progress: Progress, corpus: Corpus, workdir: Path) -> None:
    """Raise InputError if the training text has other sizes, since the saved position in the batches would be wrong.

    Runs of earlier versions have recorded no more than these sizes.
    """
    if progress.corpus is not None and progress.corpus != corpus_size(corpus):
        saved, current = (", ".join(map(str, size)) for size in (progress.corpus, corpus_size(corpus)))
        raise InputError(
            f"the training text of the run in {workdir} has changed (pairs, source tokens, target tokens: {saved} -> "
            f"{current}). Restore the text, or choose another --workdir."
        )


def resumed_row_lengths(config: Config, progress: Progress) -> list[int]:
    """Return the lengths of packed rows of the run that resumes. A new run, or one with buckets, has none.

    Runs of earlier versions have recorded no lengths. They use those of the config.
    """
    if progress.data is None:
        return []
    return configured_row_lengths(config.data) if progress.row_lengths is None else progress.row_lengths


def corpus_size(corpus: Corpus) -> list[int]:
    """Return the numbers of pairs, source tokens and target tokens of the training text."""
    return [len(corpus.train), *(int(lengths.sum()) for lengths in corpus.train.lengths())]


def _is_changeable_with_same_text(key: str, saved: Any, requested: Any) -> bool:
    """Return whether a field may change if the text stays the same. Languages may only get other names."""
    if key in ("data.source", "data.target"):
        return find_language(saved)[1:] == find_language(requested)[1:]  # Code and script.
    return key in TEXT_FIELDS
