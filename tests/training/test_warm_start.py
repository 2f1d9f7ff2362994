"""``training.init`` starts training from the parameters of another run."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_run import TINY_CONFIG, tiny_run  # noqa: F401

from transformer_jax.data.run_tokenizers import load_tokenizers
from transformer_jax.errors import InputError
from transformer_jax.sharding import make_mesh
from transformer_jax.storage.checkpoints import load_params
from transformer_jax.training import warm_start
from transformer_jax.training.compiled import jit_functions
from transformer_jax.training.warm_start import checksum, init_from_run


def zero_state(workdir, **changes):
    """A state of zeros before the first update, with a moving average of the parameters."""
    config = dataclasses.replace(TINY_CONFIG, model=dataclasses.replace(TINY_CONFIG.model, **changes))
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, ema=0.9))
    vocab_size = len(load_tokenizers(workdir, TINY_CONFIG.tokenizer).source)
    shapes = jit_functions(config, make_mesh(config.mesh), vocab_size, vocab_size).state
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(
            leaf.shape, leaf.sharding, lambda index: np.zeros(leaf.shape, leaf.dtype)[index]
        ),
        shapes._replace(key=None),
    )


def test_parameters_and_average_are_those_of_the_run(tiny_run):  # noqa: F811
    zeros = zero_state(tiny_run)
    state, loaded = init_from_run(tiny_run, zeros), load_params(tiny_run / "checkpoints")
    for tree, before in ((state.params, zeros.params), (state.average, zeros.average)):
        jax.tree.map(np.testing.assert_array_equal, tree, loaded)
        assert all(jax.tree.leaves(jax.tree.map(lambda new, old: new.sharding == old.sharding, tree, before)))
    assert state.step == 0
    assert state.optimizer is zeros.optimizer


def test_parameters_of_other_shapes_are_refused(tiny_run):  # noqa: F811
    with pytest.raises(InputError, match=r"the parameters do not match config\.json"):
        init_from_run(tiny_run, zero_state(tiny_run, d_ff=23))


def test_several_processes_compare_the_parameters(tiny_run, monkeypatch):  # noqa: F811
    compared = []
    monkeypatch.setattr(warm_start, "require_agreement", lambda stage, facts: compared.append(facts))
    state, loaded = zero_state(tiny_run), load_params(tiny_run / "checkpoints")
    init_from_run(tiny_run, state)
    assert compared == [], "a single process computes no checksum"
    monkeypatch.setattr(warm_start, "load_params", lambda *_, **__: loaded)  # The real one would wait for others.
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    init_from_run(tiny_run, state)
    assert compared == [{"--training.init with the checksum": checksum(loaded)}]
    assert checksum(loaded) != checksum(jax.tree.map(lambda leaf: leaf + 1, loaded))
