"""Specifications of accelerators, from their data sheets."""

from __future__ import annotations

from typing import NamedTuple


class Chip(NamedTuple):
    """The specification of a chip, or of the part of a chip that is one device.

    flops: dense bfloat16 operations per second.
    memory: bytes of memory.
    memory_bandwidth: bytes per second between memory and chip.
    link_bandwidth: bytes per second sent to other chips, half of the bidirectional number in the data sheet.
    """

    flops: float
    memory: float
    memory_bandwidth: float
    link_bandwidth: float


CHIPS = {
    # NVIDIA's data sheets of the H100 and H200 (SXM): bfloat16 without sparsity, NVLink 900 GB/s bidirectional.
    "H100": Chip(989e12, 80e9, 3.35e12, 450e9),
    "H200": Chip(989e12, 141e9, 4.8e12, 450e9),
    # https://docs.cloud.google.com/tpu/docs/v5e, v5p and v6e: interconnect 400, 1,200 and 800 GB/s bidirectional.
    "TPU v5e": Chip(197e12, 16e9, 819e9, 200e9),
    "TPU v5p": Chip(459e12, 95 * 2**30, 2765e9, 600e9),
    "TPU v6e": Chip(918e12, 32e9, 1638e9, 400e9),
}

TPU_CHIPS = {
    # Jouppi et al. 2020, "A domain-specific supercomputer for training deep neural networks", table 3. A device of v2
    # and v3 is one of the two cores of a chip.
    "TPU v2": ("TPU v2", Chip(23e12, 8 * 2**30, 350e9, 124e9)),
    "TPU v3": ("TPU v3", Chip(61.5e12, 16 * 2**30, 450e9, 164e9)),
    # https://docs.cloud.google.com/tpu/docs/v4; Jouppi et al. 2023, "TPU v4", table 4: six links of 50 GB/s.
    "TPU v4": ("TPU v4", Chip(275e12, 32 * 2**30, 1200e9, 300e9)),
    "TPU v5 lite": ("TPU v5e", CHIPS["TPU v5e"]),
    "TPU v5": ("TPU v5p", CHIPS["TPU v5p"]),
    "TPU v6 lite": ("TPU v6e", CHIPS["TPU v6e"]),
    # https://docs.cloud.google.com/tpu/docs/tpu7x: interconnect 1,200 GB/s bidirectional. A device is half a chip.
    "TPU7x": ("TPU7x", Chip(1153.5e12, 96 * 2**30, 3690e9, 300e9)),
}
"""Kind of device in JAX -> name and specification of a device."""
