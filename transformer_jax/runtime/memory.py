"""Checks of device memory before anything is allocated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from transformer_jax.config import MeshConfig
from transformer_jax.errors import InputError
from transformer_jax.sharding import make_mesh, with_shardings

GIB = 2**30


def bytes_per_device(shapes: Any) -> int:
    """Return the number of bytes that a tree of shapes with shardings takes on one device."""
    leaves = jax.tree.leaves(shapes)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def device_memory() -> int | None:
    """Return the memory of a device of this process in bytes, or None if it is unknown.

    On a CPU it is the available memory of the machine, divided by the number of CPU devices.
    """
    device = jax.local_devices()[0]
    if limit := (device.memory_stats() or {}).get("bytes_limit"):
        return int(limit)
    meminfo = Path("/proc/meminfo")
    if device.platform != "cpu" or not meminfo.exists():
        return None
    [kibibytes] = [line.split()[1] for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:")]
    return int(kibibytes) * 1024 // jax.local_device_count()


def fits_memory(needed: int) -> bool:
    """Return whether ``needed`` bytes fit in the memory of a device; True if its memory is unknown."""
    available = device_memory()
    return available is None or needed <= available


def require_memory(needed: int, subject: str, remedy: str, available: int | None = None) -> None:
    """Raise InputError if ``needed`` bytes do not fit in the memory of a device.

    subject: name of the data, for the message.
    remedy: last sentence of the message.
    available: memory of a device in bytes. Default: ``device_memory``.
    """
    available = device_memory() if available is None else available
    if available is not None and needed > available:
        raise InputError(
            f"not enough memory for {subject}: {needed / GIB:.2f} GiB needed per device, "
            f"{available / GIB:.2f} GiB available. {remedy}"
        )


def require_state_memory(mesh: Mesh, state: Any, available: int | None = None) -> None:
    """Raise InputError if a training state does not fit the devices. The message suggests a suitable mesh.

    state: tree of shapes with shardings.
    available: memory of a device in bytes. Default: ``device_memory``.
    """
    available = device_memory() if available is None else available
    needed, tensor, devices = bytes_per_device(state), mesh.shape["tensor"], list(mesh.devices.flat)
    if available is None or needed <= available:
        return
    fsdp_sizes = [size for size in range(1, mesh.size + 1) if mesh.size % (size * tensor) == 0]
    meshes = {size: make_mesh(MeshConfig(-1, size, tensor), devices) for size in fsdp_sizes}
    fitting = [size for size, mesh in meshes.items() if bytes_per_device(with_shardings(mesh, state)) <= available]
    remedy = f"Use --mesh.data -1 --mesh.fsdp {fitting[0]}" if fitting else f"Use more devices (currently {mesh.size})"
    require_memory(needed, "parameters, optimizer state and average", f"{remedy}, or a smaller model.", available)
