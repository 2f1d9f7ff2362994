"""Head ablation: masking one attention head at a time to compute the change of the loss and of sacreBLEU.

Sources: Michel, Levy and Neubig 2019, 'Are Sixteen Heads Really Better than One?'; Voita et al. 2019, 'Analyzing
Multi-Head Self-Attention'.

Axes: L layers, H heads.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm import tqdm

from transformer_jax.attention.head_importance import HeadImportance, ScoreChanges
from transformer_jax.attention.weights import AttentionKind
from transformer_jax.commands.translation_writer import report_warnings
from transformer_jax.config import ModelConfig
from transformer_jax.data.batches import encode_pairs
from transformer_jax.data.pipeline import evaluation_batches
from transformer_jax.data.sources import Pair
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import RunError
from transformer_jax.evaluation import check_evaluation, score
from transformer_jax.training.step import loss_sums

ATTENTION_SUBLAYERS: dict[AttentionKind, tuple[str, str]] = {
    "encoder": ("encoder", "self_attention"),
    "decoder": ("decoder", "self_attention"),
    "cross": ("decoder", "cross_attention"),
}
"""Attention type -> stack and sub-layer of its parameters: ``params[stack]["blocks_0"][sublayer]``."""
HeadMask = Mapping[AttentionKind, Float[Array | np.ndarray, "_ H"]]
"""Attention type -> one value per head [layers, heads]: 1 keeps the head, 0 masks it."""
LOSS_BATCH_TOKENS = 2048
"""Target tokens per batch for the loss, padding included. It is small because the last batch may be nearly empty."""


class ModelScores(NamedTuple):
    """The scores of one model.

    loss: mean cross-entropy in nats per target token, without label smoothing.
    bleu: sacreBLEU.
    signature: signature of sacreBLEU.
    """

    loss: float
    bleu: float
    signature: str


def measure_head_importance(translator: Translator, pairs: Sequence[Pair], beam: int) -> HeadImportance:
    """Return the importance of each head: the scores with the head masked minus those of the complete model.

    Sentence pairs of all lengths are scored. The shapes do not change, so each function is compiled once.

    Raises RunError if a loss is not finite.
    """
    score_model = make_scorer(translator, pairs, beam)
    mask = full_mask(translator.config.model)
    loss, bleu = ({kind: np.zeros(heads.shape) for kind, heads in mask.items()} for _ in range(2))
    with tqdm(total=1 + sum(heads.size for heads in mask.values()), unit="model", disable=None) as progress:
        complete = score_model(mask)
        progress.update()
        with suppressed_warnings():
            for kind, heads in mask.items():
                for position in np.ndindex(heads.shape):
                    masked_heads = heads.copy()
                    masked_heads[position] = 0
                    masked = score_model({**mask, kind: masked_heads})
                    loss[kind][position] = masked.loss - complete.loss
                    bleu[kind][position] = masked.bleu - complete.bleu
                    progress.update()
    changes = {kind: ScoreChanges(loss[kind], bleu[kind]) for kind in mask}
    return HeadImportance(len(pairs), beam, complete.loss, complete.bleu, complete.signature, changes, translator.step)


def full_mask(model: ModelConfig) -> HeadMask:
    """Return the mask that keeps every head."""
    layers = {"encoder": model.encoder_layers, "decoder": model.decoder_layers, "cross": model.decoder_layers}
    return {kind: np.ones((layers[kind], model.heads), np.float32) for kind in get_args(AttentionKind)}


def make_scorer(translator: Translator, pairs: Sequence[Pair], beam: int) -> Callable[[HeadMask], ModelScores]:
    """Return a function that scores the model under a head mask.

    The loss is computed on complete pairs. For BLEU, a source of more than data.max_length tokens is split, as in
    translate.py.
    """
    check_evaluation(translator.config)
    encoded, _ = encode_pairs(pairs, translator.tokenizers, max_length=None)
    batches = [jax.device_put(batch) for batch in evaluation_batches(encoded, LOSS_BATCH_TOKENS, batch_multiple=1)]
    sources, references = zip(*pairs, strict=True)

    def score_model(mask: HeadMask) -> ModelScores:
        params = mask_heads(translator.params, mask)
        sums = jax.device_get([_loss_sums(translator.model, params, batch, 0.0) for batch in batches])
        loss = sum(float(batch.cross_entropy) for batch in sums) / sum(float(batch.tokens) for batch in sums)
        if not math.isfinite(loss):
            raise RunError(f"the loss is {loss}: training diverged. Train again with a lower --optimizer.factor.")
        masked_translator = Translator(translator.config, translator.tokenizers, params, translator.statistics)
        translations = masked_translator.translate(sources, beam)
        report_warnings(1, translations)
        texts = [translation.text for translation in translations]
        config = translator.config
        bleu = score(texts, references, config.data.target, config.evaluation.tokenize)["BLEU"]
        return ModelScores(loss, bleu.value, bleu.signature)

    return score_model


_loss_sums = jax.jit(loss_sums, static_argnums=(0, 3))


@jax.jit
def mask_heads(params: Any, mask: HeadMask) -> Any:
    """Return parameters with which the masked heads output zeros.

    W^O sums the heads, and each head has its own rows in it (Vaswani et al. 2017, section 3.2.2). With these rows set
    to zero, the head is masked in teacher forcing and in decoding, without changes to the model.
    """
    masked_params = jax.tree.map(lambda leaf: leaf, params)
    for kind, (stack, sublayer) in ATTENTION_SUBLAYERS.items():
        for layer, heads in enumerate(mask[kind]):
            output = masked_params[stack][f"blocks_{layer}"][sublayer]["w_output"]
            rows_per_head = output["kernel"].shape[0] // len(heads)
            output["kernel"] *= jnp.repeat(heads, rows_per_head)[:, None]
    return masked_params


@contextmanager
def suppressed_warnings() -> Iterator[None]:
    """Suppress warnings, because those about input lines were already logged for the complete model."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
