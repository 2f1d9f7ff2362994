"""What is a head for? Each is masked alone, and what that does to the loss and to the translations is measured.

Source: Michel, Levy and Neubig 2019, 'Are Sixteen Heads Really Better than One?'; Voita et al. 2019, 'Analyzing
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

from transformer_jax.attention.head_importance import Ablation, Changes
from transformer_jax.attention.weights import AttentionKind
from transformer_jax.config import ModelConfig
from transformer_jax.data.batches import encode_pairs
from transformer_jax.data.pipeline import evaluation_batches
from transformer_jax.data.sources import Pair
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import RunError
from transformer_jax.evaluation import score
from transformer_jax.training.step import evaluate

SUBLAYERS: dict[AttentionKind, tuple[str, str]] = {
    "encoder": ("encoder", "self_attention"),
    "decoder": ("decoder", "self_attention"),
    "cross": ("decoder", "cross_attention"),
}
"""Where the parameters of each kind of attention are: ``params[stack]["blocks_0"][sublayer]``."""
Heads = Mapping[AttentionKind, Float[Array | np.ndarray, "_ H"]]
"""For each kind [layers, heads]: 1 keeps a head, 0 masks it."""
LOSS_TOKENS = 2048
"""Target tokens in a batch of the loss, padding included: the last batch, which may be nearly empty, costs little."""


class Scores(NamedTuple):
    """Of one model: loss in nats a target token, without label smoothing, and sacreBLEU with its signature."""

    loss: float
    bleu: float
    signature: str


def measure(translator: Translator, pairs: Sequence[Pair], beam: int) -> Ablation:
    """Score the whole model, then the model without each of its heads in turn, on all pairs whatever their length.

    All these models have the same shapes, so each program is compiled once.
    Raises RunError if a loss is no finite number.
    """
    scores_of = scorer(translator, pairs, beam)
    heads = all_heads(translator.config.model)
    loss, bleu = ({kind: np.zeros(kept.shape) for kind, kept in heads.items()} for _ in range(2))
    with tqdm(total=1 + sum(kept.size for kept in heads.values()), unit="model", disable=None) as bar:
        whole = scores_of(heads)
        bar.update()
        with nothing_said_twice():
            for kind, kept in heads.items():
                for place in np.ndindex(kept.shape):
                    masked = kept.copy()
                    masked[place] = 0
                    scores = scores_of({**heads, kind: masked})
                    loss[kind][place] = scores.loss - whole.loss
                    bleu[kind][place] = scores.bleu - whole.bleu
                    bar.update()
    changes = {kind: Changes(loss[kind], bleu[kind]) for kind in heads}
    return Ablation(len(pairs), beam, whole.loss, whole.bleu, whole.signature, changes, translator.step)


def all_heads(model: ModelConfig) -> Heads:
    """Every head kept."""
    layers = {"encoder": model.encoder_layers, "decoder": model.decoder_layers, "cross": model.decoder_layers}
    return {kind: np.ones((layers[kind], model.heads), np.float32) for kind in get_args(AttentionKind)}


def scorer(translator: Translator, pairs: Sequence[Pair], beam: int) -> Callable[[Heads], Scores]:
    """Score the model with some of its heads masked: the loss over whole pairs, the translations as translate.py makes
    them, a source of more than data.max_length tokens in parts.
    """
    encoded, _ = encode_pairs(pairs, translator.tokenizers, max_length=None)
    batches = [jax.device_put(batch) for batch in evaluation_batches(encoded, LOSS_TOKENS, batch_multiple=1)]
    sources, references = zip(*pairs, strict=True)

    def scores_of(heads: Heads) -> Scores:
        params = mask_heads(translator.params, heads)
        sums = jax.device_get([_evaluate(translator.model, params, batch, 0.0) for batch in batches])
        loss = sum(float(one.cross_entropy) for one in sums) / sum(float(one.tokens) for one in sums)
        if not math.isfinite(loss):
            raise RunError(f"the loss is {loss}: the training of the model has diverged. Train again.")
        masked = Translator(translator.config, translator.tokenizers, params)
        translations = [found.text for found in masked.translate(sources, beam)]
        bleu = score(translations, references, translator.config.data.target)["BLEU"]
        return Scores(loss, bleu.value, bleu.signature)

    return scores_of


_evaluate = jax.jit(evaluate, static_argnums=(0, 3))


@jax.jit
def mask_heads(params: Any, heads: Heads) -> Any:
    """Parameters with which the masked heads put out nothing.

    W^O adds up the heads, each through rows of its own (section 3.2.2 of Vaswani et al. 2017): with its rows at zero
    a head is masked in training's pass and in decoding alike, and the model need not know.
    """
    masked = jax.tree.map(lambda leaf: leaf, params)
    for kind, (stack, sublayer) in SUBLAYERS.items():
        for layer, kept in enumerate(heads[kind]):
            output = masked[stack][f"blocks_{layer}"][sublayer]["w_output"]
            rows_of_a_head = output["kernel"].shape[0] // len(kept)
            output["kernel"] *= jnp.repeat(kept, rows_of_a_head)[:, None]
    return masked


@contextmanager
def nothing_said_twice() -> Iterator[None]:
    """What there is to say about a line was said when the whole model translated it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
