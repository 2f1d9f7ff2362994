"""The folder that an export writes: a new one, whole or not there, with the tokenizers in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from transformer_jax.data.tokenizers import Tokenizers
from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic

Quantization = Literal[
    "float32", "float16", "bfloat16", "int16", "int8", "int8_float32", "int8_float16", "int8_bfloat16"
]
"""How weights are stored, as CTranslate2 names it; the second part is the type of all that is not quantized."""


def require_new(folder: Path) -> None:
    """Raise InputError if there is something of that name."""
    if folder.exists():
        raise InputError(f"{folder} exists. Delete it, or name another --output.")


@contextmanager
def exported(folder: Path, tokenizers: Tokenizers) -> Iterator[Path]:
    """A folder to be filled under another name; as ``folder`` once it is whole, gone if it never is.

    In it are tokenizer.source.json and tokenizer.target.json, both even if they are the same, so that who serves the
    model has one way to read them. Raises InputError as ``require_new`` does, and for SentencePiece's tokenizers;
    RunError if it cannot be written.
    """
    require_new(folder)
    if any(tokenizer.kind == "sentencepiece" for tokenizer in tokenizers):
        raise InputError(
            "a run with SentencePiece's tokenizers, as those that began as an import have, cannot be exported. Serve "
            "it with python -m transformer_jax serve."
        )
    unfinished = atomic.own_name(folder)
    try:
        unfinished.mkdir(parents=True)
        for side, tokenizer in tokenizers._asdict().items():
            tokenizer.save(unfinished / f"tokenizer.{side}.json")
        yield unfinished
        atomic.sync(unfinished)
        unfinished.rename(folder)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{folder} cannot be written: {reason}. Free space or name another --output.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
