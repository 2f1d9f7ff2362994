"""Fixtures for the tests of the model."""

import jax
import numpy as np
import pytest


@pytest.fixture(scope="session")
def random_parameters():
    """Return a function that draws parameters of a model with numpy, without compilation.

    No bias is zero and no gain is one, since these values could hide mistakes.
    """

    def draw(model, *arguments, seed=0, **keywords):
        generator = np.random.default_rng(seed)

        def fill(path, leaf):
            mean = 1.0 if path[-1].key == "gamma" else 0.0
            return np.asarray(mean + 0.3 * generator.standard_normal(leaf.shape), np.float32)

        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *arguments, **keywords))
        return jax.tree.map(jax.numpy.asarray, jax.tree_util.tree_map_with_path(fill, shapes))

    return draw
