"""Mesh sizes and parameter shardings. The tests run on 8 simulated devices."""

import jax
import pytest
from jax.sharding import PartitionSpec as P

from transformer_jax.config import MeshConfig, ModelConfig, OptimizerConfig
from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer
from transformer_jax.sharding import batch_multiple, make_mesh, state_shardings
from transformer_jax.training.optimizer import make_optimizer
from transformer_jax.training.state import initial_state


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [((-1, 1, 1), (8, 1, 1)), ((2, -1, 2), (2, 2, 2)), ((1, 2, 4), (1, 2, 4))],
)
def test_size_minus_one_uses_the_remaining_devices(sizes, shape):
    mesh = make_mesh(MeshConfig(*sizes))
    assert tuple(mesh.shape.values()) == shape
    assert batch_multiple(mesh) == shape[0] * shape[1]


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 1, 8), (-2, 2, 2), (-1, 0, 1)])
def test_mesh_sizes_must_multiply_to_the_device_count(sizes):
    with pytest.raises(InputError, match="whose product is 8"):
        make_mesh(MeshConfig(*sizes))


def partition_specs(vocab_size):
    model = Transformer(
        ModelConfig(d_model=16, d_ff=32, heads=4, encoder_layers=1, decoder_layers=1), vocab_size, vocab_size
    )
    optimizer = make_optimizer(OptimizerConfig(), 16, 10)
    shapes = jax.eval_shape(lambda: initial_state(model, optimizer, 0, True))
    shardings = state_shardings(make_mesh(MeshConfig(2, 2, 2)), shapes)
    leaves = jax.tree_util.tree_leaves_with_path(shardings)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.spec for path, leaf in leaves}


def test_moments_and_averages_are_sharded_like_parameters():
    specs = partition_specs(vocab_size=24)
    names = [name for name in specs if name.startswith("params/")]
    assert names
    for name in names:
        same_parameter = [spec for path, spec in specs.items() if path.endswith(name.removeprefix("params"))]
        assert len(same_parameter) == 4  # parameter, two moments, average
        assert set(same_parameter) == {specs[name]}
    assert specs["params/target_embeddings/table"] == P(("tensor", "fsdp"), None)
    assert specs["params/encoder/blocks_0/self_attention/w_query/kernel"] == P("fsdp", "tensor")
    assert specs["params/encoder/blocks_0/feed_forward_residual/normalization/gamma"] in (P(), P(None))


def test_arrays_that_do_not_divide_evenly_are_replicated():
    assert partition_specs(vocab_size=23)["params/target_embeddings/table"] == P(None, None)


def test_every_large_parameter_has_a_sharding_rule():
    replicated = [
        name for name, spec in partition_specs(vocab_size=24).items() if name.startswith("params/") and not any(spec)
    ]
    assert all(name.endswith(("gamma", "beta", "narrow/bias")) for name in replicated)
