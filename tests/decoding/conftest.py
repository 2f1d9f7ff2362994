"""Tiny models for the decoding tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import tiny_run  # noqa: F401
from uncached import EOS, Case

from transformer_jax.config import ModelConfig
from transformer_jax.model.transformer import Transformer


def with_params(model, fill):
    """Return the model with parameters made by ``fill(path, shape)``. Nothing is compiled."""
    tokens = jnp.ones((1, 1), jnp.int32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, tokens, tokens, tokens))["params"]

    def leaf(path, leaf):
        return jnp.asarray(fill(jax.tree_util.keystr(path, simple=True, separator="/"), leaf.shape), jnp.float32)

    return Case(model, jax.tree_util.tree_map_with_path(leaf, shapes))


@pytest.fixture(scope="session")
def random_case():
    """Make a model with random parameters. A larger ``spread`` makes the most probable token clearer."""

    def make(vocab_size=11, norm="post", dtype="float32", seed=0, spread=2.0):
        generator = np.random.default_rng(seed)

        def fill(name, shape):
            scale = spread if name.startswith("projection") else 1.0
            return name.endswith("gamma") + 0.3 * scale * generator.standard_normal(shape)

        config = ModelConfig(14, 19, 2, 1, 2, 0.1, norm, "none", dtype)
        return with_params(Transformer(config, vocab_size, vocab_size), fill)

    return make


@pytest.fixture(scope="session")
def dice():
    """Make a model with the same token probabilities at every step of every source."""

    def make(*, eos, a=1e-9, b=1e-9, unk=1e-9):
        logits = np.log([1e-9, unk, 1e-9, eos, a, b])

        def fill(name, shape):
            value = np.zeros(shape)
            if name == "projection/table":
                value[:, 0] = logits
            if name == "decoder/blocks_0/feed_forward_residual/normalization/beta":
                value[0] = 1  # All gammas are 0, so the features are (1, 0) and select the first column.
            return value

        return with_params(Transformer(ModelConfig(2, 2, 1, 1, 1, 0.0, "post", "none"), 6, 6), fill)

    return make


@pytest.fixture(scope="session")
def batch():
    """Five sources of 2 to 7 tokens with [EOS], and the length limits of their translations."""
    generator = np.random.default_rng(1)
    sources = [(*generator.integers(EOS + 1, 11, size).tolist(), EOS) for size in (6, 1, 4, 2, 5)]
    return sources, [13, 7, 1, 11, 5]
