"""Text to token ids and back: word level, byte-level BPE, WordPiece and Unigram, on Hugging Face ``tokenizers``; and
the SentencePiece models of imported runs.

=========  =======================================================================  ====================================
kind       what decoding an encoded text does not restore                           same vocabulary from the same text
=========  =======================================================================  ====================================
bpe        nothing                                                                  yes
word       words outside the vocabulary; spacing, restored by rule (join_words)     yes
wordpiece  words with characters outside the alphabet, or of more than 100;         no: equal counts fall either way
           spacing, as for words
unigram    characters outside the alphabet; one space at the start; "▁" itself      no: pieces may differ by the run
=========  =======================================================================  ====================================

So two trainings of WordPiece or Unigram may give different ids: a model belongs to the files saved beside it.
``sentencepiece`` is not trained here; it restores neither what it does not know nor what it normalizes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Int
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from transformer_jax.config import TokenizerConfig
from transformer_jax.data.sentencepieces import SentencePieces
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

Kind = Literal["word", "bpe", "wordpiece", "unigram", "sentencepiece"]

SPECIAL = ("[PAD]", "[UNK]", "[SOS]", "[EOS]")
"""The special tokens of every vocabulary that is trained here; the place in the tuple is the id."""
UNKNOWN = SPECIAL[1]
MIN_FREQUENCY = 2
"""Words and merges seen once are not learnt, so that a word-level [UNK] is met, and trained, in the training text."""


def build_word() -> tokenizers.Tokenizer:
    """Whole words, numbers and punctuation marks."""
    tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = split_words()
    return tokenizer


def build_bpe() -> tokenizers.Tokenizer:
    """Byte-level BPE with GPT-2's split into words: a word keeps the space before it.

    The first word of a sentence has no such space and so has a piece of its own. On Multi30k that costs 0.2% more
    tokens (8,000 pieces), and nothing has to be put before the text and taken off again.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def build_wordpiece() -> tokenizers.Tokenizer:
    """Pieces of words; all but a word's first begin with ``##``."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.pre_tokenizer = split_words()
    return tokenizer


def build_unigram() -> tokenizers.Tokenizer:
    """Unigram pieces with ``▁`` for a space, as in SentencePiece."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    # "[" on its own: the trainer gives special tokens a score, so that a typed "[EOS]" would become the real one.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split("[", "isolated")]
    )
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def split_words() -> Any:
    """Numbers such as 3.5 or 10:30, then runs of letters and digits, then each other character; spaces are dropped."""
    return pre_tokenizers.Split(Regex(r"\d+(?:[.,:]\d+)+|\w+|[^\w\s]"), behavior="removed", invert=True)


BUILDERS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "word": build_word,
    "bpe": build_bpe,
    "wordpiece": build_wordpiece,
    "unigram": build_unigram,
}
TRAINERS: dict[str, Callable[..., Any]] = {
    "word": lambda **settings: trainers.WordLevelTrainer(min_frequency=MIN_FREQUENCY, **settings),
    "bpe": lambda **settings: trainers.BpeTrainer(
        min_frequency=MIN_FREQUENCY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **settings
    ),
    "wordpiece": lambda **settings: trainers.WordPieceTrainer(min_frequency=MIN_FREQUENCY, **settings),
    "unigram": lambda **settings: trainers.UnigramTrainer(unk_token=UNKNOWN, **settings),
}
KINDS = {"WordLevel": "word", "BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram"}
"""The model's name in the saved file -> kind."""


