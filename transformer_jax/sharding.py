"""The device mesh and the sharding of every array over it.

The model contains no sharding code, except for fused attention kernels, which XLA cannot partition. ``jax.jit`` with
these shardings runs it on one device or on a pod.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from transformer_jax.config import MeshConfig
from transformer_jax.errors import InputError

AXES = ("data", "fsdp", "tensor")

BATCH_AXES = ("data", "fsdp")
"""Mesh axes over which the rows of a batch are sharded."""

SHARDING_RULES: tuple[tuple[str, P], ...] = (
    (r"(embeddings|projection)/table$", P(("tensor", "fsdp"), None)),
    (r"w_(query|key|value)/kernel$", P("fsdp", "tensor")),
    (r"w_output/kernel$", P("tensor", "fsdp")),
    (r"widen/kernel$", P("fsdp", "tensor")),
    (r"(w_(query|key|value)|widen)/bias$", P("tensor")),
    (r"narrow/kernel$", P("tensor", "fsdp")),
)
"""Regular expression for a parameter path -> mesh axes over which each array axis is sharded.

Parameters that match no rule (layer normalization and output biases) are replicated.
"""


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Return a mesh (data, fsdp, tensor) of all devices.

    devices: default: the devices of this machine, or of all hosts.
    Raises InputError if the product of the sizes is not the number of devices.
    """
    number = len(jax.devices() if devices is None else devices)
    sizes = [config.data, config.fsdp, config.tensor]
    fixed = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and fixed > 0 and number % fixed == 0:
        sizes[sizes.index(-1)] = number // fixed
    if math.prod(sizes) != number or min(sizes) < 1:
        raise InputError(
            f"the mesh data={config.data} fsdp={config.fsdp} tensor={config.tensor} does not match the number of "
            f"devices, {number}. Set --mesh.data, --mesh.fsdp and --mesh.tensor to sizes whose product is {number}, "
            "or set one of them to -1 to use all remaining devices."
        )
    # Auto axes let the compiler choose the shardings that the rules leave open. With Explicit axes, flax's embedding
    # lookups fail.
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def batch_multiple(mesh: Mesh) -> int:
    """Return the number of shards of a batch. Every batch size is a multiple of this number."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its rows are sharded over the data and fsdp axes."""
    return NamedSharding(mesh, P(BATCH_AXES))


def state_shardings(mesh: Mesh, shapes: Any) -> Any:
    """Return a sharding for each leaf of a training state. Moments and averages are sharded like their parameters."""

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, _partition_spec(mesh, path, leaf.shape))

    return jax.tree_util.tree_map_with_path(sharding, shapes)


def with_shardings(mesh: Mesh, shapes: Any) -> Any:
    """Return the shapes of a training state with their shardings."""

    def add_sharding(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(add_sharding, shapes, state_shardings(mesh, shapes))


def gather_over_fsdp(mesh: Mesh, params: Any) -> Any:
    """Gather parameters over the fsdp axis for use in the layers. They stay sharded over the tensor axis.

    Without this constraint the compiler may also gather the embedding table over the tensor axis, or shard activations
    like the parameters.
    """

    def gather(path: tuple[Any, ...], leaf: Any) -> Any:
        spec = _partition_spec(mesh, path, leaf.shape)
        tensor_only = P(*("tensor" if "tensor" in (axes or ()) else None for axes in spec))
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, tensor_only))

    return jax.tree_util.tree_map_with_path(gather, params)


def _partition_spec(mesh: Mesh, path: tuple[Any, ...], shape: tuple[int, ...]) -> P:
    """Return the rule for a leaf, without mesh axes whose size does not divide the array axis.

    For example, an embedding table with a prime number of rows is replicated.
    """
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    spec = next((spec for pattern, spec in SHARDING_RULES if re.search(pattern, name)), P())

    def dividing_axes(size: int, axes: Any) -> Any:
        names = (axes,) if isinstance(axes, str) else axes or ()
        while size % math.prod(mesh.shape[name] for name in names):
            names = names[:-1]
        return names or None

    return P(*(dividing_axes(size, axes) for size, axes in zip(shape, spec, strict=False)))


def batch_shard(mesh: Mesh) -> tuple[int, int]:
    """Return the index of the batch shard that this process loads, and the number of shards.

    Processes that hold shards of the same layers (tensor axis) load the same batch shard.
    """
    rows_per_device = batch_sharding(mesh).devices_indices_map((batch_multiple(mesh),))
    rows_per_process: dict[int, set[int]] = {}
    for device, (rows,) in rows_per_device.items():
        rows_per_process.setdefault(device.process_index, set()).add(rows.start or 0)  # type: ignore[attr-defined]
    shards = sorted({tuple(sorted(rows)) for rows in rows_per_process.values()})
    return shards.index(tuple(sorted(rows_per_process[jax.process_index()]))), len(shards)


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Transfer this process's rows to its devices, and return the global batch, to which all processes contribute."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)), batch)
