"""The data of a run, from locators to ids, with the tokenizers that it trains or finds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
from jax.experimental.multihost_utils import sync_global_devices

from transformer_jax.config import Config, DataConfig
from transformer_jax.data.batches import EncodedPairs
from transformer_jax.data.overlap import Overlap, count_overlap
from transformer_jax.data.prepared import prepared_pairs
from transformer_jax.data.sources import Pair, Pairs, open_pairs
from transformer_jax.data.tokenizers import Tokenizers, load_tokenizers, save_tokenizers, train_tokenizers
from transformer_jax.errors import InputError


class Corpus(NamedTuple):
    """The data of a run: training pairs as ids, validation and test pairs as text.

    overlap: of the test set with the training text; None if a later start left that alone.
    """

    tokenizers: Tokenizers
    train: EncodedPairs
    valid: Sequence[Pair]
    test: Sequence[Pair]
    overlap: Overlap | None


def load_corpus(config: Config, workdir: Path) -> Corpus:
    """Open the data; train the tokenizers on the training split, take those of the run that it starts from
    (training.init), or load those that it has.

    The text of the training split is read for that, and to prepare it (``data/prepared.py``); later starts leave it
    alone.
    """
    data = config.data
    text = cache(lambda: training_text(data))
    trained = (workdir / "config.json").exists()  # Written after them; without it they may be of other settings.
    valid = list(open_pairs(data.valid, data.source, data.target, "valid"))
    test = list(open_pairs(data.test, data.source, data.target, "test"))
    # Read once from end to end: what is wrong with the text is said before anything is written.
    overlap = None if trained else count_overlap(test, text())
    if jax.process_index() == 0 and not trained:
        sources, targets = (pair.source for pair in text()), (pair.target for pair in text())
        init = config.training.init
        new = load_tokenizers(Path(init)) if init else train_tokenizers(config.tokenizer, sources, targets)
        save_tokenizers(new, workdir)
    sync_global_devices("tokenizers")
    tokenizers = load_tokenizers(workdir)
    encoded, left_out, skipped = prepared_pairs(data, tokenizers, text)
    logging.info(
        f"{len(encoded) + left_out} training pairs ({left_out} left out: empty, or over {data.max_length} tokens"
        f"{f'; {skipped} bad rows skipped' if skipped else ''}), "
        f"{len(valid)} for validation, {len(test)} for the test; "
        f"vocabularies of {len(tokenizers.source)} and {len(tokenizers.target)}"
    )
    if overlap and overlap.sources:
        logging.warning(str(overlap))
    return Corpus(tokenizers, encoded, valid, test, overlap)


def recount_overlap(test: Sequence[Pair], data: DataConfig) -> Overlap | None:
    """The overlap of a run that goes on, whose text this start has not read. A text that is gone costs no score."""
    try:
        return count_overlap(test, training_text(data))
    except (InputError, OSError) as error:
        logging.warning(f"how much of the test set stands in the training text is not known: {error}")
        return None


def training_text(data: DataConfig) -> Pairs:
    """The training split, unread."""
    return open_pairs(data.train, data.source, data.target, "train", data.on_error)