def byte_of_character() -> dict[str, int]:
    """The byte that each character of a byte-level piece stands for (GPT-2): itself if printable, else U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTES = byte_of_character()


class Tokenizer:
    """One vocabulary. Special tokens are never added, and special tokens typed in a text are ordinary text.

    special_ids: those of padding, unknown, start and end, which need not all differ.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer | SentencePieces) -> None:
        self._tokenizer: Any = tokenizer
        if isinstance(tokenizer, SentencePieces):
            self.kind: Kind = "sentencepiece"
            self.special_ids = tokenizer.special_ids
        else:
            # Not kept in the saved file, so set whichever way the tokenizer came here.
            tokenizer.encode_special_tokens = True
            self.kind = KINDS[type(tokenizer.model).__name__]  # type: ignore[assignment]
            self.special_ids = (0, 1, 2, 3)
        self.pad_id, self.unk_id, self.sos_id, self.eos_id = self.special_ids

    @classmethod
    def train(cls, kind: Kind, texts: Iterable[str], size: int) -> Tokenizer:
        """Learn a vocabulary of at most ``size`` entries, special tokens included.

        Raises InputError, naming the least size, if not even the single characters (bpe: bytes) fit.
        """
        tokenizer = BUILDERS[kind]()
        characters: set[str] = set()
        trainer = TRAINERS[kind](vocab_size=size, special_tokens=list(SPECIAL), show_progress=False)
        try:
            tokenizer.train_from_iterator(note_characters(texts, characters), trainer)
            least = tokenizer.get_vocab_size()
        except Exception as error:  # tokenizers raises nothing narrower
            if "not large enough" not in str(error):  # as Unigram says; the others overrun the size
                raise
            least = size + 1
        if least > size:
            if kind == "unigram":
                # Its pruning overruns the size unless one longer piece can stay beside the characters.
                least = len(SPECIAL) + len((characters - {" "}) | {"▁"}) + 1
            unit = "byte" if kind == "bpe" else "character of the text"
            raise InputError(
                f"tokenizer.size {size} is too small for {kind}: every {unit} and the special tokens must be in. "
                f"Give at least {least}."
            )
        return cls(tokenizer)

    def __len__(self) -> int:
        """Number of entries, special tokens included; ids are below it."""
        return self._tokenizer.get_vocab_size()

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, as worker processes get one, is made by __init__ too: see there.
        return Tokenizer, (self._tokenizer,)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens; [UNK] stands for what the vocabulary cannot say (never with bpe).

        Raises InputError for a text with half a surrogate pair, which is no character.
        """
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except (TypeError, RuntimeError):  # tokenizers raises the first, sentencepiece the second.
            for number, text in enumerate(texts, start=1):
                if any("\ud800" <= character <= "\udfff" for character in text):
                    message = f"Text {number} holds half a surrogate pair, which is no character. Save it as UTF-8."
                    raise InputError(message) from None
            raise
        return [encoding.ids for encoding in encodings]

    def encode_with_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids as of ``encode``, and for each the characters of the text that it stands for: from, up to but without.

        Ids that share one character, as bytes may, have the same span.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[Sequence[int]] | Int[np.ndarray, "B T"]) -> list[str]:
        """Raw text of each row of ids. Special tokens, [UNK] too, are skipped; decoding does not stop at [EOS]."""
        # By id, not by name: "[EOS]" typed by a user comes back as text.
        rows = [[int(one) for one in row if one not in self.special_ids] for row in ids]
        if self.kind == "word":
            return [join_words(self.pieces(row)) for row in rows]
        if self.kind == "wordpiece":
            return [join_words(join_pieces(self.pieces(row))) for row in rows]
        return self._tokenizer.decode_batch(rows, skip_special_tokens=False)

    def tokens(self, ids: Sequence[int] | Int[np.ndarray, "T"]) -> list[str]:
        """One readable string for each id.

        Byte-level pieces are shown as text with ``▁`` for a space, ``\\n`` for a line feed (likewise other invisible
        characters) and ``<0xE3>`` for a byte that is part of a character; other kinds and special tokens as they are.
        """
        pieces = self.pieces(ids)
        if self.kind != "bpe":
            return pieces
        return [piece if one in self.special_ids else show_bytes(piece) for one, piece in zip(ids, pieces, strict=True)]

    def to_json(self) -> str:
        """The vocabulary and its rules."""
        return self._tokenizer.to_str(pretty=True)

    def save(self, path: Path) -> None:
        """Write the vocabulary and its rules as one JSON file."""
        atomic.write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what ``save`` wrote; nothing in the file is executed. Raises InputError if it is missing or damaged."""
        try:
            text = path.read_text(encoding="utf-8")
            if text.startswith(SentencePieces.BEGINNING):
                return cls(SentencePieces.from_str(text))
            tokenizer = tokenizers.Tokenizer.from_str(text)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}). Restore the file or train again.") from error
        except InputError:
            raise
        except Exception as error:  # tokenizers raises nothing narrower
            problem = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"{path} is not a tokenizer ({problem}). Restore the file or train again.") from error
        ids = tuple(tokenizer.token_to_id(token) for token in SPECIAL)
        if ids != tuple(range(len(SPECIAL))):
            raise InputError(
                f"{path}: {' '.join(SPECIAL)} have ids {ids}, not 0 to 3. Restore the file or train again."
            )
        found = cls(tokenizer)
        # Another's rules might pad each text to millions of tokens, or split it by an expression that never ends.
        if rules(tokenizer) != rules(BUILDERS[found.kind]()):
            raise InputError(
                f"{path} has other rules than this program's {found.kind}. Restore the file or train again."
            )
        return found

    def pieces(self, ids: Sequence[int] | Int[np.ndarray, "T"]) -> list[str]:
        """The vocabulary's own name of each id. Raises IndexError for an id that is not below its size."""
        size = len(self)
        if any(one >= size for one in ids):
            raise IndexError(f"An id is not below the vocabulary size {size}: {list(ids)}")
        return [str(self._tokenizer.id_to_token(int(one))) for one in ids]


