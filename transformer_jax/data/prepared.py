"""Encoded training pairs on disk, written by the first start of a run and memory-mapped by later starts.

A corpus is in ``~/.cache/transformer_jax/corpora/KEY``, or in ``$TRANSFORMER_JAX_CORPORA/KEY`` if that variable is set.
If it is not set and the directory cannot be written, the encoded pairs are kept in memory. KEY is a hash of everything
that determines the ids: the content of the text (not its path or format), the tokenizers and the maximum length. The
file ``origin.json`` in the same directory describes it. Run directories do not need the cache: it is safe to delete,
and the next start writes it again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from transformer_jax.config import DataConfig
from transformer_jax.data.batches import EncodedPairs, Ragged, encode_in_blocks, encode_pairs, id_dtype
from transformer_jax.data.identity import Identity
from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.data.sources import Pairs
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.data.unknown_text import UnknownCounter, UnknownShares, require_known_text
from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic
from transformer_jax.storage.caches import cache_directory
from transformer_jax.storage.lock import locked

CORPORA_VARIABLE = "TRANSFORMER_JAX_CORPORA"
"""Environment variable with the directory of all corpora."""
CORPUS_FORMAT = 3
"""Version of the files and of the encoding. Increase it when either changes."""


class PreparedPairs(NamedTuple):
    """Encoded training pairs.

    excluded: number of pairs that are empty or too long.
    unknown: shares of unknown tokens.
    """

    pairs: EncodedPairs
    excluded: int
    unknown: UnknownShares


def prepare_pairs(data: DataConfig, tokenizers: Tokenizers, text: Pairs, identity: Identity) -> PreparedPairs:
    """Return the encoded training pairs, from the cache if possible. The small phrasebook is not cached.

    text: the training text. It is not read if its pairs are already cached.
    identity: its identity.
    Raises InputError if all pairs are excluded, if all tokens of a language are unknown, or if the text changes
    meanwhile. Raises RunError if the cache is damaged or if $TRANSFORMER_JAX_CORPORA is not writable.
    """
    if text.is_generated:
        return _encode_in_memory(data, tokenizers, text)
    origin = {"format": CORPUS_FORMAT, **identity._asdict(), "max_length": data.max_length}
    key = json.dumps([origin, *(tokenizer.to_json() for tokenizer in tokenizers)])
    name = hashlib.sha256(key.encode()).hexdigest()[:20]
    corpora = cache_directory("transformer_jax/corpora", CORPORA_VARIABLE)
    if corpora is None:
        return _encode_without_cache(data, tokenizers, text, "the home directory is not known")
    directory = corpora / name
    if not directory.exists():
        try:
            corpora.mkdir(parents=True, exist_ok=True)
            with locked(directory.with_suffix(".lock")):  # One process of this machine writes; the others wait.
                if not directory.exists():
                    _write_corpus(directory, origin, data, tokenizers, text)
        except OSError as error:
            failure = atomic.write_error(directory, error, f"Set {CORPORA_VARIABLE} to a directory with free space.")
            if os.environ.get(CORPORA_VARIABLE):
                raise failure from error
            return _encode_without_cache(data, tokenizers, text, str(failure).partition(". Set ")[0])
    try:
        counts = json.loads((directory / "origin.json").read_text())
        unknown = UnknownShares(*counts["unknown"])
        pairs = EncodedPairs(
            *(_map_side(directory, *side) for side in zip(tokenizers._fields, tokenizers, strict=True))
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{directory} is damaged ({error}). Delete it and run the same command again.") from error
    return PreparedPairs(pairs, counts["left_out"], unknown)


def _encode_in_memory(data: DataConfig, tokenizers: Tokenizers, text: Pairs) -> PreparedPairs:
    pairs, excluded = encode_pairs(text, tokenizers, data.max_length)
    counter = UnknownCounter(tokenizers)
    counter.add(pairs)
    _require_pairs(len(pairs), counter.shares(), data, tokenizers)
    text.require_unchanged()
    return PreparedPairs(pairs, excluded, counter.shares())


def _encode_without_cache(data: DataConfig, tokenizers: Tokenizers, text: Pairs, problem: str) -> PreparedPairs:
    logging.warning(
        f"{problem}. The encoded pairs are kept in memory, and every start encodes them again. To keep them, set "
        f"{CORPORA_VARIABLE} to a directory with free space."
    )
    return _encode_in_memory(data, tokenizers, text)


def _require_pairs(count: int, unknown: UnknownShares, data: DataConfig, tokenizers: Tokenizers) -> None:
    if not count:
        raise InputError(
            f"{data.train}: every pair is empty or longer than {data.max_length} tokens. Raise --data.max-length."
        )
    require_known_text(unknown, tokenizers)


def _write_corpus(
    directory: Path, origin: dict[str, Any], data: DataConfig, tokenizers: Tokenizers, text: Pairs
) -> None:
    """Write a corpus while holding only one block of it in memory.

    The directory is renamed last, so an incomplete corpus is never used.
    """
    unfinished = directory.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    included = excluded = 0
    counter = UnknownCounter(tokenizers)
    try:
        for block, block_excluded in encode_in_blocks(text, tokenizers, data.max_length):
            included, excluded = included + len(block), excluded + block_excluded
            counter.add(block)
            for name, side in block._asdict().items():
                with (unfinished / f"{name}.ids").open("ab") as ids, (unfinished / f"{name}.ends").open("ab") as ends:
                    # The first offset of a block is 0, the end of the previous block, which the file already contains.
                    start, is_first = ids.tell() // side.values.itemsize, not ends.tell()
                    ids.write(side.values.tobytes())
                    ends.write((side.offsets[0 if is_first else 1 :] + start).astype(np.int64).tobytes())
        _require_pairs(included, counter.shares(), data, tokenizers)
        text.require_unchanged()
        description = {**origin, "left_out": excluded, "unknown": counter.shares(), "written_from": data.train}
        (unfinished / "origin.json").write_text(json.dumps(description, indent=2) + "\n")
        atomic.sync(unfinished)
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # An incomplete corpus may be large.
    logging.info(f"cached the encoded pairs of {data.train} in {directory} for later starts")


def _map_side(directory: Path, side: str, tokenizer: Tokenizer) -> Ragged:
    """Map the sentences of one language into memory. Raises ValueError if a file is truncated."""
    ids = np.memmap(directory / f"{side}.ids", id_dtype(tokenizer), "r")
    offsets = np.memmap(directory / f"{side}.ends", np.int64, "r")
    if len(ids) != offsets[-1]:
        raise ValueError(f"{side}.ids has {len(ids)} tokens instead of {offsets[-1]}")
    return Ragged(np.asarray(ids), np.asarray(offsets))
