"""Translators with random parameters whose translations vary, whose best word leads clearly, and which end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from tiny_run import SOURCES, TARGETS, TINY_CONFIG, random_params

from transformer_jax.config import Config, DataConfig, ModelConfig, TokenizerConfig
from transformer_jax.data.tokenizers import train_tokenizers
from transformer_jax.decoding.translator import Translator
from transformer_jax.model.transformer import Transformer


class Kind(NamedTuple):
    """A form of the network; seed and favour: with these, four of TEXTS at least end before their limit, and in none
    does [EOS] come between the best W and the best 2 * W continuations, where CTranslate2's beam passes over it.
    """

    norm: str
    share_embeddings: str
    vocabulary: str
    seed: int
    favour: float

    @property
    def name(self):
        return "-".join(self[:3])


KINDS = [
    Kind("post", "all", "joint", 5, 9.0),
    Kind("pre", "all", "joint", 9, 15.0),
    Kind("pre", "target", "joint", 8, 12.0),
    Kind("post", "target", "separate", 8, 9.0),
    Kind("post", "none", "joint", 9, 12.0),
    Kind("pre", "none", "separate", 6, 12.0),
]

TEXTS = [*SOURCES[:4], "Is it the old station?", "Dog!", "7 old dogs, 31 old"]


def decisive(norm, share_embeddings, vocabulary, seed, favour, favourite="eos_id"):
    """A translator whose logits spread over about 20, with ``favour`` added to one special token's."""
    config = Config(
        # Sizes that all differ: 1 and 2 layers, 2 heads of 7.
        model=ModelConfig(14, 19, 2, 1, 2, 0.1, norm, share_embeddings),
        data=DataConfig(max_length=23),
        tokenizer=TokenizerConfig("bpe", vocabulary, 311),
        decoding=TINY_CONFIG.decoding,
    )
    tokenizers = train_tokenizers(config.tokenizer, SOURCES, TARGETS)
    model = Transformer(config.model, len(tokenizers.source), len(tokenizers.target))
    params = jax.tree_util.tree_map_with_path(_lively, random_params(model, seed))
    table = params["projection" if share_embeddings == "none" else "target_embeddings"]["table"]
    row = table[getattr(tokenizers.target, favourite)]
    last = params["decoder"] if norm == "pre" else params["decoder"]["blocks_1"]["feed_forward_residual"]
    last["normalization"] = {"gamma": last["normalization"]["gamma"] / table.std(), "beta": favour * row / (row @ row)}
    return Translator(config, tokenizers, params)


def _lively(path, leaf):
    """Random layers add the same to every token, which would then be repeated: here each is told from the others."""
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if name.endswith("narrow/kernel"):
        return 4 * (
            leaf - leaf.mean(axis=0, keepdims=True)
        )  # Rectified features are positive: their mean is taken out.
    if name.endswith("w_query/kernel"):
        return 3 * leaf
    if name.endswith("w_value/kernel"):
        return 0.3 * leaf
    return leaf if not name.endswith(("beta", "bias")) else jnp.zeros_like(leaf)