def rules(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    """All that a tokenizer does but for what it has learnt."""
    written = json.loads(tokenizer.to_str())
    learnt = ("vocab", "merges", "unk_id")
    model = {name: value for name, value in written["model"].items() if name not in learnt}
    return {**written, "model": model, "added_tokens": None}


class Tokenizers(NamedTuple):
    """The tokenizers of the two languages: the same object twice when the vocabulary is joint."""

    source: Tokenizer
    target: Tokenizer


def train_tokenizers(config: TokenizerConfig, sources: Iterable[str], targets: Iterable[str]) -> Tokenizers:
    """Learn one vocabulary from both sides, or one from each. Give the training split only.

    Raises InputError if ``config.size`` is too small, and for a kind that is only imported.
    """
    if config.kind == "sentencepiece":
        raise InputError(
            "tokenizer.kind sentencepiece is not trained here. Choose another, or give the run that has it: "
            "--training.init."
        )
    if config.vocabulary == "joint":
        joint = Tokenizer.train(config.kind, itertools.chain(sources, targets), config.size)
        return Tokenizers(joint, joint)
    return Tokenizers(
        Tokenizer.train(config.kind, sources, config.size), Tokenizer.train(config.kind, targets, config.size)
    )


def save_tokenizers(tokenizers: Tokenizers, folder: Path) -> None:
    """Write tokenizer.json, or tokenizer.source.json and tokenizer.target.json if they differ, into the folder.

    Files that an earlier pair of tokenizers left there are removed.
    """
    remove_tokenizers(folder)
    if tokenizers.source is tokenizers.target:
        tokenizers.source.save(folder / "tokenizer.json")
    else:
        tokenizers.source.save(folder / "tokenizer.source.json")
        tokenizers.target.save(folder / "tokenizer.target.json")


def remove_tokenizers(folder: Path) -> None:
    """Remove what ``save_tokenizers`` wrote, if it did."""
    for name in ("tokenizer", "tokenizer.source", "tokenizer.target"):
        (folder / f"{name}.json").unlink(missing_ok=True)


def load_tokenizers(folder: Path) -> Tokenizers:
    """Read what ``save_tokenizers`` wrote. Raises InputError if a file is missing or damaged."""
    if not (folder / "tokenizer.source.json").exists() and not (folder / "tokenizer.target.json").exists():
        joint = Tokenizer.load(folder / "tokenizer.json")
        return Tokenizers(joint, joint)
    return Tokenizers(*(Tokenizer.load(folder / f"tokenizer.{side}.json") for side in Tokenizers._fields))


def note_characters(texts: Iterable[str], characters: set[str]) -> Iterator[str]:
    """The texts as they are; every character seen on the way is added to ``characters``."""
    for text in texts:
        characters.update(text)
        yield text


QUOTES = frozenset('"„“”«»')
OPENING = frozenset("([{")
CLOSING = frozenset(".,!?;:%)]}…")
BINDING = frozenset("'’-/")


def join_words(words: Iterable[str]) -> str:
    """Words to a sentence: no space before closing marks, after opening marks, or around apostrophe, hyphen and slash.

    Quotation marks open and close in turn. Lost, for example: the spaces of "a - b", "« oui »" and "the dogs' bowl".
    """
    text, bound, quoted = "", True, False
    for word in words:
        quote = word in QUOTES
        text += word if bound or word in CLOSING or word in BINDING or (quote and quoted) else f" {word}"
        bound = word in OPENING or word in BINDING or (quote and not quoted)
        quoted ^= quote
    return text


def join_pieces(pieces: Iterable[str]) -> list[str]:
    """WordPiece pieces to words: ``##`` continues the word before."""
    words: list[str] = []
    for piece in pieces:
        if piece.startswith("##"):
            words[-1:] = ["".join(words[-1:]) + piece.removeprefix("##")]
        else:
            words.append(piece)
    return words


def show_bytes(piece: str) -> str:
    """A byte-level piece as readable text."""
    # surrogateescape turns each byte that is no whole character into U+DC00 + byte.
    text = bytes(BYTES[character] for character in piece).decode("utf-8", "surrogateescape")
    return "".join(show_character(character) for character in text)


def show_character(character: str) -> str:
    """One character, made visible if it is not."""
    if character == " ":
        return "▁"
    if "\udc80" <= character <= "\udcff":
        return f"<0x{ord(character) - 0xDC00:02X}>"
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
