"""Parameters for the tests of the model."""

import jax
import numpy as np
import pytest


@pytest.fixture(scope="session")
def random_parameters():
    """Parameters drawn by numpy: no compilation, and no zero bias or unit scale that would hide a mistake."""

    def draw(model, *arguments, seed=0, **keywords):
        generator = np.random.default_rng(seed)

        def fill(path, leaf):
            around = 1.0 if path[-1].key == "gamma" else 0.0
            return np.asarray(around + 0.3 * generator.standard_normal(leaf.shape), np.float32)

        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *arguments, **keywords))
        return jax.tree.map(jax.numpy.asarray, jax.tree_util.tree_map_with_path(fill, shapes))

    return draw
