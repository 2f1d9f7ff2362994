"""SentencePiece models with the vocabulary ids of a Marian model."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import NamedTuple

from transformer_jax.errors import InputError

PAD_PIECE, UNKNOWN_PIECE, END_PIECE = "<pad>", "<unk>", "</s>"
"""Special tokens of every Marian vocabulary; their ids vary. The decoder starts with the padding token."""


class SentencePieceEncoding(NamedTuple):
    """The ids of a text and the half-open character span of each id."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class SentencePieceTokenizer:
    """A SentencePiece model with the methods of ``tokenizers.Tokenizer`` that ``Tokenizer`` calls.

    The parameters ``add_special_tokens``, ``skip_special_tokens`` and ``pretty`` exist only because ``Tokenizer``
    passes them to either class. They have no effect.

    The SentencePiece model splits a text into tokens. Special tokens and tokens outside the vocabulary become unknown.
    A language code at the start of a text, such as ``>>fra<<``, is a single token if the vocabulary contains it:
    multilingual models need it to select the target language.
    """

    JSON_PREFIX = '{"kind": "sentencepiece"'
    """First characters of the saved file."""

    def __init__(self, model: bytes, pieces: Sequence[str]) -> None:
        """Load a model.

        model: content of an .spm file.
        pieces: the vocabulary; the index is the id.
        Raises InputError if the library sentencepiece is not installed, ValueError or TypeError for invalid content.
        """
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise InputError(
                "a SentencePiece tokenizer needs the package sentencepiece. Run: pip install sentencepiece"
            ) from error
        self._model, self._pieces = model, list(pieces)
        self._ids = {piece: piece_id for piece_id, piece in enumerate(pieces)}
        if len(self._ids) != len(self._pieces):
            raise ValueError("the vocabulary contains a token twice")
        if missing := {PAD_PIECE, UNKNOWN_PIECE, END_PIECE} - self._ids.keys():
            raise ValueError(f"the vocabulary does not contain {min(missing)}")
        "".join(pieces).encode()  # Raises TypeError or ValueError if a token is not valid text.
        pad, self._unknown, end = (self._ids.pop(piece) for piece in (PAD_PIECE, UNKNOWN_PIECE, END_PIECE))
        self.special_ids = (pad, self._unknown, pad, end)
        if not model:  # The library would load nothing and raise no error.
            raise ValueError("the SentencePiece model is empty")
        try:
            self._processor = SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError("the SentencePiece model is damaged") from error

    def __reduce__(self) -> tuple[type[SentencePieceTokenizer], tuple[bytes, list[str]]]:
        return SentencePieceTokenizer, (self._model, self._pieces)

    def encode_batch_fast(self, texts: list[str], add_special_tokens: bool = False) -> list[SentencePieceEncoding]:
        """Return the ids of each text, without spans. Raises RuntimeError for an unpaired surrogate."""
        codes, rest = zip(*map(self._split_language_code, texts), strict=True) if texts else ((), ())
        split_texts = self._processor.encode(list(rest), out_type=str)
        return [
            SentencePieceEncoding([self._id(piece) for piece in ([code] if code else []) + pieces], [])
            for code, pieces in zip(codes, split_texts, strict=True)
        ]

    def encode(self, text: str, add_special_tokens: bool = False) -> SentencePieceEncoding:
        """Return the ids of a text and the half-open character span of each id."""
        code, rest = self._split_language_code(text)
        mapping = self._processor.encode(rest, out_type="offset_mapping")
        pieces = ([code] if code else []) + mapping["pieces"]
        spans = [(len(code) + start, len(code) + end) for start, end in mapping["offsets"]]
        return SentencePieceEncoding([self._id(piece) for piece in pieces], ([(0, len(code))] if code else []) + spans)

    def decode_batch(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        """Return the text of each row of ids.

        skip_special_tokens: has no effect, because ``Tokenizer.decode`` removes special tokens before this call.
        """
        texts = (self._processor.decode([self._pieces[token_id] for token_id in row]) if row else "" for row in rows)
        return [text.replace("▁", " ").strip() for text in texts]

    def id_to_token(self, token_id: int) -> str:
        """Return the token with this id."""
        return self._pieces[token_id]

    def get_vocab_size(self) -> int:
        """Return the vocabulary size."""
        return len(self._pieces)

    def to_str(self, pretty: bool = False) -> str:
        """Return the model and the vocabulary as JSON."""
        model = base64.b64encode(self._model).decode()
        return json.dumps({"kind": "sentencepiece", "model": model, "pieces": self._pieces}, ensure_ascii=False) + "\n"

    @classmethod
    def from_str(cls, text: str) -> SentencePieceTokenizer:
        """Read the JSON that ``to_str`` returns. Raises ValueError, TypeError or KeyError for invalid content."""
        content = json.loads(text)
        return cls(base64.b64decode(content["model"], validate=True), content["pieces"])

    def _id(self, piece: str) -> int:
        return self._ids.get(piece, self._unknown)

    def _split_language_code(self, text: str) -> tuple[str, str]:
        """Return the language code at the start of a text ("" if there is none) and the rest of the text."""
        name, closing, rest = text.partition("<<")
        is_code = closing and text.startswith(">>") and name + closing in self._ids
        return (name + closing, rest) if is_code else ("", text)
