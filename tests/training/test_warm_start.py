"""Training that starts from another run starts with its weights."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_run import TINY_CONFIG, tiny_run  # noqa: F401

from transformer_jax.data.tokenizers import load_tokenizers
from transformer_jax.errors import InputError
from transformer_jax.sharding import make_mesh
from transformer_jax.storage.checkpoints import load_params
from transformer_jax.training.loop import jit_functions
from transformer_jax.training.warm_start import init_from_run


def state_of(folder, **changes):
    """A state of zeros before the first update, with an average of weights."""
    config = dataclasses.replace(TINY_CONFIG, model=dataclasses.replace(TINY_CONFIG.model, **changes))
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, ema=0.9))
    words = len(load_tokenizers(folder).source)
    shapes = jit_functions(config, make_mesh(config.mesh), words, words).state
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(
            leaf.shape, leaf.sharding, lambda part: np.zeros(leaf.shape, leaf.dtype)[part]
        ),
        shapes._replace(key=None),
    )


def test_weights_and_their_average_are_those_of_the_run(tiny_run):  # noqa: F811
    empty = state_of(tiny_run)
    state, weights = init_from_run(tiny_run, empty), load_params(tiny_run / "checkpoints")
    for tree, before in ((state.params, empty.params), (state.average, empty.average)):
        jax.tree.map(np.testing.assert_array_equal, tree, weights)
        assert all(jax.tree.leaves(jax.tree.map(lambda new, old: new.sharding == old.sharding, tree, before)))
    assert state.step == 0
    assert state.optimizer is empty.optimizer


def test_weights_of_other_shapes_are_refused(tiny_run):  # noqa: F811
    with pytest.raises(InputError, match="the weights are not those of its config"):
        init_from_run(tiny_run, state_of(tiny_run, d_ff=23))
