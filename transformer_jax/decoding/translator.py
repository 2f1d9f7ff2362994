"""Translation of raw text with a trained run."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.attention.capture import capture_attention
from transformer_jax.attention.weights import Attention
from transformer_jax.config import Config, load_config
from transformer_jax.data.sentences import sentence_blank
from transformer_jax.data.text_statistics import TextStatistics
from transformer_jax.data.tokenizers import Tokenizers, load_tokenizers
from transformer_jax.decoding.parts import Part, SplitSentences, list_texts, split_into_parts
from transformer_jax.decoding.search import Hypothesis, Sampling, search
from transformer_jax.decoding.search_inputs import SpecialIds
from transformer_jax.errors import InputError, RunError
from transformer_jax.model.transformer import Transformer
from transformer_jax.runtime.memory import require_memory
from transformer_jax.storage import checkpoints
from transformer_jax.storage.untrusted import require_contained


@dataclass(frozen=True)
class Translation:
    """One translation of one text.

    text: the translation as raw text.
    score: the sum of the tokens' log-probabilities. Beam search divides it by the length penalty.
    tokens: the target tokens, [EOS] last.
    source_ids: ids of the source tokens, [EOS] last; empty if the text was copied unchanged.
    target_ids: ids of the target tokens, [EOS] last; empty if the text was copied unchanged.
    parts: the translations of the sentences, or of pieces of long sentences; empty if the text is a single sentence.
    source: the text that was translated; empty if it was copied unchanged.
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
        """Whether there is an attention map: False if the text was copied unchanged or translated in parts.

        Each of ``parts`` may have an attention map of its own.
        """
        return bool(self.source_ids) and not self.parts

    @property
    def sentences(self) -> tuple[Translation, ...]:
        """The translations that the model produced, in order: of the parts, or of the complete text."""
        return tuple(part for part in self.parts or (self,) if part.source_ids)


