"""The attention weights of one translated sentence, and the .npz file that keeps them.

Axes: L layers, H heads, S source tokens, T target tokens, N alternatives. Of the weights the last axis but one is the
query, the last the key: each row sums to 1. Row t of `decoder` and `cross` is the query at the position that reads
`target_inputs[t]`; its output predicts `target_tokens[t]`. With two target tokens:

    t   target_inputs[t]   target_tokens[t]
    0   [SOS]              Guten
    1   Guten              Tag
    2   Tag                [EOS]
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic

if TYPE_CHECKING:
    from transformer_jax.attention.explorer import Html

AttentionKind = Literal["encoder", "decoder", "cross"]

ATTENTION_NAMES: dict[AttentionKind, str] = {
    "encoder": "Encoder self-attention",
    "decoder": "Decoder self-attention",
    "cross": "Cross-attention",
}
"""Titles of the three kinds of attention."""

FORMAT = 2
"""Version of the file; a change that older code cannot read raises it."""


@dataclass(frozen=True, eq=False)
class Attention:
    """The weights with which one sentence was translated, and the tokens that name their rows and columns.

    encoder, decoder: self-attention; cross: from the target to the source. Encoder and decoder may differ in layers.
    source_tokens: the queries and the keys of `encoder`, the keys of `cross`.
    target_tokens: what each decoder position predicts, so normally it ends with the end-of-sentence token.
    target_inputs: what each decoder position reads, the keys of `decoder`: start of sentence, then the target shifted.
    source, translation: the raw text.
    source_words, target_words: the word of ``source.split()`` and ``translation.split()``, from 0, that each token
    belongs to, -1 for none; empty if not known.
    probabilities: what the model gave each of `target_tokens`; alternatives, alternative_probabilities: its N likeliest
    tokens there, the likeliest first; None if not known.
    Raises ValueError if the arrays and the tokens do not fit together, if there are none, or if a weight or a
    probability is not from 0 to 1.
    """

    encoder: Float[np.ndarray, "L H S S"]
    decoder: Float[np.ndarray, "M H T T"]
    cross: Float[np.ndarray, "M H T S"]
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    target_inputs: tuple[str, ...]
    source: str
    translation: str
    source_words: tuple[int, ...] = ()
    target_words: tuple[int, ...] = ()
    probabilities: Float[np.ndarray, "T"] | None = None
    alternatives: tuple[tuple[str, ...], ...] | None = None
    alternative_probabilities: Float[np.ndarray, "T N"] | None = None

    def __post_init__(self) -> None:
        source, target = len(self.source_tokens), len(self.target_tokens)
        if len(self.target_inputs) != target:
            raise ValueError(f"target_inputs has {len(self.target_inputs)} tokens but target_tokens has {target}")
        expected = {"encoder": (source, source), "decoder": (target, target), "cross": (target, source)}
        for name, tokens in expected.items():
            shape = getattr(self, name).shape
            if len(shape) != 4 or shape[2:] != tokens or 0 in shape:
                raise ValueError(
                    f"{name} has shape {shape} but its tokens need [layers, heads, {tokens[0]}, {tokens[1]}]"
                )
        if self.decoder.shape[:2] != self.cross.shape[:2]:
            raise ValueError(f"decoder has shape {self.decoder.shape} but cross has {self.cross.shape}")
        for name, words, count in (
            ("source_words", self.source_words, source),
            ("target_words", self.target_words, target),
        ):
            if len(words) not in (0, count):
                raise ValueError(f"{name} has {len(words)} entries for {count} tokens")
        if (self.alternatives is None) != (self.alternative_probabilities is None):
            raise ValueError("of alternatives and alternative_probabilities one is not known")
        likeliest = self.alternative_probabilities
        several = (target, *([] if likeliest is None else likeliest.shape[-1:]))
        beside = {"probabilities": (target,), "alternatives": several, "alternative_probabilities": several}
        for name, expected_shape in beside.items():
            values = getattr(self, name)
            if values is not None and np.shape(values) != expected_shape:
                raise ValueError(f"{name} has shape {np.shape(values)} for {target} tokens")
        for name in ("encoder", "decoder", "cross", "probabilities", "alternative_probabilities"):
            values = getattr(self, name)
            # Sums of float32 may be a little more than 1; of a NaN no comparison is true.
            if values is not None and not 0 <= values.min() <= values.max() <= 1.0001:
                raise ValueError(f"{name} has numbers that are not from 0 to 1")

    def to_html(self) -> Html:
        """The explorer's page (`docs/attention.md`); Jupyter and Colab show it as the last value of a cell."""
        from transformer_jax.attention.explorer import to_html

        return to_html([(1, self)])

    def _repr_html_(self) -> str:
        return self.to_html()._repr_html_()

    def save(self, path: Path) -> None:
        """Write all to a compressed .npz file, in float32; a reader never finds half a file.

        Raises RunError if the file cannot be written.
        """
        arrays: dict[str, Any] = {"format": np.asarray(FORMAT)}
        arrays |= {name: np.asarray(getattr(self, name), np.float32) for name in ("encoder", "decoder", "cross")}
        texts = ("source_tokens", "target_tokens", "target_inputs", "source", "translation")
        arrays |= {name: np.asarray(getattr(self, name), np.str_) for name in texts}
        arrays |= {name: np.asarray(getattr(self, name), np.int32) for name in ("source_words", "target_words")}
        if self.probabilities is not None:
            arrays["probabilities"] = np.asarray(self.probabilities, np.float32)
        if self.alternatives is not None:
            arrays["alternatives"] = np.asarray(self.alternatives, np.str_)
            arrays["alternative_probabilities"] = np.asarray(self.alternative_probabilities, np.float32)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.new_file(path, atomic.own_name(path), "bytes") as file:
                np.savez_compressed(file, **arrays)
        except OSError as error:
            raise RunError(
                f"{path}: the attention cannot be written: {error.strerror}. Name another folder."
            ) from error

    @classmethod
    def load(cls, path: Path) -> Attention:
        """Read a file that `save` has written.

        Raises InputError if there is no such file, or if it is damaged or another program's.
        """
        remedy = "Write it again with translate.py --attention."
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if int(stored["format"]) != FORMAT:
                    raise InputError(
                        f"{path}: format {int(stored['format'])} is not {FORMAT}, which is read here. {remedy}"
                    )
                alternatives = stored.get("alternatives")
                return cls(
                    encoder=stored["encoder"],
                    decoder=stored["decoder"],
                    cross=stored["cross"],
                    source_tokens=tuple(stored["source_tokens"].tolist()),
                    target_tokens=tuple(stored["target_tokens"].tolist()),
                    target_inputs=tuple(stored["target_inputs"].tolist()),
                    source=str(stored["source"]),
                    translation=str(stored["translation"]),
                    source_words=tuple(stored["source_words"].tolist()),
                    target_words=tuple(stored["target_words"].tolist()),
                    probabilities=stored.get("probabilities"),
                    alternatives=None if alternatives is None else tuple(map(tuple, alternatives.tolist())),
                    alternative_probabilities=stored.get("alternative_probabilities"),
                )
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file. {remedy}") from error
        # What numpy raises on bytes that it did not write itself, on a .npy file, on a missing array, on wrong shapes.
        except (
            OSError,
            EOFError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            RuntimeError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise InputError(f"{path}: not an attention file, or a damaged one. {remedy}") from error
