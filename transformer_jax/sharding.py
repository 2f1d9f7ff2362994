"""The device mesh, and one table that says how each parameter is divided over it.

The model is plain mathematics; jit and these shardings make it run on one device or on a pod.
"""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from transformer_jax.config import MeshConfig
from transformer_jax.errors import InputError

AXES = ("data", "fsdp", "tensor")

BATCH_AXES = ("data", "fsdp")
"""The mesh axes that divide the rows of a batch."""

SHARDING_RULES: tuple[tuple[str, P], ...] = (
    (r"(embeddings|projection)/table$", P(("tensor", "fsdp"), None)),
    (r"w_(query|key|value)/kernel$", P("fsdp", "tensor")),
    (r"w_output/kernel$", P("tensor", "fsdp")),
    (r"widen/kernel$", P("fsdp", "tensor")),
    (r"(w_(query|key|value)|widen)/bias$", P("tensor")),
    (r"narrow/kernel$", P("tensor", "fsdp")),
)
"""Parameter path -> the mesh axes that divide each of its axes. What no rule names is replicated: norms and output
biases.
"""


def make_mesh(config: MeshConfig) -> Mesh:
    """Arrange all devices as (data, fsdp, tensor). Raises InputError if the sizes do not multiply to their number."""
    devices = len(jax.devices())
    sizes = [config.data, config.fsdp, config.tensor]
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and devices % known == 0:
        sizes[sizes.index(-1)] = devices // known
    if math.prod(sizes) != devices or min(sizes) < 1:
        raise InputError(
            f"mesh data={config.data} fsdp={config.fsdp} tensor={config.tensor} does not fit {devices} devices. "
            f"Choose sizes whose product is {devices}, with -1 for at most one of them."
        )
    # Auto axes: the compiler places what the rules leave open. Explicit ones make flax's lookups fail.
    return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 3)


def batch_multiple(mesh: Mesh) -> int:
    """The number of parts into which the rows of a batch are divided."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows divided over the data and fsdp axes."""
    return NamedSharding(mesh, P(BATCH_AXES))


def state_shardings(mesh: Mesh, shapes: Any) -> Any:
    """A sharding for each leaf of a tree of shapes: optimizer moments and averages lie where their parameters lie."""

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, _partition_spec(mesh, path, leaf.shape))

    return jax.tree_util.tree_map_with_path(sharding, shapes)


def with_shardings(mesh: Mesh, shapes: Any) -> Any:
    """A tree of shapes with their shardings."""
    shardings = state_shardings(mesh, shapes)
    return jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), shapes, shardings)


def gather_over_fsdp(mesh: Mesh, params: Any) -> Any:
    """Parameters as the layers use them: whole over fsdp, still divided over tensor.

    Left to itself the compiler may also gather the table of embeddings over tensor, or divide activations as the
    parameters are.
    """

    def gather(path: tuple[Any, ...], leaf: Any) -> Any:
        kept = ("tensor" if "tensor" in (axes or ()) else None for axes in _partition_spec(mesh, path, leaf.shape))
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, P(*kept)))

    return jax.tree_util.tree_map_with_path(gather, params)


def _partition_spec(mesh: Mesh, path: tuple[Any, ...], shape: tuple[int, ...]) -> P:
    """The rule for a leaf, without the mesh axes that do not divide it: a prime number of words is replicated."""
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    spec = next((spec for pattern, spec in SHARDING_RULES if re.search(pattern, name)), P())

    def keep(size: int, axes: Any) -> Any:
        names = (axes,) if isinstance(axes, str) else axes or ()
        while size % math.prod(mesh.shape[name] for name in names):
            names = names[:-1]
        return names or None

    return P(*(keep(size, axes) for size, axes in zip(shape, spec, strict=False)))


def batch_shard(mesh: Mesh) -> tuple[int, int]:
    """Which part of every batch's rows this process holds, and of how many parts. Processes that divide a layer among
    them, over the axis tensor, hold the same rows.
    """
    divided = batch_sharding(mesh).devices_indices_map((batch_multiple(mesh),))
    held: dict[int, set[int]] = {}
    for device, (rows,) in divided.items():
        held.setdefault(device.process_index, set()).add(rows.start or 0)  # type: ignore[attr-defined]
    parts = sorted({tuple(sorted(rows)) for rows in held.values()})
    return parts.index(tuple(sorted(held[jax.process_index()]))), len(parts)


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Hand this process's rows of a batch to its devices; together they are the global batch."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)), batch)