class Translator:
    """A model with its tokenizers. It compiles one program per batch shape, on first use.

    config: the config of the run.
    tokenizers: the tokenizers of source and target.
    params: the parameters of the model.
    statistics: statistics of the training text; None if they are unknown.
    step: the training step of the parameters; None unless they were loaded from a run.
    model: the Transformer.
    """

    def __init__(
        self, config: Config, tokenizers: Tokenizers, params: Any, statistics: TextStatistics | None = None
    ) -> None:
        self.config = config
        self.tokenizers = tokenizers
        self.params = jax.device_put(params)  # Transferred once here instead of once per batch.
        self.statistics = statistics
        self.step: int | None = None
        self.model = Transformer(config.model, len(tokenizers.source), len(tokenizers.target))

    @classmethod
    def load(cls, workdir: str | Path) -> Translator:
        """Load the best checkpoint of a run directory.

        Raises InputError if the run is missing, has no checkpoint, is damaged, or has another format version.
        """
        workdir = Path(workdir)
        if not (workdir / "config.json").is_file():
            raise InputError(
                f"{workdir} is not a run directory: config.json is missing. "
                "Use the directory of a trained or imported run."
            )
        require_contained(workdir)
        # The config first: it contains the format version, on which all other files depend.
        config, tokenizers = load_config(workdir / "config.json"), load_tokenizers(workdir)
        translator = cls(config, tokenizers, None, TextStatistics.load(workdir))
        saved, check = workdir / "checkpoints", partial(translator._check_params, workdir)
        translator.step = checkpoints.best_step(saved)
        translator.params = jax.device_put(checkpoints.load_params(saved, translator.step, check))
        return translator

    def translate(
        self,
        texts: Iterable[str],
        beam: int | None = None,
        length_penalty: float | None = None,
        sampling: Sampling | None = None,
        split_sentences: SplitSentences = "auto",
    ) -> list[Translation]:
        """Return the best translation of each text, in order. The arguments are those of ``translate_n_best``."""
        n_best_lists = self.translate_n_best(texts, 1, beam, length_penalty, sampling, split_sentences=split_sentences)
        return [best for best, *_ in n_best_lists]

    def translate_n_best(
        self,
        texts: Iterable[str],
        n: int,
        beam: int | None = None,
        length_penalty: float | None = None,
        sampling: Sampling | None = None,
        first: int = 1,
        split_sentences: SplitSentences = "auto",
    ) -> list[list[Translation]]:
        """Return up to ``n`` translations of each text, best first; with ``sampling``, ``n`` random translations.

        The sentences of a text are translated one by one, and joined with the white space that was between them. A
        sentence that is longer than the training sentences is cut after clauses, or else between words. Parts without
        letters and digits, such as an emoji, are copied unchanged.

        texts: any iterable of strings, or a single string.
        n: number of translations per text.
        beam: beam size; 1 for greedy search. Default: the beam size of the run.
        length_penalty: strength of the length penalty, from 0 to 10. Default: the length penalty of the run.
        sampling: options of random sampling, which replaces the search.
        first: number of the first text. Warnings contain the number of a text, and random draws depend on it.
        split_sentences: whether to split texts into sentences: ``always``; ``never``, unless a text is too long; or
            ``auto``, if the run was trained on single sentences.

        Raises InputError if an item of ``texts`` is not a string, if ``beam``, ``n`` or ``length_penalty`` is out of
        range, or if ``n`` is larger than the beam; RunError if the model outputs NaN.
        """
        beam = self.config.decoding.beam if beam is None else beam
        alpha = self.config.decoding.length_penalty if length_penalty is None else length_penalty
        _check_options(n, beam, alpha, sampling)
        texts = list_texts(texts)
        text_parts = self._split(texts, first, split_sentences)
        numbered = {
            (number, index): part
            for number, parts in enumerate(text_parts, start=first)
            for index, part in enumerate(parts)
            if part.ids
        }
        n_best_lists = self._translate_parts(numbered, n, beam, alpha, sampling)
        blank = sentence_blank(self.config.data.target)
        return [
            _join_parts(text, parts, [n_best_lists.get((number, index)) for index, _ in enumerate(parts)], blank)
            for number, (text, parts) in enumerate(zip(texts, text_parts, strict=True), start=first)
        ]

    def attention(self, source: str, translation: str | Translation) -> Attention:
        """Return the attention weights of every head for one translation.

        source: a text; ignored if ``translation`` is a ``Translation``, which contains its own source.
        translation: a result of ``translate``, or any text.

        Raises InputError if a text is empty, or if a ``Translation`` has no attention map (see ``has_attention``).
        """
        if isinstance(translation, str):
            if not (source.strip() and translation.strip()):
                raise InputError(
                    "the text or its translation is empty, so it has no attention map. Pass a text and its translation."
                )
            sources, targets = self.tokenizers
            [source_ids], [target_ids] = sources.encode([source]), targets.encode([translation])
            source_ids, target_ids = [*source_ids, sources.eos_id], [*target_ids, targets.eos_id]
            return capture_attention(
                self.model, self.params, self.tokenizers, source, translation, source_ids, target_ids
            )
        if not translation.has_attention:
            if translation.parts:
                reason = f"was translated in {len(translation.parts)} parts"
                remedy = "Pass one of its sentences instead: translation.sentences."
            else:
                reason, remedy = "has no letters or digits and was copied unchanged", "Pass a text with words."
            raise InputError(f"the text {reason}, so it has no attention map. {remedy}")
        ids = translation.source_ids, translation.target_ids
        # Not ``source``: the ids belong to this text, from which surrounding spaces may have been removed.
        return capture_attention(self.model, self.params, self.tokenizers, translation.source, translation.text, *ids)

    def _split(self, texts: Sequence[str], first: int, split_sentences: SplitSentences) -> list[list[Part]]:
        """Return the parts of each text, and log a warning for each text that is copied or cut."""
        learned = self.statistics
        max_tokens = learned.longest_source if learned else self.config.data.max_length - 1
        by_sentences = split_sentences == "always" or (
            split_sentences == "auto" and (learned is None or learned.has_single_sentences)
        )
        text_parts = split_into_parts(texts, self.tokenizers.source, self.config.data.source, max_tokens, by_sentences)
        for number, parts in enumerate(text_parts, start=first):
            if parts and not any(part.ids for part in parts):
                logging.warning(f"text {number} has no letters or digits and is copied unchanged.")
            if cut := sum(part.is_cut for part in parts):
                logging.warning(
                    f"text {number} has a sentence of more than {max_tokens} tokens, translated in {cut} parts."
                )
        return text_parts

    def _translate_parts(
        self, parts: dict[tuple[int, int], Part], n: int, beam: int, alpha: float, sampling: Sampling | None
    ) -> dict[tuple[int, int], list[Translation]]:
        """Return the n-best list of each part, or ``n`` random translations with ``sampling``.

        parts: the parts by the number of their text and the index in it, on which random draws depend.
        """
        eos = self.tokenizers.source.eos_id
        if sampling is None:  # A repeated sentence is searched once.
            requests: dict[Any, tuple[int, ...]] = {part.ids: (*part.ids, eos) for part in parts.values()}
            keys: dict[tuple[int, int], list[Any]] = {number: [part.ids] for number, part in parts.items()}
        else:
            keys = {number: [(*number, draw) for draw in range(n)] for number in parts}
            requests = {key: (*parts[number].ids, eos) for number in parts for key in keys[number]}
        special_ids = SpecialIds(*self.tokenizers.target.special_ids)
        results = search(
            self.model, self.params, list(requests.values()), special_ids, beam, alpha, sampling, list(requests), n
        )
        if not all(results):
            raise RunError(
                "the model outputs NaN: training diverged. "
                "Train again with a lower --optimizer.factor or a larger --optimizer.warmup."
            )
        hypotheses = dict(zip(requests, results, strict=True))
        return {
            number: [
                self._translation(part.text, (*part.ids, eos), hypothesis)
                for key in keys[number]
                for hypothesis in hypotheses[key]
            ]
            for number, part in parts.items()
        }

    def _translation(self, source: str, source_ids: tuple[int, ...], hypothesis: Hypothesis) -> Translation:
        ids, score = hypothesis
        [text] = self.tokenizers.target.decode([ids])
        return Translation(text, score, tuple(self.tokenizers.target.tokens(ids)), source_ids, ids, source=source)

    def _check_params(self, workdir: Path, saved_params: Any) -> None:
        """Check the shapes of saved parameters before they are read.

        Raises InputError if the shapes differ from those that config and tokenizers need, or if the parameters do not
        fit in memory.
        """

        def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
            leaves = jax.tree_util.tree_leaves_with_path(tree)
            return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}

        saved = shapes(saved_params)
        layers = self.config.model.encoder_layers + self.config.model.decoder_layers
        if layers > len(saved):  # Tracing a model with millions of layers would take hours.
            raise InputError(
                f"{workdir}: config.json specifies more layers ({layers}) than the checkpoint has arrays "
                f"({len(saved)}). Copy the complete run directory again."
            )
        tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
        try:
            needed = shapes(jax.eval_shape(self.model.init, jax.random.key(0), *[tokens] * 4)["params"])
        except OverflowError as error:
            raise InputError(
                f"{workdir}: the sizes in config.json are invalid ({error}). Copy the complete run directory again."
            ) from error
        for name in sorted(needed.keys() | saved.keys()):
            if needed.get(name) != saved.get(name):
                raise InputError(
                    f"{workdir}: parameter {name} does not match (in the checkpoint: {saved.get(name, 'absent')}, "
                    f"required by config.json and the tokenizers: {needed.get(name, 'absent')}). "
                    "Copy the complete run directory again."
                )
        size = 4 * sum(math.prod(shape) for shape in needed.values())
        require_memory(size, f"the parameters of {workdir}", "Use a machine with more memory or a smaller model.")


