"""The data of a run: sentence pairs, tokenizers and token IDs."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from jax.experimental.multihost_utils import sync_global_devices

from transformer_jax.config import Config, DataConfig
from transformer_jax.data.batches import EncodedPairs
from transformer_jax.data.overlap import Overlap, count_overlap
from transformer_jax.data.prepared import prepare_pairs
from transformer_jax.data.run_data import RunData, identify_texts, require_same_texts
from transformer_jax.data.run_tokenizers import Tokenizers, load_tokenizers, save_tokenizers, train_tokenizers
from transformer_jax.data.sources import Pair, Pairs, open_pairs
from transformer_jax.data.text_statistics import TextStatistics, measure_text
from transformer_jax.data.unknown_text import report_unknown, require_vocabulary, unknown_shares
from transformer_jax.downloads.runs import local_run
from transformer_jax.errors import InputError
from transformer_jax.runtime.agreement import require_agreement
from transformer_jax.storage.home import expand_home


class Corpus(NamedTuple):
    """The data of a run.

    tokenizers: source and target tokenizer.
    train: training pairs as token IDs.
    valid, test: validation and test pairs as text.
    overlap: overlap of the test set with the training text; None if this start did not read that text.
    statistics: statistics of the training text; None if an earlier version started the run.
    texts: the identities of the three texts. ``fit`` saves them once it has accepted the run.
    """

    tokenizers: Tokenizers
    train: EncodedPairs
    valid: Sequence[Pair]
    test: Sequence[Pair]
    overlap: Overlap | None
    statistics: TextStatistics | None
    texts: RunData


def load_corpus(config: Config, workdir: Path) -> Corpus:
    """Load the data and the tokenizers of a run.

    The first start trains the tokenizers on the training split, or copies those of ``training.init``, and encodes the
    training pairs (see ``data/prepared.py``). Later starts load both, and read the training text again only if its
    files have changed.
    Raises InputError if the texts are invalid, are not those of the run or of the other processes, or are unknown to
    the tokenizers.
    """
    data = config.data
    # config.json is written after the tokenizers. Without it, they may belong to another config.
    has_tokenizers = (workdir / "config.json").exists()
    recorded = RunData.load(workdir) if has_tokenizers else None
    text = training_text(data)
    valid_text = open_pairs(data.valid, data.source, data.target, "valid")
    test_text = open_pairs(data.test, data.source, data.target, "test")
    valid, test = list(valid_text), list(test_text)
    # Counting reads the complete training text, so bad text is reported before anything is written.
    overlap = None if has_tokenizers else count_overlap(test, text)
    texts = identify_texts((text, valid_text, test_text), data, recorded)
    require_agreement("data", texts.identities(), seconds=math.inf)  # Only some hosts may have to read the text.
    if recorded:
        require_same_texts(texts, recorded, data, workdir)
    if jax.process_index() == 0 and not has_tokenizers:
        init = config.training.init
        if init:
            first_tokenizers = load_tokenizers(local_run(expand_home(Path(init))), config.tokenizer)
        else:
            first_tokenizers = train_tokenizers(config.tokenizer, text)
        save_tokenizers(first_tokenizers, workdir)
    sync_global_devices("tokenizers")
    tokenizers = load_tokenizers(workdir, config.tokenizer)
    require_vocabulary(tokenizers)
    encoded, excluded, unknown = prepare_pairs(data, tokenizers, text, texts.train.identity)
    valid_unknown = texts.valid.unknown or unknown_shares(valid, tokenizers)
    texts = texts._replace(
        train=texts.train._replace(unknown=unknown), valid=texts.valid._replace(unknown=valid_unknown)
    )
    if jax.process_index() == 0 and not has_tokenizers:
        measure_text(text, encoded, valid, tokenizers.source, data.source).save(workdir)
    sync_global_devices("text statistics")
    skipped = texts.train.skipped
    logging.info(
        f"{len(encoded) + excluded} training pairs ({excluded} excluded: empty or over {data.max_length} tokens"
        f"{f'; {skipped} invalid rows skipped' if skipped else ''}), {len(valid)} validation pairs, "
        f"{len(test)} test pairs, vocabulary sizes {len(tokenizers.source)} and {len(tokenizers.target)}"
    )
    report_unknown(unknown, valid_unknown, tokenizers)
    if overlap and overlap.sources:
        logging.warning(str(overlap))
    return Corpus(tokenizers, encoded, valid, test, overlap, TextStatistics.load(workdir), texts)


def recount_overlap(test: Sequence[Pair], data: DataConfig) -> Overlap | None:
    """Read the training text of a resumed run again, and return its overlap with the test set.

    Return None, with a warning, if the text cannot be read, for example because it has been removed.
    """
    try:
        return count_overlap(test, training_text(data))
    except (InputError, OSError) as error:
        logging.warning(f"the overlap of the test set with the training text is unknown: {error}")
        return None


def training_text(data: DataConfig) -> Pairs:
    """Open the training split, without reading it."""
    return open_pairs(data.train, data.source, data.target, "train", data.on_error)
