"""Settings of glibc's malloc that make training on a CPU faster."""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path

MALLOC_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0",
}
"""Environment variables that glibc's malloc reads when a process starts.

By default, malloc maps memory for each large array and unmaps it when the array is freed, so every step causes a page
fault per 4 KiB written. The thresholds keep freed memory in the process. The tunables select:

hugetlb: transparent huge pages.
arena_max: a single heap, since the heaps of other threads cannot hold arrays above 64 MiB.
tcache_count: no cache of small blocks. Cached blocks split the free memory, so that an aligned array of the next step
    would not fit in place of the previous one.
"""

TPU_DEVICES = ("/dev/accel0", "/dev/vfio/0")
"""Device files of the first TPU of a machine. Their name depends on the kind of chip."""


def restart_with_tuned_malloc() -> None:
    """Restart the program with ``MALLOC_VARIABLES``.

    Do nothing if one of them is already set, if the C library is not glibc, or if JAX will use an accelerator.
    """
    is_set = any(os.environ.get(name) for name in MALLOC_VARIABLES)
    if platform.libc_ver()[0] == "glibc" and not is_set and runs_on_cpu():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **MALLOC_VARIABLES})


def runs_on_cpu() -> bool:
    """Return whether JAX will probably compute on the CPU, without importing it.

    The answer depends on JAX_PLATFORMS or, if that is not set, on the installed packages for other devices. libtpu
    counts only on a machine with a TPU, because --dry-run also uses it on other machines.
    With an accelerator a single heap is slower, since the many threads that compile for a GPU wait for each other.
    """
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms == "cpu"
    has_tpu = any(Path(path).exists() for path in TPU_DEVICES)
    return not (find_spec("jax_plugins") or (has_tpu and find_spec("libtpu")))
