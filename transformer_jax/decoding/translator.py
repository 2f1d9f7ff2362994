"""Raw text in, raw text out: a trained run as one object."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.attention.capture import capture_attention
from transformer_jax.attention.weights import Attention
from transformer_jax.config import Config, load_config
from transformer_jax.data.tokenizers import Tokenizers, load_tokenizers
from transformer_jax.decoding.long_text import split_text
from transformer_jax.decoding.search import Hypothesis, Sampling, search
from transformer_jax.decoding.search_inputs import SpecialIds
from transformer_jax.errors import InputError, RunError
from transformer_jax.model.transformer import Transformer
from transformer_jax.runtime.memory import require_memory
from transformer_jax.storage import checkpoints
from transformer_jax.storage.untrusted import require_contained


@dataclass(frozen=True)
class Translation:
    """One translation.

    text: raw text; score: the sum of the tokens' log-probabilities, divided by the length penalty if a beam found it;
    tokens: the pieces produced, [EOS] last; parts: what a text was split into that is longer than the model was trained
    on, else the translation itself stands alone and this is empty; source_ids, target_ids: what the model read and
    wrote; source: the text that it read, empty if it read none.
    """

    text: str
    score: float
    tokens: tuple[str, ...]
    source_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    parts: tuple[Translation, ...] = ()
    source: str = ""

    @property
    def has_attention(self) -> bool:
        """Whether there is an attention map: not of a text without letters, nor of one translated in parts."""
        return bool(self.source_ids) and not self.parts


class Translator:
    """A model with its tokenizers. It compiles a program for each shape of batch that it meets for the first time."""

    def __init__(self, config: Config, tokenizers: Tokenizers, params: Any) -> None:
        self.config = config
        self.tokenizers = tokenizers
        self.params = jax.device_put(params)  # Once, not for each batch.
        self.step: int | None = None  # The update of the training that gave them, if they were loaded.
        self.model = Transformer(config.model, len(tokenizers.source), len(tokenizers.target))

    @classmethod
    def load(cls, workdir: str | Path) -> Translator:
        """Read a run folder. Raises InputError if it is missing, unfinished, damaged or of another version."""
        folder = Path(workdir)
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{folder} is not the folder of a run: it has no config.json. Name one that train.py made."
            )
        require_contained(folder)
        # In this order: of a folder of another version nothing else need be readable.
        config, tokenizers = load_config(folder / "config.json"), load_tokenizers(folder)
        translator = cls(config, tokenizers, None)
        saved, require = folder / "checkpoints", partial(translator._require_fitting, folder)
        translator.step = checkpoints.best_step(saved)
        translator.params = jax.device_put(checkpoints.load_params(saved, translator.step, require))
        return translator

    def translate(
        self,
        texts: Sequence[str],
        beam: int | None = None,
        length_penalty: float | None = None,
        sampling: Sampling | None = None,
    ) -> list[Translation]:
        """The best translation of each text, in order. Beam and length penalty default to the run's settings."""
        return [best for best, *_ in self.translate_n_best(texts, 1, beam, length_penalty, sampling)]

    def translate_n_best(
        self,
        texts: Sequence[str],
        n: int,
        beam: int | None = None,
        length_penalty: float | None = None,
        sampling: Sampling | None = None,
        first: int = 1,
    ) -> list[list[Translation]]:
        """Up to ``n`` translations of each text, best first, or ``n`` drawn at random with ``sampling``.

        A text without letters and digits, such as a blank or an emoji, has one translation: itself. A text of more
        tokens than the run was trained on (data.max_length) is split at the ends of sentences, else between words;
        its parts are translated one by one and joined with spaces. first: the number of the first text; a text's
        number names it in warnings, and with the seed decides what is drawn for it.
        Raises InputError for a beam or ``n`` below 1, fewer beams than translations wanted, or a length penalty that
        is not from 0 to 10; RunError if the model's probabilities are no numbers.
        """
        beam = self.config.decoding.beam if beam is None else beam
        alpha = self.config.decoding.length_penalty if length_penalty is None else length_penalty
        if min(n, beam) < 1:
            raise InputError(f"a beam of {beam} for {n} translations makes no sense. Give numbers of at least 1.")
        if sampling is None and n > beam:
            raise InputError(f"a beam of {beam} cannot find {n} translations. Raise the beam or ask for fewer.")
        if not 0 <= alpha <= 10:
            raise InputError(f"a length penalty of {alpha} cannot be used. Give a number from 0 to 10.")
        lengths = [len(ids) for ids in self.tokenizers.source.encode(texts)]
        groups = [self._parts(*one) for one in zip(texts, lengths, itertools.count(first), strict=False)]
        parts = [part for group in groups for part in group]
        repeats = 1 if sampling is None else n
        encoded = [
            (*ids, self.tokenizers.source.eos_id)
            for ids in self.tokenizers.source.encode(parts)
            for _ in range(repeats)
        ]
        draws = [
            (number, part, repeat)
            for number, group in enumerate(groups, start=first)
            for part in range(len(group))
            for repeat in range(repeats)
        ]
        special_ids = SpecialIds(*self.tokenizers.target.special_ids)
        results = search(self.model, self.params, encoded, special_ids, beam, alpha, sampling, draws, n)
        if not all(results):
            raise RunError(
                "the model's probabilities are no numbers: its training has diverged. "
                "Train again with a lower optimizer.factor or a longer optimizer.warmup."
            )
        found = iter(results)
        translated = (
            [
                self._translation(part, source, one)
                for hypotheses in (next(found) for _ in range(repeats))
                for one in hypotheses
            ]
            for part, source in zip(parts, encoded[::repeats], strict=True)
        )
        return [
            _joined(text, [next(translated)[:n] for _ in group])
            if group
            else [Translation(text.strip(), 0.0, (), (), ())]
            for text, group in zip(texts, groups, strict=True)
        ]

    def attention(self, source: str, translation: str | Translation) -> Attention:
        """Every head's weights for one translation: one that ``translate`` returned, whose own source is taken, or any
        text.

        Raises InputError for an empty text, and for a translation that was made in parts.
        """
        if isinstance(translation, str):
            if not (source.strip() and translation.strip()):
                raise InputError("a text or its translation is empty: there is no attention map. Give both.")
            sources, targets = self.tokenizers
            [source_ids], [target_ids] = sources.encode([source]), targets.encode([translation])
            source_ids, target_ids = [*source_ids, sources.eos_id], [*target_ids, targets.eos_id]
            return capture_attention(
                self.model, self.params, self.tokenizers, source, translation, source_ids, target_ids
            )
        if not translation.has_attention:
            raise InputError(
                "a text without letters or translated in parts has no attention map. Give it sentence by sentence."
            )
        ids = translation.source_ids, translation.target_ids
        # The text that those ids are of: of one with blanks around it, or of another ``source``, they are not.
        return capture_attention(self.model, self.params, self.tokenizers, translation.source, translation.text, *ids)

    def _parts(self, text: str, length: int, number: int) -> list[str]:
        most = self.config.data.max_length - 1
        if not any(map(str.isalnum, text)):
            if text.strip():
                logging.warning(f"text {number} has no letters and no digits: it is passed on as it is.")
            return []
        if length <= most:
            return [text]
        parts = split_text(text, lambda part: len(self.tokenizers.source.encode([part])[0]), most)
        if len(parts) > 1:  # Blanks at its ends may have made it long.
            logging.warning(f"text {number} has more than {most} tokens: it is translated in {len(parts)} parts.")
        return parts

    def _translation(self, source: str, source_ids: tuple[int, ...], found: Hypothesis) -> Translation:
        target = self.tokenizers.target
        [text] = target.decode([found.ids])
        return Translation(text, found.score, tuple(target.tokens(found.ids)), source_ids, found.ids, source=source)

    def _require_fitting(self, folder: Path, saved_params: Any) -> None:
        """Refuse parameters that are not of the shapes that config and tokenizers describe, or that do not fit the
        memory.
        """

        def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
            leaves = jax.tree_util.tree_leaves_with_path(tree)
            return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}

        saved = shapes(saved_params)
        layers = self.config.model.encoder_layers + self.config.model.decoder_layers
        if layers > len(saved):  # Millions of layers would take hours to describe.
            raise InputError(
                f"{folder}: the config has {layers} layers, the checkpoint only {len(saved)} arrays. "
                "Copy the whole run folder again."
            )
        tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
        try:
            needed = shapes(jax.eval_shape(self.model.init, jax.random.key(0), *[tokens] * 4)["params"])
        except OverflowError as error:
            raise InputError(f"{folder}: no model has sizes such as those in config.json ({error}).") from error
        for name in sorted(needed.keys() | saved.keys()):
            if needed.get(name) != saved.get(name):
                raise InputError(
                    f"{folder}: parameter {name} has shape {saved.get(name)}, but config and tokenizers need "
                    f"{needed.get(name)}. Copy the whole run folder again."
                )
        size = 4 * sum(math.prod(shape) for shape in needed.values())
        require_memory(size, f"the parameters of {folder}", "Use a machine with more memory or a smaller model.")


def _joined(source: str, groups: list[list[Translation]]) -> list[Translation]:
    """The translations of a text, best first, from those of its parts: the best of each, the second best, and so on."""
    if len(groups) == 1:
        return groups[0]
    return [
        Translation(
            text=" ".join(part.text for part in parts),
            score=sum(part.score for part in parts),
            tokens=tuple(token for part in parts for token in part.tokens),
            source_ids=tuple(token for part in parts for token in part.source_ids),
            target_ids=tuple(token for part in parts for token in part.target_ids),
            parts=parts,
            source=source,
        )
        for parts in zip(*groups, strict=False)
    ]
