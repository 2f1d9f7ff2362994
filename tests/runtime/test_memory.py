"""A training state that exceeds the memory is refused before it is allocated."""

import jax
import jax.numpy as jnp
import pytest

from transformer_jax.config import MeshConfig
from transformer_jax.errors import InputError
from transformer_jax.runtime import memory
from transformer_jax.runtime.memory import (
    bytes_per_device,
    device_memory,
    fits_memory,
    require_memory,
    require_state_memory,
)
from transformer_jax.sharding import make_mesh, with_shardings

MATRIX, VECTOR = 24 * 40, 24  # floats


def state(mesh):
    """Shapes of a matrix, which fsdp and tensor divide, and of a vector, which they do not."""
    shapes = {
        "w_query": {"kernel": jax.ShapeDtypeStruct((24, 40), jnp.float32)},
        "gamma": jax.ShapeDtypeStruct((24,), jnp.float32),
    }
    return with_shardings(mesh, shapes)


@pytest.mark.parametrize(("mesh", "shards"), [((8, 1, 1), 1), ((1, 8, 1), 8), ((2, 2, 2), 4)])
def test_bytes_per_device_are_those_of_real_arrays(mesh, shards):
    shapes = state(make_mesh(MeshConfig(*mesh)))
    assert bytes_per_device(shapes) == 4 * (MATRIX / shards + VECTOR)
    arrays = jax.tree.map(lambda leaf: jax.device_put(jnp.zeros(leaf.shape, leaf.dtype), leaf.sharding), shapes)
    sizes = [leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(arrays)]
    assert sum(sizes) == bytes_per_device(shapes)


def test_cpu_devices_share_the_memory_of_the_machine():
    available = device_memory()
    assert available is None or 2**20 < available < 2**50


@pytest.mark.parametrize(
    ("mesh", "available", "remedy"),
    [
        ((8, 1, 1), 4 * (MATRIX // 4 + VECTOR), "Use --mesh.data -1 --mesh.fsdp 4, or a smaller model"),
        ((4, 1, 2), 4 * (MATRIX // 8 + VECTOR), "Use --mesh.data -1 --mesh.fsdp 4, or a smaller model"),
        ((1, 8, 1), 100, r"Use more devices \(currently 8\)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_with_a_remedy(mesh, available, remedy, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: available)
    mesh = make_mesh(MeshConfig(*mesh))
    with pytest.raises(InputError, match=remedy):
        require_state_memory(mesh, state(mesh))


@pytest.mark.parametrize("available", [None, 4 * (MATRIX + VECTOR)])
def test_a_state_that_may_fit_is_accepted(available, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: available)
    mesh = make_mesh(MeshConfig())
    require_state_memory(mesh, state(mesh))


def test_require_memory_names_sizes_and_remedy(monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: 2**30)
    require_memory(2**30, "a search", "Lower --beam.")
    message = "not enough memory for a search: 2.00 GiB needed per device, 1.00 GiB available. Lower --beam."
    with pytest.raises(InputError) as caught:
        require_memory(2**31, "a search", "Lower --beam.")
    assert str(caught.value) == message


@pytest.mark.parametrize(("available", "fits"), [(None, True), (7, True), (6, False)])
def test_fits_memory_is_true_if_the_memory_is_unknown(available, fits, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: available)
    assert fits_memory(7) is fits
