"""The attention weights of one translated sentence, and their .npz file format.

Axes: L encoder layers, M decoder layers, H heads, S source tokens, T target tokens, N alternatives.

The last two axes of the weights are query and key, so each row sums to 1. Row t of `decoder` and `cross` is the query
at the position that reads `target_inputs[t]` and predicts `target_tokens[t]`. With two target tokens:

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

from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

if TYPE_CHECKING:
    from transformer_jax.attention.explorer import Html

AttentionKind = Literal["encoder", "decoder", "cross"]

ATTENTION_NAMES: dict[AttentionKind, str] = {
    "encoder": "Encoder self-attention",
    "decoder": "Decoder self-attention",
    "cross": "Cross-attention",
}
"""Titles of the three attention types."""

ATTENTION_FORMAT = 2
"""Version of the .npz format; increase it with every change that older code cannot read."""


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention weights of one translation, and the tokens of their rows and columns.

    encoder: encoder self-attention.
    decoder: decoder self-attention.
    cross: attention from the target to the source.
    source_tokens: the queries and keys of `encoder` and the keys of `cross`.
    target_tokens: the token that each decoder position predicts; the last token is normally [EOS].
    target_inputs: the token that each decoder position reads, the keys of `decoder`: [SOS], then `target_tokens`
        without its last token.
    source: the source text.
    translation: the translated text.
    source_words: the index into ``source_texts`` of each source token's word, -1 for none; empty if unknown.
    target_words: the index into ``target_texts`` of each target token's word, -1 for none; empty if unknown.
    source_texts: the words of the source; empty if they are those of ``source.split()``.
    target_texts: the words of the translation; empty if they are those of ``translation.split()``.
    probabilities: the model's probability of each of `target_tokens`, of its first byte if it is a character of
        several byte tokens; None if unknown.
    alternatives: the N most probable tokens at each position, best first; None if unknown.
    alternative_probabilities: the probabilities of `alternatives`; None if unknown.

    Raises ValueError if shapes do not match the tokens, if an array is empty, or if a weight or probability is not
    between 0 and 1.
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
    source_texts: tuple[str, ...] = ()
    target_texts: tuple[str, ...] = ()
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
                    f"{name} has shape {shape} but its tokens require [layers, heads, {tokens[0]}, {tokens[1]}]"
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
            raise ValueError("alternatives and alternative_probabilities must both be given or both be None")
        ranked = self.alternative_probabilities
        ranked_shape = (target, *([] if ranked is None else ranked.shape[-1:]))
        expected_shapes = {
            "probabilities": (target,),
            "alternatives": ranked_shape,
            "alternative_probabilities": ranked_shape,
        }
        for name, expected_shape in expected_shapes.items():
            values = getattr(self, name)
            if values is not None and np.shape(values) != expected_shape:
                raise ValueError(f"{name} has shape {np.shape(values)} for {target} tokens")
        for name in ("encoder", "decoder", "cross", "probabilities", "alternative_probabilities"):
            values = getattr(self, name)
            # Float32 sums may slightly exceed 1. The comparison is also false for NaN.
            if values is not None and not 0 <= values.min() <= values.max() <= 1.0001:
                raise ValueError(f"{name} has values outside the range 0 to 1")

    def to_html(self) -> Html:
        """Return the explorer page (`docs/attention.md`), which Jupyter and Colab display as a cell's last value."""
        from transformer_jax.attention.explorer import render_page

        return render_page([(1, self)])

    def _repr_html_(self) -> str:
        return self.to_html()._repr_html_()

    def save(self, path: Path) -> None:
        """Write a compressed .npz file atomically, with numbers as float32.

        Raises RunError if the file cannot be written.
        """
        arrays: dict[str, Any] = {"format": np.asarray(ATTENTION_FORMAT)}
        arrays |= {name: np.asarray(getattr(self, name), np.float32) for name in ("encoder", "decoder", "cross")}
        texts = ["source_tokens", "target_tokens", "target_inputs", "source", "translation"]
        texts += ["source_texts", "target_texts"]
        arrays |= {name: np.asarray(getattr(self, name), np.str_) for name in texts}
        arrays |= {name: np.asarray(getattr(self, name), np.int32) for name in ("source_words", "target_words")}
        if self.probabilities is not None:
            arrays["probabilities"] = np.asarray(self.probabilities, np.float32)
        if self.alternatives is not None:
            arrays["alternatives"] = np.asarray(self.alternatives, np.str_)
            arrays["alternative_probabilities"] = np.asarray(self.alternative_probabilities, np.float32)
        with atomic.writing(path, "Choose another --attention."):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.new_file(path, atomic.partial_path(path), "bytes") as file:
                np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Attention:
        """Read a file written by `save`.

        Raises InputError if the file does not exist, is damaged or was not written by `save`.
        """
        remedy = 'To write a new file, run: python -m transformer_jax translate "TEXT" --attention DIR'
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if int(stored["format"]) != ATTENTION_FORMAT:
                    raise InputError(
                        f"{path} has format {int(stored['format'])}, but this version reads format "
                        f"{ATTENTION_FORMAT}. {remedy}"
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
                    # Files of earlier versions do not contain them.
                    source_texts=tuple(stored["source_texts"].tolist()) if "source_texts" in stored else (),
                    target_texts=tuple(stored["target_texts"].tolist()) if "target_texts" in stored else (),
                    probabilities=stored.get("probabilities"),
                    alternatives=None if alternatives is None else tuple(map(tuple, alternatives.tolist())),
                    alternative_probabilities=stored.get("alternative_probabilities"),
                )
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist. {remedy}") from error
        # NumPy raises these for foreign bytes, a .npy file, a missing array or wrong shapes.
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
            raise InputError(f"{path} is damaged or is not an attention file. {remedy}") from error
