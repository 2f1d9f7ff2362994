"""SentencePiece's pieces with ids of another vocabulary, as Marian's models have them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import NamedTuple

from transformer_jax.errors import InputError

PAD, UNKNOWN, END = "<pad>", "<unk>", "</s>"
"""Special pieces of every such vocabulary, wherever they stand; the decoder starts with padding."""


class Encoded(NamedTuple):
    """Ids of a text, and the characters of it that each stands for."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class SentencePieces:
    """To ``Tokenizer`` a tokenizer like those of the library ``tokenizers``, of which it has the methods needed.

    A text is split by a SentencePiece model. What the vocabulary does not list, or lists as special, is unknown. A code
    of a language at the start, ``>>fra<<``, is one piece if the vocabulary has it: models into several languages want
    one.
    """

    BEGINNING = '{"kind": "sentencepiece"'
    """Of the saved file."""

    def __init__(self, model: bytes, pieces: Sequence[str]) -> None:
        """model: the content of an .spm file; pieces: the vocabulary, by id.

        Raises InputError if the library sentencepiece is not installed, ValueError or TypeError for content that
        cannot be used.
        """
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise InputError(
                "a tokenizer of SentencePiece needs the package sentencepiece. Run: pip install sentencepiece"
            ) from error
        self._model, self._pieces = model, list(pieces)
        self._ids = {piece: number for number, piece in enumerate(pieces)}
        if len(self._ids) != len(self._pieces):
            raise ValueError("a piece stands twice in the vocabulary")
        if missing := {PAD, UNKNOWN, END} - self._ids.keys():
            raise ValueError(f"there is no {min(missing)} in the vocabulary")
        "".join(pieces).encode()  # Raises what was promised for what is no text.
        pad, self._unknown, end = (self._ids.pop(piece) for piece in (PAD, UNKNOWN, END))
        self.special_ids = (pad, self._unknown, pad, end)
        if not model:  # Which the library takes for "load nothing".
            raise ValueError("there is no SentencePiece model")
        try:
            self._processor = SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError("the SentencePiece model is damaged") from error

    def __reduce__(self) -> tuple[type[SentencePieces], tuple[bytes, list[str]]]:
        return SentencePieces, (self._model, self._pieces)

    def encode_batch_fast(self, texts: list[str], add_special_tokens: bool = False) -> list[Encoded]:
        """Ids of each text, without their places. Raises RuntimeError for half a surrogate pair."""
        codes, rest = zip(*map(self._without_code, texts), strict=True) if texts else ((), ())
        split = self._processor.encode(list(rest), out_type=str)
        return [
            Encoded([self._id(piece) for piece in ([code] if code else []) + pieces], [])
            for code, pieces in zip(codes, split, strict=True)
        ]

    def encode(self, text: str, add_special_tokens: bool = False) -> Encoded:
        """Ids of a text, with their places."""
        code, rest = self._without_code(text)
        split = self._processor.encode(rest, out_type="offset_mapping")
        first = len(code)
        pieces = ([code] if code else []) + split["pieces"]
        offsets = [(first + start, first + end) for start, end in split["offsets"]]
        return Encoded([self._id(piece) for piece in pieces], ([(0, first)] if code else []) + offsets)

    def decode_batch(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        """The text of each row of ids."""
        texts = (self._processor.decode([self._pieces[one] for one in row]) if row else "" for row in rows)
        return [text.replace("▁", " ").strip() for text in texts]

    def id_to_token(self, number: int) -> str:
        """The piece with this id."""
        return self._pieces[number]

    def get_vocab_size(self) -> int:
        """Number of pieces; ids are below it."""
        return len(self._pieces)

    def to_str(self, pretty: bool = False) -> str:
        """Model and vocabulary as JSON."""
        model = base64.b64encode(self._model).decode()
        return json.dumps({"kind": "sentencepiece", "model": model, "pieces": self._pieces}, ensure_ascii=False) + "\n"

    @classmethod
    def from_str(cls, text: str) -> SentencePieces:
        """What ``to_str`` gave. Raises ValueError, TypeError or KeyError for anything else."""
        content = json.loads(text)
        return cls(base64.b64decode(content["model"], validate=True), content["pieces"])

    def _id(self, piece: str) -> int:
        return self._ids.get(piece, self._unknown)

    def _without_code(self, text: str) -> tuple[str, str]:
        """The language code at the start of a text, if there is one, and the rest."""
        code, found, rest = text.partition("<<")
        known = found and text.startswith(">>") and code + found in self._ids
        return (code + found, rest) if known else ("", text)
