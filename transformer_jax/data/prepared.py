"""Training pairs as ids on disk: encoded at the first start, mapped into memory at later ones, which read no text.

A corpus lies in ``~/.cache/transformer_jax/corpora/KEY``, or in KEY of the folder that TRANSFORMER_JAX_CORPORA names.
KEY is a hash of all that the ids depend on; ``origin.json`` there says what that was. No run folder needs it: what is
deleted is prepared again by the next training that wants it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from transformer_jax.config import DataConfig
from transformer_jax.data.batches import EncodedPairs, Ragged, encode_pairs
from transformer_jax.data.sources import Pairs
from transformer_jax.data.tokenizers import Tokenizers
from transformer_jax.errors import InputError, RunError

FORMAT = 1
"""Raised when what is written, or how pairs are encoded, changes."""


def prepared_pairs(data: DataConfig, tokenizers: Tokenizers, text: Callable[[], Pairs]) -> tuple[EncodedPairs, int]:
    """The training pairs as ids, and how many were left out, as by ``encode_pairs``.

    text: opens the training split; not called if it lies in files that are prepared already. The phrasebook, which is
    small and has no files, is always encoded.

    Raises InputError if no pair is left, and RunError if the corpus cannot be written.
    """
    content = _content(data, text)
    if not content:
        return _encode(data, tokenizers, text)
    origin = {
        "format": FORMAT,
        "train": data.train,
        "languages": [data.source, data.target],
        "content": content,
        "max_length": data.max_length,
    }
    key = json.dumps([origin, *(tokenizer.to_json() for tokenizer in tokenizers)])
    corpora = Path(os.environ.get("TRANSFORMER_JAX_CORPORA", "~/.cache/transformer_jax/corpora")).expanduser()
    folder = corpora / hashlib.sha256(key.encode()).hexdigest()[:20]
    if not folder.exists():
        try:
            corpora.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):  # One process of this machine prepares, the others wait.
                if not folder.exists():
                    _write(folder, origin, *_encode(data, tokenizers, text))
        except OSError as error:
            raise RunError(
                f"{folder} cannot be written ({error.strerror}). Set TRANSFORMER_JAX_CORPORA to a folder with room."
            ) from error
    pairs = EncodedPairs(_mapped(folder, "source"), _mapped(folder, "target"))
    return pairs, json.loads((folder / "origin.json").read_text())["left_out"]


def _content(data: DataConfig, text: Callable[[], Pairs]) -> Any:
    """What tells this text from any other, without reading it: state of its files, else the library's fingerprint."""
    paths = [Path(data.train.replace("{lang}", language)).absolute() for language in (data.source, data.target)]
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()]
    return files or text().fingerprint


def _encode(data: DataConfig, tokenizers: Tokenizers, text: Callable[[], Pairs]) -> tuple[EncodedPairs, int]:
    pairs, left_out = encode_pairs(text(), tokenizers, data.max_length)
    if not len(pairs):
        raise InputError(
            f"{data.train}: every pair is empty or has over {data.max_length} tokens. Raise --data.max-length."
        )
    return pairs, left_out


def _write(folder: Path, origin: dict[str, Any], pairs: EncodedPairs, left_out: int) -> None:
    """Write a corpus under another name first, so that one whose writing was cut off is never taken for whole."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for name, side in pairs._asdict().items():
        np.save(unfinished / f"{name}.ids.npy", side.values)
        np.save(unfinished / f"{name}.ends.npy", side.ends)
    (unfinished / "origin.json").write_text(json.dumps({**origin, "left_out": left_out}, indent=2) + "\n")
    unfinished.rename(folder)
    logging.info(f"{origin['train']} is prepared in {folder} for later starts")


def _mapped(folder: Path, side: str) -> Ragged:
    ids, ends = (np.load(folder / f"{side}.{part}.npy", mmap_mode="r") for part in ("ids", "ends"))
    return Ragged(np.asarray(ids), np.asarray(ends))