def _check_options(n: int, beam: int, alpha: float, sampling: Sampling | None) -> None:
    """Raise InputError if an option is out of range or if the beam size is smaller than the number of translations."""
    if beam < 1:
        raise InputError(f"--beam {beam} is invalid. Set --beam to at least 1.")
    if n < 1:
        raise InputError(f"--n-best {n} is invalid. Set --n-best to at least 1.")
    if sampling is None and n > beam:
        raise InputError(f"--beam {beam} cannot find {n} translations. Raise --beam or lower --n-best.")
    if not 0 <= alpha <= 10:
        raise InputError(f"--length-penalty {alpha} is invalid. Set --length-penalty to a number from 0 to 10.")


def _join_parts(
    text: str, parts: Sequence[Part], n_best_lists: Sequence[list[Translation] | None], blank: str
) -> list[Translation]:
    """Return the joined translations of a text: the best translations of all parts, the second-best, and so on.

    n_best_lists: the translations of each part; None for a part that is copied.
    blank: joins parts between which the text has no white space.
    """
    counts = [len(n_best) for n_best in n_best_lists if n_best is not None]
    if not counts:
        return [Translation(text.strip(), 0.0, (), (), ())]
    if len(parts) == 1 and n_best_lists[0] is not None:
        return n_best_lists[0]
    joined = []
    for rank in range(min(counts)):
        translations = tuple(
            Translation(part.text, 0.0, (), (), ()) if n_best is None else n_best[rank]
            for part, n_best in zip(parts, n_best_lists, strict=True)
        )
        blanks = [*(part.blank or blank for part in parts[:-1]), ""]
        joined.append(
            Translation(
                text="".join(best.text + after for best, after in zip(translations, blanks, strict=True)),
                score=sum(best.score for best in translations),
                tokens=tuple(token for best in translations for token in best.tokens),
                source_ids=tuple(token for best in translations for token in best.source_ids),
                target_ids=tuple(token for best in translations for token in best.target_ids),
                parts=translations,
                source=text,
            )
        )
    return joined
