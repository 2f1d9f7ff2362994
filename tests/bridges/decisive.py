"""Translators with random parameters whose translations vary, end, and have a clear most probable token."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from tiny_run import PAIRS, SOURCES, TINY_CONFIG, random_params

from transformer_jax.config import Config, DataConfig, ModelConfig, TokenizerConfig
from transformer_jax.data.run_tokenizers import train_tokenizers
from transformer_jax.decoding.translator import Translator
from transformer_jax.model.transformer import Transformer


class Variant(NamedTuple):
    """A variant of the model.

    seed, end_bias: chosen so that at least four of TEXTS end before their length limit, and [EOS] is never among the
    best 2 W continuations without being among the best W. There CTranslate2's beam search would ignore it.
    """

    norm: str
    share_embeddings: str
    vocabulary: str
    seed: int
    end_bias: float

    @property
    def name(self):
        return "-".join(self[:3])


VARIANTS = [
    Variant("post", "all", "joint", 5, 9.0),
    Variant("pre", "all", "joint", 9, 15.0),
    Variant("pre", "target", "joint", 8, 12.0),
    Variant("post", "target", "separate", 8, 9.0),
    Variant("post", "none", "joint", 9, 12.0),
    Variant("pre", "none", "separate", 6, 12.0),
]

TEXTS = [*SOURCES[:4], "Is it the old station?", "Dog!", "7 old dogs, 31 old"]


def make_decisive(norm, share_embeddings, vocabulary, seed, end_bias, biased_token="eos_id"):
    """Return a translator whose logits have a range of about 20, with ``end_bias`` added to one special token."""
    config = Config(
        # Different sizes: 1 and 2 layers, 2 heads of width 7.
        model=ModelConfig(14, 19, 2, 1, 2, 0.1, norm, share_embeddings),
        data=DataConfig(max_length=23),
        tokenizer=TokenizerConfig("bpe", vocabulary, 311),
        decoding=TINY_CONFIG.decoding,
    )
    tokenizers = train_tokenizers(config.tokenizer, PAIRS)
    model = Transformer(config.model, len(tokenizers.source), len(tokenizers.target))
    params = jax.tree_util.tree_map_with_path(_spread, random_params(model, seed))
    table = params["projection" if share_embeddings == "none" else "target_embeddings"]["table"]
    row = table[getattr(tokenizers.target, biased_token)]
    module = params["decoder"] if norm == "pre" else params["decoder"]["blocks_1"]["feed_forward_residual"]
    gamma = module["normalization"]["gamma"] / table.std()
    module["normalization"] = {"gamma": gamma, "beta": end_bias * row / (row @ row)}
    return Translator(config, tokenizers, params)


def _spread(path, leaf):
    """Scale a parameter so that tokens stay distinguishable. Plain random layers repeat one token."""
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if name.endswith("narrow/kernel"):
        # The features after ReLU are positive, so their mean is removed.
        return 4 * (leaf - leaf.mean(axis=0, keepdims=True))
    if name.endswith("w_query/kernel"):
        return 3 * leaf
    if name.endswith("w_value/kernel"):
        return 0.3 * leaf
    return leaf if not name.endswith(("beta", "bias")) else jnp.zeros_like(leaf)
