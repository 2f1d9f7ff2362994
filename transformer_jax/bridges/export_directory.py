"""Atomic creation of the directory of an exported model, including the tokenizers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

Quantization = Literal[
    "float32", "float16", "bfloat16", "int16", "int8", "int8_float32", "int8_float16", "int8_bfloat16"
]
"""Data types of the stored weights in CTranslate2. The part after _ is the type of unquantized weights."""


def require_unused_path(path: Path) -> None:
    """Raise InputError if the path already exists."""
    if path.exists():
        raise InputError(f"{path} already exists. Delete it or choose another --output.")


@contextmanager
def new_export_directory(directory: Path, tokenizers: Tokenizers) -> Iterator[Path]:
    """Create the directory of an exported model under a temporary name, and yield its path.

    It is renamed to ``directory`` when the block ends, and removed if the block fails. It always contains
    tokenizer.source.json and tokenizer.target.json, even for a joint vocabulary, so all exports are read in one way.

    Raises InputError if the directory exists or a tokenizer is a SentencePiece model, RunError if writing fails.
    """
    require_unused_path(directory)
    if any(tokenizer.kind == "sentencepiece" for tokenizer in tokenizers):
        raise InputError(
            "the run has SentencePiece tokenizers, which cannot be exported. To serve it without an export, run: "
            "python -m transformer_jax serve --workdir RUN"
        )
    unfinished = atomic.partial_path(directory)
    try:
        with atomic.writing(directory, "Free disk space or choose another --output."):
            unfinished.mkdir(parents=True)
            for side, tokenizer in tokenizers._asdict().items():
                # With the normalization, so that programs without this package apply it too.
                atomic.write_text(unfinished / f"tokenizer.{side}.json", tokenizer.to_json())
            yield unfinished
            atomic.sync(unfinished)
            unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
