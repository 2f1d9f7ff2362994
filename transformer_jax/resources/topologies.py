"""TPU slices whose programs are compiled on another machine, by the TPU compiler in the package libtpu."""

from __future__ import annotations

import difflib
import importlib.util
import math
import os
import re
from typing import Any, NamedTuple

from transformer_jax.errors import InputError
from transformer_jax.resources.chips import TPU_CHIPS, Chip

SIZES_2D = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
SIZES_3D = ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
TOPOLOGIES = {"v4": SIZES_3D, "v5e": SIZES_2D, "v5p": SIZES_3D, "v6e": SIZES_2D}
"""Kind of chip -> sizes of common slices, in chips per axis. The compiler knows other sizes too."""

MAX_CHIPS = 8960
"""Chips of the largest slice, which is one of v5p. The compiler accepts larger ones, for which it needs minutes."""

LIBTPU_VARIABLES = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # Otherwise a second process stops at the lock file of the first.
    "TPU_SKIP_MDS_QUERY": "1",  # Do not ask Google Cloud for the properties of this machine.
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",  # Any valid type: without one, the library prints a warning.
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}
"""Environment variables that libtpu needs on a machine without TPU. It reads them when it is loaded."""


def topology_names() -> list[str]:
    """Return the names of all slices in ``TOPOLOGIES``, such as v5e:4x4."""
    return [f"{kind}:{size}" for kind, sizes in TOPOLOGIES.items() for size in sizes]


class Topology(NamedTuple):
    """A TPU slice.

    name: its name, such as v5e:4x4.
    devices: devices for which programs can be compiled, but not run.
    chip_name: name of the kind of chip.
    chip: specification of a device.
    """

    name: str
    devices: list[Any]
    chip_name: str
    chip: Chip


def find_topology(name: str) -> Topology:
    """Return the TPU slice with this name, which is loaded from libtpu.

    Raises InputError if the slice does not exist, or if libtpu is not installed.
    """
    match = re.fullmatch(r"\w+:(\d+(?:x\d+){1,2})", name)
    sizes = tuple(map(int, match[1].split("x"))) if match else (0,)
    if not 0 < math.prod(sizes) <= MAX_CHIPS:
        raise _unknown_topology(name)
    if importlib.util.find_spec("libtpu") is None:
        raise InputError('--topology needs the TPU compiler, which is not installed. Run: pip install "jax[tpu]"')
    # Only here: `train` needs the names for --help, before it has set the variables that JAX reads.
    import jax
    from jax.experimental import topologies

    os.environ.update({variable: os.environ.get(variable, value) for variable, value in LIBTPU_VARIABLES.items()})
    # A host has 2 x 2 chips, or fewer in the smallest slices.
    bounds = (min(sizes[0], 2), min(sizes[1], 2), 1)
    # The two cores of a v4 chip work as one device, as they do on real machines.
    options = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    # The devices of this machine are not used, and starting them may fail.
    jax.config.update("jax_platforms", "cpu")
    try:
        devices: list[Any] = topologies.get_topology_desc(
            platform="tpu", topology_name=name, chips_per_host_bounds=bounds, **options
        ).devices
        return Topology(name, devices, *TPU_CHIPS[devices[0].device_kind])
    except (jax.errors.JaxRuntimeError, KeyError) as error:
        raise _unknown_topology(name) from error


def _unknown_topology(name: str) -> InputError:
    """Return the error for a slice that does not exist. It names the most similar slice."""
    nearest = difflib.get_close_matches(name, topology_names(), 1)
    remedy = f"Did you mean --topology {nearest[0]}?" if nearest else f"Choose one of {', '.join(topology_names())}."
    return InputError(f"the topology {name} does not exist. {remedy}")
