"""Tokens that were added to the vocabulary of a MarianMT model, for example with ``tokenizer.add_tokens``.

``transformers`` keeps them in the field ``added_tokens_decoder`` of tokenizer_config.json. Older versions keep them in
added_tokens.json, which is ignored if the field exists. Further special tokens are listed by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from transformer_jax.bridges.marian_files import ADDED_TOKENS, SPECIAL_TOKENS, TOKENIZER_CONFIG, read_optional_json
from transformer_jax.data.sentencepieces import END_PIECE, PAD_PIECE, UNKNOWN_PIECE, AddedToken
from transformer_jax.errors import InputError

DECODER_FIELD = "added_tokens_decoder"
LIST_FIELDS = ("additional_special_tokens", "extra_special_tokens")
"""Fields that list special tokens. The first is the name before version 5 of ``transformers``."""


class AddedTokenEntry(NamedTuple):
    """An added token in a file.

    token: the token.
    token_id: its id.
    place: the file, and the field if the file has several, for messages.
    """

    token: AddedToken
    token_id: int
    place: str


def read_added_tokens(directory: Path, vocabulary: dict[str, int]) -> list[AddedTokenEntry]:
    """Return the added tokens of a model, sorted by id, without the special tokens of every vocabulary.

    vocabulary: content of the vocabulary file. A listed special token outside it gets the next free id.
    Raises InputError for an invalid entry.
    """
    config_path = directory / TOKENIZER_CONFIG
    config = read_optional_json(config_path)
    list_files = {config_path: config}
    if config.get(DECODER_FIELD) is not None:
        place = f"{DECODER_FIELD} in {config_path}"
        fields = [{"id": key} | _object(value, place) for key, value in _object(config[DECODER_FIELD], place).items()]
    else:
        place = str(directory / ADDED_TOKENS)
        fields = [
            {"content": text, "id": number} for text, number in read_optional_json(directory / ADDED_TOKENS).items()
        ]
        list_files[directory / SPECIAL_TOKENS] = read_optional_json(directory / SPECIAL_TOKENS)
    entries: dict[str, AddedTokenEntry] = {}
    for entry in (_make_entry(values, place) for values in fields):
        if entry.token.text in entries:
            raise InputError(f"{place} has {entry.token.text!r} twice. Delete one of the entries.")
        entries[entry.token.text] = entry
    for text, place in _listed_tokens(list_files):
        token_id = vocabulary.get(text, len(vocabulary.keys() | entries.keys()))
        entry = entries.get(text) or _make_entry({"content": text, "id": token_id}, place)
        entries[text] = entry._replace(token=entry.token._replace(is_special=True))
    texts = entries.keys() - {PAD_PIECE, UNKNOWN_PIECE, END_PIECE}
    return sorted((entries[text] for text in texts), key=lambda entry: entry.token_id)


def _listed_tokens(files: dict[Path, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the text and the place of each special token that the files list by name."""
    for path, content in files.items():
        for name in LIST_FIELDS:
            place, values = f"{name} in {path}", content.get(name) or []
            for value in (
                values.values() if isinstance(values, dict) else values if isinstance(values, list) else [None]
            ):
                text = value.get("content") if isinstance(value, dict) else value
                if not isinstance(text, str):
                    raise InputError(f"{place} contains {text!r}, which is not a token. Delete this entry.")
                yield text, place


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{place} contains {value!r} instead of an object. Delete this entry.")
    return value


def _make_entry(values: dict[str, Any], place: str) -> AddedTokenEntry:
    """Return the added token with these fields. Raises InputError for an invalid field."""
    text, token_id = values.get("content"), values["id"]
    if not isinstance(text, str) or not text:
        raise InputError(f"{place} has a token with the text {text!r}. Delete this entry.")
    if isinstance(token_id, str) and token_id.isascii() and token_id.isdigit() and len(token_id) < 19:
        token_id = int(token_id)
    if type(token_id) is not int:
        raise InputError(f"{place} gives {text!r} the id {token_id!r}, which is not an integer. Delete this entry.")
    if values.get("single_word"):
        raise InputError(
            f"{place}: single_word of {text!r} is true, which cannot be imported. Set it to false, so that the token "
            "is also recognized next to other characters."
        )
    strips_left, strips_right, is_special = (values.get(name) is True for name in ("lstrip", "rstrip", "special"))
    return AddedTokenEntry(AddedToken(text, strips_left, strips_right, is_special), token_id, place)
