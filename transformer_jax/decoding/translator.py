"""Translation of raw text with a trained run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import jax

from transformer_jax.attention.capture import capture_attention
from transformer_jax.attention.weights import Attention
from transformer_jax.config import Config, load_config
from transformer_jax.data.run_tokenizers import Tokenizers, load_tokenizers
from transformer_jax.data.sentences import SplitSentences, sentence_blank
from transformer_jax.data.text_statistics import TextStatistics, needs_splitting
from transformer_jax.decoding.beam import length_penalty as beam_length_penalty
from transformer_jax.decoding.confidence import Confidence
from transformer_jax.decoding.next_token import SpecialIds
from transformer_jax.decoding.parameters import require_matching_params
from transformer_jax.decoding.parts import Part, list_texts, split_into_parts
from transformer_jax.decoding.search import (
    Hypothesis,
    Sampling,
    SearchOptions,
    compile_search,
    loop_devices,
    max_target_length,
    search,
)
from transformer_jax.decoding.translation import PreparedTexts, Translation, join_parts
from transformer_jax.decoding.warnings import Checks, Evidence
from transformer_jax.downloads.runs import local_run
from transformer_jax.errors import InputError, RunError
from transformer_jax.model.transformer import Transformer
from transformer_jax.storage import checkpoints
from transformer_jax.storage.home import expand_home
from transformer_jax.storage.untrusted import require_contained


class Translator:
    """A model with its tokenizers. It compiles one program per batch shape, on first use.

    config: the config of the run.
    tokenizers: the tokenizers of source and target.
    params: the parameters of the model.
    statistics: statistics of the training text; None if they are unknown.
    checks: the checks that find ``Translation.warnings``.
    step: the training step of the parameters; None unless they were loaded from a run.
    model: the Transformer.
    special_ids: ids of the special tokens of the target.
    """

    def __init__(
        self,
        config: Config,
        tokenizers: Tokenizers,
        params: Any,
        statistics: TextStatistics | None = None,
        confidence: Confidence | None = None,
    ) -> None:
        self.config = config
        self.tokenizers = tokenizers
        self.params = jax.device_put(params, loop_devices()[0])  # Transferred once here instead of once per batch.
        self.statistics = statistics
        self.checks = Checks(tokenizers.source, statistics, confidence)
        self.step: int | None = None
        # Fused attention kernels run on the chips that they are made for. The weights also run without them.
        model_config = replace(config.model, attention="xla")
        self.model = Transformer(model_config, len(tokenizers.source), len(tokenizers.target))
        self.special_ids = SpecialIds(*tokenizers.target.special_ids)

    @classmethod
    def load(cls, workdir: str | Path) -> Translator:
        """Load the best checkpoint of a run.

        workdir: the run directory, or a URL such as hf://OWNER/NAME, whose run is downloaded into a cache.

        Raises InputError if the run is missing, has no checkpoint, is damaged, or has another format version.
        """
        workdir = local_run(expand_home(Path(workdir)))
        if not (workdir / "config.json").is_file():
            raise InputError(
                f"{workdir} is not a run directory: config.json is missing. "
                "Use the directory of a trained or imported run."
            )
        require_contained(workdir)
        # The config first: it contains the format version, on which all other files depend.
        config = load_config(workdir / "config.json")
        tokenizers = load_tokenizers(workdir, config.tokenizer)
        translator = cls(config, tokenizers, None, TextStatistics.load(workdir), Confidence.load(workdir))
        saved, check = workdir / "checkpoints", partial(require_matching_params, workdir, translator.model)
        translator.step = checkpoints.best_step(saved)
        params = checkpoints.load_params(saved, translator.step, check)
        translator.params = jax.device_put(params, loop_devices()[0])
        return translator

    def translate(
        self,
        texts: Iterable[str],
        beam: int | None = None,
        length_penalty: float | None = None,
        sampling: Sampling | None = None,
        split_sentences: SplitSentences = "auto",
        slots: int | None = None,
    ) -> list[Translation]:
        """Return the best translation of each text, in order. The arguments are those of ``translate_n_best``."""
        n_best_lists = self.translate_n_best(
            texts, 1, beam, length_penalty, sampling, split_sentences=split_sentences, slots=slots
        )
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
        slots: int | None = None,
    ) -> list[list[Translation]]:
        """Return up to ``n`` translations of each text, best first; with ``sampling``, ``n`` random translations.

        The sentences of a text are translated one by one, and joined with the white space that was between them. A
        sentence that is longer than the training sentences is cut after clauses, or else between words. Parts without
        letters and digits that the model has seen in training, such as an emoji, are copied unchanged.

        texts: any iterable of strings, or a single string.
        n: number of translations per text.
        beam: beam size; 1 for greedy search. Default: the beam size of the run.
        length_penalty: strength of the length penalty, from 0 to 10. Default: the length penalty of the run.
        sampling: options of random sampling, which replaces the search.
        first: number of the first text, on which random draws depend.
        split_sentences: whether to split texts into sentences: ``always``; ``never``, unless a text is too long; or
            ``auto``, if the run was trained on single sentences.
        slots: number of sentences that each CPU core or accelerator decodes together. Default: 64 hypotheses per core
            or 512 per accelerator, or as many as fit in memory.

        Raises InputError if an item of ``texts`` is not a string, if ``beam``, ``n``, ``length_penalty`` or ``slots``
        is out of range, if ``n`` is larger than the beam, or if the slots do not fit in memory; RunError if the model
        outputs NaN.
        """
        _check_slots(slots)
        prepared = self.prepare(texts, n, beam, length_penalty, sampling, first, split_sentences)
        sources, key_numbers = list(prepared.sources.values()), list(prepared.sources)
        beam, alpha, sampling, n = prepared.options
        results = search(
            self.model, self.params, sources, self.special_ids, beam, alpha, sampling, key_numbers, n, slots
        )
        return self.finish(prepared, results)

    def prepare(
        self,
        texts: Iterable[str],
        n: int,
        beam: int | None = None,
        length_penalty: float | None = None,
        sampling: Sampling | None = None,
        first: int = 1,
        split_sentences: SplitSentences = "auto",
    ) -> PreparedTexts:
        """Split texts into the sentences to search. The arguments and errors are those of ``translate_n_best``."""
        beam = self.config.decoding.beam if beam is None else beam
        alpha = self.config.decoding.length_penalty if length_penalty is None else length_penalty
        _check_options(n, beam, alpha, sampling)
        if split_sentences not in get_args(SplitSentences):
            raise InputError(f"split_sentences is {split_sentences!r}. Set it to auto, always or never.")
        texts = list_texts(texts)
        text_parts = self._split(texts, split_sentences)
        eos = self.tokenizers.source.eos_id
        parts = {
            (number, index): part
            for number, parts in enumerate(text_parts, start=first)
            for index, part in enumerate(parts)
            if part.ids
        }
        if sampling is None:  # A repeated sentence is searched once.
            sources: dict[Any, tuple[int, ...]] = {part.ids: (*part.ids, eos) for part in parts.values()}
            keys: dict[tuple[int, int], list[Any]] = {number: [part.ids] for number, part in parts.items()}
        else:
            keys = {number: [(*number, draw) for draw in range(n)] for number in parts}
            sources = {key: (*parts[number].ids, eos) for number in parts for key in keys[number]}
        return PreparedTexts(texts, text_parts, first, SearchOptions(beam, alpha, sampling, n), sources, keys)

    def finish(self, prepared: PreparedTexts, results: Sequence[list[Hypothesis]]) -> list[list[Translation]]:
        """Return the n-best list of each text.

        results: the hypotheses of each of ``prepared.sources``.
        Raises RunError if the model outputs NaN.
        """
        if not all(results):
            raise RunError(
                "the model outputs NaN: training diverged. "
                "Train again with a lower --optimizer.factor or a larger --optimizer.warmup."
            )
        n_best_lists = self._translations(prepared, dict(zip(prepared.sources, results, strict=True)))
        blank = sentence_blank(self.config.data.target)
        return [
            join_parts(
                text, parts, [n_best_lists.get((number, index)) for index, _ in enumerate(parts)], blank, self.checks
            )
            for number, (text, parts) in enumerate(
                zip(prepared.texts, prepared.text_parts, strict=True), start=prepared.first
            )
        ]

    def compile_search(self, texts: Iterable[str], beam: int) -> None:
        """Compile the programs of the search for the best translations of the texts, without running them.

        ``params`` may be shapes.
        """
        parts = itertools.chain.from_iterable(self._split(list_texts(texts), "auto"))
        sources = [(*ids, self.tokenizers.source.eos_id) for ids in dict.fromkeys(part.ids for part in parts) if ids]
        special_ids, alpha = SpecialIds(*self.tokenizers.target.special_ids), self.config.decoding.length_penalty
        if sources:
            compile_search(self.model, self.params, sources, special_ids, beam, alpha)

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
                reason, remedy = "was copied unchanged", "Pass a text with words of the source language."
            raise InputError(f"the text {reason}, so it has no attention map. {remedy}")
        ids = translation.source_ids, translation.target_ids
        # Not ``source``: the ids belong to this text, from which surrounding spaces may have been removed.
        return capture_attention(self.model, self.params, self.tokenizers, translation.source, translation.text, *ids)

    def _split(self, texts: Sequence[str], split_sentences: SplitSentences) -> list[list[Part]]:
        """Return the parts of each text."""
        learned = self.statistics
        max_tokens = learned.longest_source if learned else self.config.data.max_length - 1
        by_sentences = needs_splitting(split_sentences, learned)
        source, language = self.tokenizers.source, self.config.data.source
        return split_into_parts(texts, source, language, max_tokens, by_sentences, self.checks.learned)

    def _translations(
        self, prepared: PreparedTexts, hypotheses: Mapping[Any, list[Hypothesis]]
    ) -> dict[tuple[int, int], list[Translation]]:
        """Return the n-best list of each part that was searched, or its random translations."""
        beam, alpha, sampling, n = prepared.options
        alpha = alpha if sampling is None and beam > 1 else 0.0
        made: dict[Any, list[Translation]] = {}  # A long line may repeat a sentence millions of times.
        n_best_lists = {}
        for (number, index), keys in prepared.keys.items():
            text = prepared.text_parts[number - prepared.first][index].text
            if (text, *keys) not in made:
                made[text, *keys] = [
                    self._translation(text, prepared.sources[key], hypothesis, alpha, sampling is None)
                    for key in keys
                    for hypothesis in hypotheses[key][:n]
                ]
            n_best_lists[number, index] = made[text, *keys]
        return n_best_lists

    def _translation(
        self, source: str, source_ids: tuple[int, ...], hypothesis: Hypothesis, alpha: float, is_probable: bool
    ) -> Translation:
        """Return a translation with its warnings.

        alpha: strength of the length penalty in the hypothesis's score.
        is_probable: whether the hypothesis is the result of a search, so that a low probability is suspicious.
        """
        ids, score = hypothesis
        [text] = self.tokenizers.target.decode([ids])
        log_probability = float(score * beam_length_penalty(len(ids), alpha) / len(ids))
        evidence = Evidence(
            source, text, source_ids, ids, max_target_length(len(source_ids)), log_probability if is_probable else None
        )
        tokens = tuple(self.tokenizers.target.tokens(ids))
        return Translation(text, score, tokens, source_ids, ids, (), source, log_probability, self.checks(evidence))


def _check_slots(slots: int | None) -> None:
    if slots is not None and slots < 1:
        raise InputError(f"--slots {slots} is invalid. Set --slots to at least 1.")


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
