"""The directory of an exported model. It appears when it is complete, and contains the tokenizers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from transformer_jax.data.tokenizers import Tokenizers
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

Quantization = Literal[
    "float32", "float16", "bfloat16", "int16", "int8", "int8_float32", "int8_float16", "int8_bfloat16"
]
"""Data types of the stored weights, as CTranslate2 names them. A second part is the type of unquantized weights."""


def require_unused_path(path: Path) -> None:
    """Raise InputError if the path already exists."""
    if path.exists():
        raise InputError(f"{path} already exists. Delete it, or name another --output.")


@contextmanager
def new_export_directory(directory: Path, tokenizers: Tokenizers) -> Iterator[Path]:
    """Create a directory for an exported model, to be filled under a temporary name.

    It gets its name when the block ends, and is removed if the block fails. It contains tokenizer.source.json and
    tokenizer.target.json, also if the two are equal, so that all exports are read in the same way.

    Raises InputError if the directory exists or a tokenizer is a SentencePiece model, RunError if writing fails.
    """
    require_unused_path(directory)
    if any(tokenizer.kind == "sentencepiece" for tokenizer in tokenizers):
        raise InputError(
            "the run has SentencePiece tokenizers, which cannot be exported. Serve it with "
            "python -m transformer_jax serve."
        )
    unfinished = atomic.partial_path(directory)
    try:
        with atomic.writing(directory, "Free space or name another --output."):
            unfinished.mkdir(parents=True)
            for side, tokenizer in tokenizers._asdict().items():
                tokenizer.save(unfinished / f"tokenizer.{side}.json")
            yield unfinished
            atomic.sync(unfinished)
            unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
