"""Tokenizers of MarianMT models: SentencePiece models with the tokens of vocabulary files, and added tokens.

A token and its vector are connected by the token's id:

- The ids of the vocabulary file start at 0 and have no gaps. The ids of added tokens continue them.
- Every token needs a vector. A model is refused if one has none.
- A vector without a token is left out. Such vectors pad an embedding table to a multiple of 64 or 128.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformer_jax.bridges.marian_added_tokens import AddedTokenEntry, read_added_tokens
from transformer_jax.bridges.marian_files import (
    ADDED_TOKENS,
    TARGET_VOCABULARY,
    TOKENIZER_CONFIG,
    read_json,
    read_optional_json,
    read_small_file,
)
from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.data.sentencepieces import AddedToken, SentencePieceTokenizer
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import InputError


class VectorCounts(NamedTuple):
    """The number of vectors in the embedding table of each side, according to config.json."""

    source: int
    target: int


def read_tokenizers(directory: Path, marian_config: dict[str, Any]) -> tuple[Tokenizers, VectorCounts, list[str]]:
    """Return the tokenizers, the numbers of vectors, and one line for each vocabulary with fewer tokens than vectors.

    Raises InputError if the files are inconsistent with each other or with config.json.
    """
    tokenizer_config = read_optional_json(directory / TOKENIZER_CONFIG)
    is_joint = marian_config.get("share_encoder_decoder_embeddings", True)
    counts = read_vector_counts(marian_config, directory / "config.json")
    source_path = target_path = directory / "vocab.json"
    if not is_joint and ((directory / TARGET_VOCABULARY).exists() or tokenizer_config.get("separate_vocabs")):
        target_path = directory / TARGET_VOCABULARY
    added = read_added_tokens(directory, read_vocabulary(source_path, counts.source))
    tokenizers, notes = [], []
    for side, path, count in zip(Tokenizers._fields, (source_path, target_path), counts, strict=True):
        ids = read_vocabulary(path, count)
        entries = added
        if path != source_path:
            # Added tokens continue the ids of the source vocabulary. For the target, their ids may be those of other
            # tokens, or have no vector. transformers cannot decode such a target token either.
            entries = [entry for entry in added if entry.token.text not in ids and len(ids) <= entry.token_id < count]
        pieces = add_tokens(path, ids, entries, count)
        # With this option, transformers splits an added token in a text into pieces.
        matched = () if tokenizer_config.get("split_special_tokens") else tuple(entry.token for entry in entries)
        tokenizers.append(make_tokenizer(directory / f"{side}.spm", path, pieces, matched, marian_config))
        if len(pieces) < count:
            notes.append(
                f"Left out {count - len(pieces)} of {count} vectors, whose ids belong to no token in {path}. If the "
                f"model has added tokens, copy its {TOKENIZER_CONFIG} and {ADDED_TOKENS} to {directory} and import it "
                "again."
            )
    return Tokenizers(*tokenizers), counts, list(dict.fromkeys(notes))


def read_vector_counts(marian_config: dict[str, Any], path: Path) -> VectorCounts:
    """Return the vocabulary sizes in config.json. Raises InputError if one is not an integer.

    path: the path of config.json, for messages.
    """
    source = target = marian_config["vocab_size"]
    if not marian_config.get("share_encoder_decoder_embeddings", True):
        target = marian_config.get("decoder_vocab_size") or source
    if type(target) is not int:
        raise InputError(f"{path}: decoder_vocab_size is {target!r}, not an integer. Download the model again.")
    return VectorCounts(source, target)


def read_vocabulary(path: Path, vector_count: int) -> dict[str, int]:
    """Return the tokens in a vocabulary file with their ids, sorted by id.

    Raises InputError if the ids do not start at 0 or have gaps, or if there are more tokens than vectors.
    """
    ids = read_json(path)
    integers = [token_id for token_id in ids.values() if type(token_id) is int]
    if len(integers) != len(ids) or sorted(integers) != list(range(len(ids))):
        raise InputError(
            f"{path} has {len(ids)} tokens, but not exactly the ids from 0 to {len(ids) - 1}. Download the model again."
        )
    if len(ids) > vector_count:
        raise InputError(
            f"{path} has {len(ids)} tokens, but config.json specifies only {vector_count} vectors. Download the model "
            "again, or copy the tokenizer files of the same model."
        )
    return {token: ids[token] for token in sorted(ids, key=lambda token: ids[token])}


def add_tokens(path: Path, ids: dict[str, int], entries: Sequence[AddedTokenEntry], vector_count: int) -> list[str]:
    """Return the tokens of a vocabulary and the added tokens, in the order of their ids.

    path: the vocabulary file, for messages.
    ids: the content of the vocabulary file, sorted by id.
    entries: the added tokens, sorted by id. Some of them may already be in the vocabulary.
    Raises InputError for an added token without a vector, or with an id that contradicts the vocabulary.
    """
    pieces = list(ids)
    for token, token_id, place in entries:
        text = token.text
        if ids.get(text) == token_id:
            continue
        claim, remedy = f"{place} gives {text!r} the id {token_id}", f"delete {text!r} from {place}"
        if text in ids:
            raise InputError(f"{claim}, but {path} gives it the id {ids[text]}. To use the latter, {remedy}.")
        if not 0 <= token_id < vector_count:
            raise InputError(
                f"{claim}, but the model has only {vector_count} vectors, so it was not trained with this token. Copy "
                f"the weights and config.json of the same training. To read the token as ordinary text, {remedy}."
            )
        if token_id != len(pieces):
            is_used = token_id < len(pieces)
            problem = f"this is the id of {pieces[token_id]!r}" if is_used else f"no token has the id {len(pieces)}"
            raise InputError(f"{claim}, but {problem}. To read the token as ordinary text, {remedy}.")
        pieces.append(text)
    return pieces


def make_tokenizer(
    model: Path, vocabulary: Path, pieces: list[str], added: tuple[AddedToken, ...], marian_config: dict[str, Any]
) -> Tokenizer:
    """Return the tokenizer of one side, with the token ids of the Marian model.

    model: the SentencePiece model.
    vocabulary: the vocabulary file, for messages.
    pieces: all tokens in the order of their ids.
    added: tokens to recognize in a text before the SentencePiece model splits it.
    Raises InputError if the files are inconsistent with each other or with config.json.
    """
    try:
        tokenizer = Tokenizer(SentencePieceTokenizer(read_small_file(model), pieces, added))
    except (ValueError, TypeError) as error:
        raise InputError(f"{model} and {vocabulary} are invalid: {error}. Download the model again.") from error
    for name, token_id in (("pad_token_id", tokenizer.pad_id), ("eos_token_id", tokenizer.eos_id)):
        if marian_config.get(name) != token_id:
            raise InputError(
                f"{name} is {marian_config.get(name)} in config.json, but {token_id} in {vocabulary}. "
                "Download the model again."
            )
    return tokenizer
