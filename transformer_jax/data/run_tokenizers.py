"""The tokenizers of a run: training, and the files in the run directory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from transformer_jax.config import TokenizerConfig
from transformer_jax.data import normalization
from transformer_jax.data.normalization import Normalization
from transformer_jax.data.records import Pair
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import InputError


class Tokenizers(NamedTuple):
    """The tokenizers of the two languages. They share one vocabulary if it is joint.

    source: the tokenizer of the source language, which normalizes texts if ``tokenizer.normalization`` is ``text``.
    target: the tokenizer of the target language, which never normalizes texts.
    """

    source: Tokenizer
    target: Tokenizer


def train_tokenizers(config: TokenizerConfig, pairs: Iterable[Pair]) -> Tokenizers:
    """Return tokenizers that have learned one vocabulary from both languages (joint), or one from each (separate).

    The normalization is learned from the sources and applies only to them.

    pairs: the pairs of the training split, which are read several times.
    Raises InputError if ``config.size`` is too small or the kind is only available in imported models.
    """
    if config.kind == "sentencepiece":
        raise InputError(
            "tokenizer.kind sentencepiece is only available in imported models. Set --tokenizer.kind bpe, "
            "or start from an imported run with --training.init RUN."
        )
    sources: Iterable[str] = (pair.source for pair in pairs)
    targets = (pair.target for pair in pairs)
    learned = None
    if config.normalization == "text":
        learned = Normalization.learn(pair.source for pair in pairs)
        sources = map(learned.library_normalizer().normalize_str, sources)
    if config.vocabulary == "joint":
        source = target = Tokenizer.train(config.kind, itertools.chain(sources, targets), config.size)
    else:
        source, target = (Tokenizer.train(config.kind, texts, config.size) for texts in (sources, targets))
    return Tokenizers(source.with_normalization(learned) if learned else source, target)


def save_tokenizers(tokenizers: Tokenizers, directory: Path) -> None:
    """Write the tokenizers of a run.

    The files are tokenizer.json for a joint vocabulary, or tokenizer.source.json and tokenizer.target.json, and
    normalization.json if sources are normalized. Files saved earlier in the same directory are removed.
    """
    remove_tokenizers(directory)
    source, target = tokenizers
    if source.vocabulary is target.vocabulary:
        target.save(directory / "tokenizer.json")
    else:
        source.save(directory / "tokenizer.source.json")
        target.save(directory / "tokenizer.target.json")
    if source.normalization:
        source.normalization.save(directory)


def remove_tokenizers(directory: Path) -> None:
    """Remove the files that ``save_tokenizers`` writes, if they exist."""
    for name in ("tokenizer.json", "tokenizer.source.json", "tokenizer.target.json", normalization.FILE_NAME):
        (directory / name).unlink(missing_ok=True)


def load_tokenizers(directory: Path, config: TokenizerConfig) -> Tokenizers:
    """Read the files written by ``save_tokenizers``.

    config: the config of the run, which states whether sources are normalized.
    Raises InputError if a file is missing or damaged.
    """
    if not (directory / "tokenizer.source.json").exists() and not (directory / "tokenizer.target.json").exists():
        source = target = Tokenizer.load(directory / "tokenizer.json")
    else:
        source, target = (Tokenizer.load(directory / f"tokenizer.{side}.json") for side in Tokenizers._fields)
    if config.normalization == "text":
        if source.kind == "sentencepiece":
            raise InputError(
                f"{directory} has a SentencePiece tokenizer, but tokenizer.normalization in config.json is text. "
                "Copy the complete run directory again."
            )
        source = source.with_normalization(Normalization.load(directory))
    return Tokenizers(source, target)
