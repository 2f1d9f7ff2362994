"""Environment variables of programs that tests start: their number of simulated devices, and fast compilation."""

import os

FAST_COMPILATION = "--xla_cpu_use_fusion_emitters=false"
"""XLA's emitters of fused loops take half of the compilation time. Tests compile much and run little."""


def simulate_devices(devices=None):
    """Return the environment of the tests for a program that uses this many devices. None: the program decides."""
    count = "" if devices is None else f" --xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": FAST_COMPILATION + count}
