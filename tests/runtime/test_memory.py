"""A state that does not fit is refused before it exists, with the mesh that would do."""

import jax
import jax.numpy as jnp
import pytest

from transformer_jax.config import MeshConfig
from transformer_jax.errors import InputError
from transformer_jax.runtime import memory
from transformer_jax.runtime.memory import bytes_per_device, device_memory, require_state_memory
from transformer_jax.sharding import make_mesh, with_shardings

MATRIX, VECTOR = 24 * 40, 24  # floats


def state(mesh):
    """One parameter that fsdp and tensor divide, one that they do not."""
    shapes = {
        "w_query": {"kernel": jax.ShapeDtypeStruct((24, 40), jnp.float32)},
        "gamma": jax.ShapeDtypeStruct((24,), jnp.float32),
    }
    return with_shardings(mesh, shapes)


@pytest.mark.parametrize(("mesh", "parts"), [((8, 1, 1), 1), ((1, 8, 1), 8), ((2, 2, 2), 4)])
def test_the_bytes_counted_are_those_that_arrays_take(mesh, parts):
    shapes = state(make_mesh(MeshConfig(*mesh)))
    assert bytes_per_device(shapes) == 4 * (MATRIX / parts + VECTOR)
    arrays = jax.tree.map(lambda leaf: jax.device_put(jnp.zeros(leaf.shape, leaf.dtype), leaf.sharding), shapes)
    first = [leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(arrays)]
    assert sum(first) == bytes_per_device(shapes)


def test_cpu_devices_share_the_memory_of_the_machine():
    there = device_memory()
    assert there is None or 2**20 < there < 2**50


@pytest.mark.parametrize(
    ("mesh", "there", "remedy"),
    [
        ((8, 1, 1), 4 * (MATRIX // 4 + VECTOR), "Use --mesh.data -1 --mesh.fsdp 4, or a smaller model"),
        ((4, 1, 2), 4 * (MATRIX // 8 + VECTOR), "Use --mesh.data -1 --mesh.fsdp 4, or a smaller model"),
        ((1, 8, 1), 100, "Use more than 8 devices"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(mesh, there, remedy, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: there)
    mesh = make_mesh(MeshConfig(*mesh))
    with pytest.raises(InputError, match=remedy):
        require_state_memory(mesh, state(mesh))


@pytest.mark.parametrize("there", [None, 4 * (MATRIX + VECTOR)])
def test_what_fits_or_cannot_be_known_goes_on(there, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: there)
    mesh = make_mesh(MeshConfig())
    require_state_memory(mesh, state(mesh))
