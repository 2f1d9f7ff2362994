"""The validation of a run: the loss of all pairs, and scored translations of the first pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from transformer_jax.config import Config
from transformer_jax.data.batches import encode_pairs
from transformer_jax.data.pipeline import Shard, evaluation_batches, plan_evaluation
from transformer_jax.decoding.search import default_slots, loop_devices
from transformer_jax.decoding.translator import Translator
from transformer_jax.evaluation import score
from transformer_jax.sharding import batch_multiple, batch_shard, put_batch
from transformer_jax.training.compiled import CompiledFunctions, abstract_batch
from transformer_jax.training.corpus import Corpus
from transformer_jax.training.journal import per_token_means
from transformer_jax.training.loss import LossSums
from transformer_jax.training.state import TrainState


class ScoredValidation(NamedTuple):
    """The result of a validation.

    values: loss, perplexity and accuracy of all validation pairs; sacreBLEU and chrF of the translations.
    translations: greedy translations of the first ``training.valid_sentences`` pairs.
    """

    values: dict[str, float]
    translations: list[str]


def score_validation_set(
    config: Config, corpus: Corpus, functions: CompiledFunctions, state: TrainState, should_abort: Callable[[], bool]
) -> ScoredValidation | None:
    """Score the validation set.

    should_abort: checked between batches; if it returns True, return None.
    """
    encoded, _ = encode_pairs(corpus.valid, corpus.tokenizers, max_length=None)
    shard = Shard(*batch_shard(functions.mesh))
    batches = evaluation_batches(encoded, config.data.batch_tokens, batch_multiple(functions.mesh), shard)
    sums = []
    for batch in batches:
        if should_abort():
            return None
        sums.append(functions.loss_sums(state.eval_params, put_batch(batch, functions.mesh)))
    total = {name: float(sum(terms)) for name, terms in zip(LossSums._fields, zip(*sums, strict=True), strict=True)}
    pairs = corpus.valid[: config.training.valid_sentences]
    # Every process translates all pairs with its own copy of the parameters, so all get the same score.
    params = jax.device_get(functions.replicate(state.eval_params))
    translator = Translator(config, corpus.tokenizers, params, corpus.statistics)
    translations: list[str] = []
    for sources in _source_blocks(config, corpus):
        if should_abort():
            return None
        translations += [best.text for best in translator.translate(sources, beam=1)]
    references = [pair.target for pair in pairs]
    scores = score(translations, references, config.data.target, config.evaluation.tokenize)
    values = {**per_token_means(total), "bleu": scores["BLEU"].value, "chrf": scores["chrF"].value}
    return ScoredValidation(values, translations)


def _source_blocks(config: Config, corpus: Corpus) -> list[list[str]]:
    """Return the sources to translate, in blocks. A signal waits for the current block."""
    sources = [pair.source for pair in corpus.valid[: config.training.valid_sentences]]
    size = default_slots(beam_size=1) * max(2, len(loop_devices()))
    return [sources[start : start + size] for start in range(0, len(sources), size)]


def compile_translation(config: Config, corpus: Corpus, functions: CompiledFunctions) -> None:
    """Compile the programs of the translations without running them."""
    translator = Translator(config, corpus.tokenizers, None, corpus.statistics)
    translator.params = functions.state.eval_params
    for sources in _source_blocks(config, corpus):
        translator.compile_search(sources, beam=1)


def compile_validation_loss(config: Config, corpus: Corpus, functions: CompiledFunctions) -> None:
    """Compile the programs of the validation loss without running them."""
    encoded, _ = encode_pairs(corpus.valid, corpus.tokenizers, max_length=None)
    params = functions.state.eval_params
    plans = plan_evaluation(encoded, config.data.batch_tokens, batch_multiple(functions.mesh))
    for shape in {plan.shape for plan in plans}:
        functions.loss_sums.lower(params, abstract_batch(shape, functions.mesh)).compile()
    functions.replicate.lower(params).compile()
