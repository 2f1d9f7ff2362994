"""Shares of tokens for text outside the vocabulary.

These are [UNK] and, in byte-level BPE, tokens that contain only a part of a character. A model learns nothing about the
text behind [UNK], and only with difficulty about characters in parts.

Axes: V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from transformer_jax.data.batches import EncodedPairs, encode_pairs
from transformer_jax.data.detokenization import BYTE_OF_CHARACTER
from transformer_jax.data.records import Pair
from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import InputError

MAX_SHARE = 0.05
"""A larger share of unknown tokens is a warning."""
REMEDY = "Set --tokenizer.kind bpe. If --training.init is set, choose a run for these languages instead."


class UnknownShares(NamedTuple):
    """Shares of the tokens of each language that are unknown, from 0 to 1. Other special tokens do not count."""

    source: float
    target: float


class UnknownCounter:
    """Counts the unknown tokens of encoded pairs."""

    def __init__(self, tokenizers: Tokenizers) -> None:
        self._unknown_ids = [find_unknown_ids(tokenizer) for tokenizer in tokenizers]
        self._unknown, self._tokens = np.zeros(2, int), np.zeros(2, int)

    def add(self, encoded: EncodedPairs) -> None:
        """Count the tokens of more pairs."""
        self._unknown += [
            np.count_nonzero(ids[side.values]) for ids, side in zip(self._unknown_ids, encoded, strict=True)
        ]
        # Without [EOS] of the source, and without [SOS] and [EOS] of the target.
        self._tokens += [len(side.values) - added * len(side) for side, added in zip(encoded, (1, 2), strict=True)]

    def shares(self) -> UnknownShares:
        """Return the shares of all tokens counted so far."""
        return UnknownShares(*(self._unknown / np.maximum(self._tokens, 1)).tolist())


def unknown_shares(pairs: Sequence[Pair], tokenizers: Tokenizers) -> UnknownShares:
    """Return the shares of unknown tokens in a text."""
    counter = UnknownCounter(tokenizers)
    counter.add(encode_pairs(pairs, tokenizers, max_length=None)[0])
    return counter.shares()


def find_unknown_ids(tokenizer: Tokenizer) -> Bool[np.ndarray, "V"]:
    """Return for each id of a vocabulary whether its token represents text outside the vocabulary."""
    is_unknown = np.zeros(len(tokenizer), bool)
    is_unknown[tokenizer.unk_id] = True
    if tokenizer.kind == "bpe":
        ids = [token_id for token_id in range(len(tokenizer)) if token_id not in tokenizer.special_ids]
        is_unknown[ids] = [has_partial_character(piece) for piece in tokenizer.pieces(ids)]
    return is_unknown


def has_partial_character(piece: str) -> bool:
    """Return whether a byte-level token is not UTF-8 by itself."""
    try:
        bytes(BYTE_OF_CHARACTER[character] for character in piece).decode()
    except UnicodeDecodeError:
        return True
    return False


def require_vocabulary(tokenizers: Tokenizers) -> None:
    """Raise InputError if a vocabulary contains only special tokens."""
    for side, tokenizer in tokenizers._asdict().items():
        if len(tokenizer) <= len(set(tokenizer.special_ids)):
            raise InputError(
                f"the {side} vocabulary contains only special tokens. A word must occur twice in the training text to "
                f"become a token. {REMEDY}"
            )


def require_known_text(shares: UnknownShares, tokenizers: Tokenizers) -> None:
    """Raise InputError if every token of a language of the training text is [UNK]."""
    for (side, tokenizer), share in zip(tokenizers._asdict().items(), shares, strict=True):
        if share == 1 and tokenizer.kind != "bpe":  # A model can learn characters in parts.
            raise InputError(f"the vocabulary contains no {side} token of the training text. {REMEDY}")


def report_unknown(train: UnknownShares, valid: UnknownShares, tokenizers: Tokenizers) -> None:
    """Log the shares of unknown tokens in the training and validation text, if any are unknown."""
    largest = max(*train, *valid)
    if largest < 0.0005:  # 0.0%
        return
    is_bpe = tokenizers.target.kind == "bpe"
    shares = ", ".join(
        f"{train_share:.1%} of the {side} tokens ({valid_share:.1%} in the validation text)"
        for side, train_share, valid_share in zip(tokenizers._fields, train, valid, strict=True)
    )
    report = f"{'characters split into bytes' if is_bpe else 'unknown words'}: {shares}"
    if largest <= MAX_SHARE:
        logging.info(report)
    else:
        remedy = "Set a larger --tokenizer.size" if is_bpe else "Set --tokenizer.kind bpe or a larger --tokenizer.size"
        logging.warning(
            f"{report}. {remedy}, with another --workdir. If the tokenizers come from --training.init, choose a run "
            "for these languages."
        )
