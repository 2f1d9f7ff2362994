"""Tokenizers: text to token ids and back, with the Hugging Face library ``tokenizers``.

=========  =======================================================================  ====================================
kind       lost when a text is encoded and decoded                                  same vocabulary from the same text
=========  =======================================================================  ====================================
bpe        nothing                                                                  yes
word       words outside the vocabulary; spaces at the ends, doubled spaces, tabs   yes
wordpiece  words with characters outside the alphabet or over 100 characters;       no: ties are broken arbitrarily
           spaces, as for word
unigram    characters outside the alphabet; one leading space; "▁" itself           no: training is not deterministic
=========  =======================================================================  ====================================

Two trainings of WordPiece or Unigram can therefore give different ids: a checkpoint only fits the tokenizer files in
its own run directory. The kind ``sentencepiece`` exists only in imported runs and is not trained here. It loses unknown
characters and normalizes the text.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers
from jaxtyping import Int
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from transformer_jax.data.detokenization import join_wordpieces, join_words, readable_character, readable_pieces
from transformer_jax.data.normalization import Normalization
from transformer_jax.data.sentencepieces import SentencePieceTokenizer
from transformer_jax.data.word_boundaries import earlier_word_splitter, space_normalizer, word_joiner, word_splitter
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

TokenizerKind = Literal["word", "bpe", "wordpiece", "unigram", "sentencepiece"]

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[SOS]", "[EOS]")
"""The special tokens of every vocabulary trained here. The index is the id."""
UNK_TOKEN = SPECIAL_TOKENS[1]
MIN_FREQUENCY = 2
"""Minimum count of a word or merge. Words seen once become [UNK], so the model sees a word-level [UNK] in training."""


def build_word() -> tokenizers.Tokenizer:
    """Build an untrained tokenizer of words, numbers, punctuation marks and the spaces next to those."""
    tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token=UNK_TOKEN))
    return split_into_words(tokenizer)


def build_bpe() -> tokenizers.Tokenizer:
    """Build an untrained byte-level BPE tokenizer with GPT-2's split, in which a word includes the space before it.

    The first word of a sentence has no such space, so it needs a token of its own. This costs 0.2% more tokens on
    Multi30k (vocabulary size 8,000), but no space has to be added before encoding and removed after decoding.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def build_wordpiece() -> tokenizers.Tokenizer:
    """Build an untrained WordPiece tokenizer; all subwords of a word except the first start with ``##``."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token=UNK_TOKEN, max_input_chars_per_word=100))
    return split_into_words(tokenizer)


def build_unigram() -> tokenizers.Tokenizer:
    """Build an untrained Unigram tokenizer that writes a space as ``▁``, as SentencePiece does."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    # "[" is split off: the trainer gives special tokens a score, so a typed "[EOS]" would become the real one.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split("[", "isolated")]
    )
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def split_into_words(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Set the rules that divide text into words and join words into text, and return the tokenizer."""
    tokenizer.normalizer = space_normalizer()
    tokenizer.pre_tokenizer = word_splitter()
    tokenizer.decoder = word_joiner()
    return tokenizer


BUILDERS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "word": build_word,
    "bpe": build_bpe,
    "wordpiece": build_wordpiece,
    "unigram": build_unigram,
}
TRAINERS: dict[str, Callable[..., Any]] = {
    "word": lambda **options: trainers.WordLevelTrainer(min_frequency=MIN_FREQUENCY, **options),
    "bpe": lambda **options: trainers.BpeTrainer(
        min_frequency=MIN_FREQUENCY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options
    ),
    "wordpiece": lambda **options: trainers.WordPieceTrainer(min_frequency=MIN_FREQUENCY, **options),
    "unigram": lambda **options: trainers.UnigramTrainer(unk_token=UNK_TOKEN, **options),
}
EARLIER_SPLITTERS: dict[str, tuple[Callable[[], Any], ...]] = {
    "word": (earlier_word_splitter,),
    "wordpiece": (earlier_word_splitter,),
}
"""Pre-tokenizers that existing run directories contain without a normalizer and a decoder, in addition to BUILDERS."""
KIND_OF_MODEL = {"WordLevel": "word", "BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram"}
"""Name of the model in the saved file -> tokenizer kind."""


class Tokenizer:
    """A tokenizer with one vocabulary. It adds no special tokens, and a special token typed in a text is ordinary text.

    vocabulary: the library's tokenizer, without the normalization. It determines ids and decoding.
    normalization: normalizes every text before it is encoded; None to encode texts as they are.
    special_ids: ids of padding, unknown, start and end. Some of them are equal in imported vocabularies.
    """

    def __init__(
        self, vocabulary: tokenizers.Tokenizer | SentencePieceTokenizer, normalization: Normalization | None = None
    ) -> None:
        self.vocabulary: Any = vocabulary
        self.normalization = normalization
        tokenizer = _with_normalization(vocabulary, normalization) if normalization else vocabulary
        self._tokenizer: Any = tokenizer
        if isinstance(tokenizer, SentencePieceTokenizer):
            self.kind: TokenizerKind = "sentencepiece"
            self.special_ids = tokenizer.special_ids
        else:
            # The saved file does not contain this setting, so every new object sets it.
            tokenizer.encode_special_tokens = True
            self.kind = KIND_OF_MODEL[type(tokenizer.model).__name__]  # type: ignore[assignment]
            self.special_ids = (0, 1, 2, 3)
        self.pad_id, self.unk_id, self.sos_id, self.eos_id = self.special_ids

    @classmethod
    def train(cls, kind: TokenizerKind, texts: Iterable[str], size: int) -> Tokenizer:
        """Return a tokenizer that has learned a vocabulary of at most ``size`` entries, including special tokens.

        Raises InputError with the minimum size if the single characters (bytes for bpe) do not fit.
        """
        tokenizer = BUILDERS[kind]()
        characters: set[str] = set()
        trainer = TRAINERS[kind](vocab_size=size, special_tokens=list(SPECIAL_TOKENS), show_progress=False)
        try:
            tokenizer.train_from_iterator(collect_characters(texts, characters), trainer)
            min_size = tokenizer.get_vocab_size()
        except Exception as error:  # The library raises no narrower type.
            if "not large enough" not in str(error):  # Raised for Unigram; the other kinds exceed the size.
                raise
            min_size = size + 1
        if min_size > size:
            if kind == "unigram":
                # Its pruning needs room for one longer token in addition to the characters.
                min_size = len(SPECIAL_TOKENS) + len((characters - {" "}) | {"▁"}) + 1
            unit = "byte" if kind == "bpe" else "character of the text"
            raise InputError(
                f"tokenizer.size {size} is too small for {kind}: the vocabulary must contain every {unit} and the "
                f"special tokens. Set --tokenizer.size to at least {min_size}."
            )
        return cls(tokenizer)

    def with_normalization(self, normalization: Normalization) -> Tokenizer:
        """Return a tokenizer with the same vocabulary that normalizes each text before it is encoded."""
        return Tokenizer(self.vocabulary, normalization)

    def __len__(self) -> int:
        """Return the vocabulary size, including special tokens."""
        return self._tokenizer.get_vocab_size()

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies, such as those in worker processes, must also go through __init__, which completes the settings.
        return Tokenizer, (self.vocabulary, self.normalization)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens.

        Text outside the vocabulary becomes [UNK], which never happens with bpe.
        Raises InputError for a text with an unpaired surrogate, which is not a valid character.
        """
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except (TypeError, RuntimeError):  # From tokenizers and from sentencepiece.
            refuse_surrogates(texts)
            raise
        return [encoding.ids for encoding in encodings]

    def normalize(self, text: str) -> str:
        """Return the text that is encoded in place of ``text``."""
        return self._tokenizer.normalizer.normalize_str(text) if self.normalization else text

    def encode_with_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids of a text, as ``encode`` does, and the half-open character span of each id.

        Ids that share a character, such as the bytes of one, have the same span.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[Sequence[int]] | Int[np.ndarray, "B T"]) -> list[str]:
        """Return the text of each row of ids, without special tokens. Decoding continues after [EOS]."""
        # Skipped by id, not by name: "[EOS]" typed by a user is decoded as text.
        rows = [[int(token_id) for token_id in row if token_id not in self.special_ids] for row in ids]
        if self.kind in ("word", "wordpiece") and self._tokenizer.decoder is None:  # See EARLIER_SPLITTERS.
            return [join_words(join_wordpieces(self.pieces(row))) for row in rows]
        return self._tokenizer.decode_batch(rows, skip_special_tokens=False)

    def tokens(self, ids: Sequence[int] | Int[np.ndarray, "T"]) -> list[str]:
        """Return the ids as readable text, one string per id or per group of ``token_groups``.

        Spaces are shown as ``▁`` and invisible characters as escapes such as ``\\n``. A byte that is not part of a
        complete character is shown as ``�``. Special tokens and the kinds unigram and sentencepiece are unchanged.
        """
        return [label for label in self._labels(ids) if label is not None]

    def token_groups(self, ids: Sequence[int] | Int[np.ndarray, "T"]) -> list[int]:
        """Return the index in ``tokens(ids)`` of each id. The bytes of one character have the same index."""
        return [count - 1 for count in itertools.accumulate(label is not None for label in self._labels(ids))]

    def _labels(self, ids: Sequence[int] | Int[np.ndarray, "T"]) -> list[str | None]:
        """Return one readable string per id, None for an id that only completes characters of earlier ids."""
        pieces = self.pieces(ids)
        if self.kind in ("word", "wordpiece"):
            return ["".join(map(readable_character, piece)) for piece in pieces]
        if self.kind != "bpe":
            return list(pieces)
        labels: list[str | None] = []
        by_type = itertools.groupby(zip(ids, pieces, strict=True), lambda item: item[0] in self.special_ids)
        for is_special, items in by_type:
            run = [piece for _, piece in items]
            labels += run if is_special else readable_pieces(run)
        return labels

    def pieces(self, ids: Sequence[int] | Int[np.ndarray, "T"]) -> list[str]:
        """Return the vocabulary entry of each id. Raises IndexError for an id outside the vocabulary."""
        size = len(self)
        if any(token_id >= size for token_id in ids):
            raise IndexError(f"ids must be below the vocabulary size {size}: {list(ids)}")
        return [str(self._tokenizer.id_to_token(int(token_id))) for token_id in ids]

    def to_json(self) -> str:
        """Return everything that determines the ids of a text (vocabulary, rules and normalization) as JSON."""
        return self._tokenizer.to_str(pretty=True)

    def save(self, path: Path) -> None:
        """Write the vocabulary and its rules, without the normalization, to a JSON file."""
        atomic.write_text(path, self.vocabulary.to_str(pretty=True))

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a file written by ``save``, without executing anything in it.

        Raises InputError if the file is missing or damaged, or if its rules are not among ``accepted_rules``.
        """
        try:
            text = path.read_text(encoding="utf-8")
            if text.startswith(SentencePieceTokenizer.JSON_PREFIX):
                return cls(SentencePieceTokenizer.from_str(text))
            untrusted = tokenizers.Tokenizer.from_str(text)
        except OSError as error:
            raise InputError(f"{path} is not readable ({error.strerror}). Restore the file or train again.") from error
        except InputError:
            raise
        except Exception as error:  # The library raises no narrower type.
            problem = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"{path} is not a tokenizer ({problem}). Restore the file or train again.") from error
        ids = tuple(untrusted.token_to_id(token) for token in SPECIAL_TOKENS)
        if ids != tuple(range(len(SPECIAL_TOKENS))):
            raise InputError(
                f"{path}: {' '.join(SPECIAL_TOKENS)} have ids {ids}, not 0 to 3. Restore the file or train again."
            )
        tokenizer = cls(untrusted)
        # Untrusted rules could pad each text to millions of tokens, or split it with a regex that never finishes.
        if tokenizer_rules(untrusted) not in accepted_rules(tokenizer.kind):
            raise InputError(
                f"the rules in {path} differ from those of the {tokenizer.kind} tokenizer in this version of "
                "transformer_jax. Restore the file or train again."
            )
        return tokenizer


def _with_normalization(vocabulary: Any, normalization: Normalization) -> tokenizers.Tokenizer:
    """Return a copy of a tokenizer that normalizes texts first. The spans of its ids refer to the original text."""
    tokenizer = tokenizers.Tokenizer.from_str(vocabulary.to_str())
    first, second = normalization.library_normalizer(), tokenizer.normalizer
    tokenizer.normalizer = normalizers.Sequence([first, second]) if second else first
    return tokenizer


def accepted_rules(kind: TokenizerKind) -> list[dict[str, Any]]:
    """Return the settings that a saved tokenizer of this kind may have: the present ones and the earlier ones."""
    present = tokenizer_rules(BUILDERS[kind]())
    earlier = []
    for splitter in EARLIER_SPLITTERS.get(kind, ()):
        tokenizer = BUILDERS[kind]()
        tokenizer.pre_tokenizer = splitter()
        earlier.append({**tokenizer_rules(tokenizer), "normalizer": None, "decoder": None})
    return [present, *earlier]


def refuse_surrogates(texts: Sequence[str]) -> None:
    """Raise InputError with the number of the first text that contains an unpaired surrogate."""
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError:
            problem = f"text {number} contains an unpaired surrogate, which is not a valid character."
            raise InputError(f"{problem} Remove it from the text.") from None


def tokenizer_rules(tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    """Return the settings of a tokenizer without the learned fields of its model and without added tokens."""
    settings = json.loads(tokenizer.to_str())
    learned = ("vocab", "merges", "unk_id")
    model = {name: value for name, value in settings["model"].items() if name not in learned}
    return {**settings, "model": model, "added_tokens": None}


def collect_characters(texts: Iterable[str], characters: set[str]) -> Iterator[str]:
    """Yield the texts unchanged, and add all their characters to ``characters``."""
    for text in texts:
        characters.update(text)
        yield text
