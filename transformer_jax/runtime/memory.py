"""Whether a state fits the devices, known from its shapes before anything is allocated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from transformer_jax.config import MeshConfig
from transformer_jax.errors import InputError
from transformer_jax.sharding import make_mesh, placed

GIB = 2**30


def bytes_on_a_device(shapes: Any) -> int:
    """What one device holds of a tree of shapes with shardings."""
    leaves = jax.tree.leaves(shapes)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def device_memory() -> int | None:
    """Bytes that a device of this process can hold, None where nobody says; CPU devices share what is free."""
    device = jax.local_devices()[0]
    if limit := (device.memory_stats() or {}).get("bytes_limit"):
        return int(limit)
    listing = Path("/proc/meminfo")
    if device.platform != "cpu" or not listing.exists():
        return None
    [kibibytes] = [line.split()[1] for line in listing.read_text().splitlines() if line.startswith("MemAvailable:")]
    return int(kibibytes) * 1024 // jax.local_device_count()


def require_memory(mesh: Mesh, state: Any) -> None:
    """Raise InputError if a state, given as shapes with shardings, does not fit the devices; say what would."""
    needed, there, tensor = bytes_on_a_device(state), device_memory(), mesh.shape["tensor"]
    if there is None or needed <= there:
        return
    sizes = [size for size in range(1, mesh.size + 1) if mesh.size % (size * tensor) == 0]
    fits = [
        size for size in sizes if bytes_on_a_device(placed(make_mesh(MeshConfig(-1, size, tensor)), state)) <= there
    ]
    remedy = f"--mesh.data -1 --mesh.fsdp {fits[0]} would do" if fits else f"Use more than {mesh.size} devices"
    raise InputError(
        f"parameters, optimizer state and average take {needed / GIB:.2f} GiB of each device, which has "
        f"{there / GIB:.2f} GiB. {remedy}, or a smaller model."
    )
