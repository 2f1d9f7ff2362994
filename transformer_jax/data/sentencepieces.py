"""SentencePiece models with the vocabulary ids of a Marian model."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from transformer_jax.errors import InputError

PAD_PIECE, UNKNOWN_PIECE, END_PIECE = "<pad>", "<unk>", "</s>"
"""Special tokens of every Marian vocabulary; their ids vary. The decoder starts with the padding token."""


class AddedToken(NamedTuple):
    """A token that is recognized in a text before the SentencePiece model splits the text.

    text: the token.
    strips_left: whether white space before it is removed from the text.
    strips_right: whether white space after it is removed from the text.
    is_special: whether it is left out of decoded text.
    """

    text: str
    strips_left: bool = False
    strips_right: bool = False
    is_special: bool = False


class _Part(NamedTuple):
    """A part of a text: the half-open character span of a single token, or of text to be split into tokens."""

    start: int
    end: int
    is_token: bool


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
    multilingual models need it to select the target language. An added token is a single token anywhere in a text; of
    several at the same position, the longest counts. The text after an added token is split like the start of a text.
    """

    JSON_PREFIX = '{"kind": "sentencepiece"'
    """First characters of the saved file."""

    def __init__(self, model: bytes, pieces: Sequence[str], added: Sequence[AddedToken] = ()) -> None:
        """Load a model.

        model: content of an .spm file.
        pieces: the vocabulary, including the added tokens; the index is the id.
        added: the added tokens.
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
        self._added = {token.text: token for token in added}
        if "" in self._added:  # It would be found everywhere.
            raise ValueError("an added token is empty")
        if unknown := self._added.keys() - self._ids.keys():
            raise ValueError(f"the vocabulary does not contain the added token {min(unknown)!r}")
        # A regular expression takes the first alternative that matches, so the longest token comes first.
        by_length = sorted(self._added, key=len, reverse=True)
        self._added_pattern = re.compile("|".join(map(re.escape, by_length))) if by_length else None
        self._skipped_ids = {self._ids[token.text] for token in added if token.is_special}
        if not model:  # The library would load nothing and raise no error.
            raise ValueError("the SentencePiece model is empty")
        try:
            self._processor = SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError("the SentencePiece model is damaged") from error

    def __reduce__(self) -> tuple[type[SentencePieceTokenizer], tuple[bytes, list[str], list[AddedToken]]]:
        return SentencePieceTokenizer, (self._model, self._pieces, list(self._added.values()))

    def encode_batch_fast(self, texts: list[str], add_special_tokens: bool = False) -> list[SentencePieceEncoding]:
        """Return the ids of each text, without spans. Raises RuntimeError for an unpaired surrogate."""
        parts = [list(self._parts(text)) for text in texts]
        to_split = [
            text[part.start : part.end]
            for text, row in zip(texts, parts, strict=True)
            for part in row
            if not part.is_token
        ]
        split_texts = iter(self._processor.encode(to_split, out_type=str))
        encodings = []
        for text, row in zip(texts, parts, strict=True):
            pieces: list[str] = []
            for part in row:
                pieces += [text[part.start : part.end]] if part.is_token else next(split_texts)
            encodings.append(SentencePieceEncoding([self._id(piece) for piece in pieces], []))
        return encodings

    def encode(self, text: str, add_special_tokens: bool = False) -> SentencePieceEncoding:
        """Return the ids of a text and the half-open character span of each id."""
        pieces: list[str] = []
        spans: list[tuple[int, int]] = []
        for start, end, is_token in self._parts(text):
            if is_token:
                pieces.append(text[start:end])
                spans.append((start, end))
            else:
                mapping = self._processor.encode(text[start:end], out_type="offset_mapping")
                pieces += mapping["pieces"]
                spans += [(start + first, start + last) for first, last in mapping["offsets"]]
        return SentencePieceEncoding([self._id(piece) for piece in pieces], spans)

    def decode_batch(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        """Return the text of each row of ids.

        skip_special_tokens: has no effect, because ``Tokenizer.decode`` removes special tokens before this call.
        """
        kept = ([self._pieces[token_id] for token_id in row if token_id not in self._skipped_ids] for row in rows)
        texts = (self._processor.decode(pieces) if pieces else "" for pieces in kept)
        return [text.replace("▁", " ").strip() for text in texts]

    def id_to_token(self, token_id: int) -> str:
        """Return the token with this id."""
        return self._pieces[token_id]

    def get_vocab_size(self) -> int:
        """Return the vocabulary size."""
        return len(self._pieces)

    def to_str(self, pretty: bool = False) -> str:
        """Return the model, the vocabulary and the added tokens as JSON."""
        content = {
            "kind": "sentencepiece",
            "model": base64.b64encode(self._model).decode(),
            "pieces": self._pieces,
            "added": [token._asdict() for token in self._added.values()],
        }
        return json.dumps(content, ensure_ascii=False) + "\n"

    @classmethod
    def from_str(cls, text: str) -> SentencePieceTokenizer:
        """Read the JSON that ``to_str`` returns. Raises ValueError, TypeError or KeyError for invalid content."""
        content = json.loads(text)
        # Runs from before the support of added tokens have no such field.
        added = [AddedToken(**fields) for fields in content.get("added", [])]
        return cls(base64.b64decode(content["model"], validate=True), content["pieces"], added)

    def _id(self, piece: str) -> int:
        return self._ids.get(piece, self._unknown)

    def _parts(self, text: str) -> Iterator[_Part]:
        """Yield the language codes and the added tokens of a text, and the text before, between and after them."""
        matches = list(self._added_pattern.finditer(text)) if self._added_pattern else []
        start, strips_right = 0, False
        for match in [*matches, None]:
            end = match.start() if match else len(text)
            token = self._added[match.group()] if match else None
            if strips_right:
                start = end - len(text[start:end].lstrip())
            if token and token.strips_left:
                end = start + len(text[start:end].rstrip())
            code_end = start + self._language_code_length(text[start:end])
            if start < code_end:
                yield _Part(start, code_end, True)
            if code_end < end:
                yield _Part(code_end, end, False)
            if match and token:
                yield _Part(*match.span(), True)
                start, strips_right = match.end(), token.strips_right

    def _language_code_length(self, text: str) -> int:
        """Return the length of the language code at the start of a text, 0 if there is none."""
        name, closing, _ = text.partition("<<")
        return len(name + closing) if closing and text.startswith(">>") and name + closing in self._ids else 0
