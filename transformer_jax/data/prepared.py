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
from typing import Any, NamedTuple

import numpy as np

from transformer_jax.config import DataConfig
from transformer_jax.data.batches import EncodedPairs, Ragged, encode_pairs, encoded_blocks, id_type
from transformer_jax.data.sources import Pairs
from transformer_jax.data.tokenizers import Tokenizer, Tokenizers
from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic
from transformer_jax.storage.lock import locked

FORMAT = 2
"""Raised when what is written, or how pairs are encoded, changes."""


class Prepared(NamedTuple):
    """Training pairs as ids. left_out: those too long or empty; skipped: rows of the text that are no pairs."""

    pairs: EncodedPairs
    left_out: int
    skipped: int


def prepared_pairs(data: DataConfig, tokenizers: Tokenizers, text: Callable[[], Pairs]) -> Prepared:
    """The training pairs as ids, and what is not among them.

    text: opens the training split; not called if it lies in files that are prepared already. The phrasebook, which is
    small and has no files, is always encoded.

    Raises InputError if no pair is left, and RunError if the corpus cannot be written or is damaged.
    """
    content = _content(data, text)
    if not content:
        pairs, left_out = encode_pairs(text(), tokenizers, data.max_length)
        _require_some(len(pairs), data)
        return Prepared(pairs, left_out, text().skipped or 0)
    origin = {
        "format": FORMAT,
        "train": data.train,
        "languages": [data.source, data.target],
        "content": content,
        "max_length": data.max_length,
        "on_error": data.on_error,
    }
    key = json.dumps([origin, *(tokenizer.to_json() for tokenizer in tokenizers)])
    corpora = Path(os.environ.get("TRANSFORMER_JAX_CORPORA", "~/.cache/transformer_jax/corpora")).expanduser()
    folder = corpora / hashlib.sha256(key.encode()).hexdigest()[:20]
    if not folder.exists():
        try:
            corpora.mkdir(parents=True, exist_ok=True)
            with locked(folder.with_suffix(".lock")):  # One process of this machine prepares, the others wait.
                if not folder.exists():
                    _write(folder, origin, data, tokenizers, text())
        except OSError as error:
            raise RunError(
                f"{folder} cannot be written ({error.strerror}). Set TRANSFORMER_JAX_CORPORA to a folder with room."
            ) from error
    try:
        counts = json.loads((folder / "origin.json").read_text())
        pairs = EncodedPairs(*(_mapped(folder, *side) for side in zip(tokenizers._fields, tokenizers, strict=True)))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder} is damaged ({error}). Delete it: the next start prepares it again.") from error
    return Prepared(pairs, counts["left_out"], counts["skipped"])


def _content(data: DataConfig, text: Callable[[], Pairs]) -> Any:
    """What tells this text from any other, without reading it: state of its files, else the library's fingerprint."""
    paths = [Path(data.train.replace("{lang}", language)).absolute() for language in (data.source, data.target)]
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()]
    return files or text().fingerprint


def _require_some(pairs: int, data: DataConfig) -> None:
    if not pairs:
        raise InputError(
            f"{data.train}: every pair is empty or has over {data.max_length} tokens. Raise --data.max-length."
        )


def _write(folder: Path, origin: dict[str, Any], data: DataConfig, tokenizers: Tokenizers, text: Pairs) -> None:
    """Write a corpus under another name first, so that one whose writing was cut off is never taken for whole. Only a
    block of it is in memory.
    """
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    kept = left_out = 0
    try:
        for block, out in encoded_blocks(text, tokenizers, data.max_length):
            kept, left_out = kept + len(block), left_out + out
            for name, side in block._asdict().items():
                with (unfinished / f"{name}.ids").open("ab") as ids, (unfinished / f"{name}.ends").open("ab") as ends:
                    # Each block's ends begin with a 0, which is the end of the block before.
                    start, is_first = ids.tell() // side.values.itemsize, not ends.tell()
                    ids.write(side.values.tobytes())
                    ends.write((side.ends[0 if is_first else 1 :] + start).astype(np.int64).tobytes())
        _require_some(kept, data)
        counts = {"left_out": left_out, "skipped": text.skipped}
        (unfinished / "origin.json").write_text(json.dumps(origin | counts, indent=2) + "\n")
        atomic.sync(unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # of a preparation that failed: it may be large
    logging.info(f"{origin['train']} is prepared in {folder} for later starts")


def _mapped(folder: Path, side: str, tokenizer: Tokenizer) -> Ragged:
    """A side of the corpus, in memory as far as it is used. Raises ValueError if its files are cut short."""
    ids, ends = (
        np.memmap(folder / f"{side}.{part}", kind, "r")
        for part, kind in (("ids", id_type(tokenizer)), ("ends", np.int64))
    )
    if len(ids) != ends[-1]:
        raise ValueError(f"{side}.ids has {len(ids)} tokens instead of {ends[-1]}")
    return Ragged(np.asarray(ids), np.asarray(ends))
