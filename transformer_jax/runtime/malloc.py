"""Memory for training on a CPU: kept instead of returned after every step, and in huge pages."""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec

MALLOC_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0",
}
"""What glibc's malloc reads, once, when a process starts.

By default malloc maps each large array afresh and gives it back at once, so every step pays a page fault for each 4 KiB
that it writes. The tunables ask for transparent huge pages; for one heap, since those of further threads hold no array
above 64 MiB; and for no small blocks kept aside, which part the free memory so that the next step's array, of the
same size but aligned, does not fit where the last was.
"""


def restart_with_tuned_malloc() -> None:
    """Begin this program again with ``MALLOC_VARIABLES``, unless one of them is already set, the C library is another, or an
    accelerator does the work.
    """
    if platform.libc_ver()[0] == "glibc" and not MALLOC_VARIABLES.keys() & os.environ.keys() and runs_on_cpu():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **MALLOC_VARIABLES})


def runs_on_cpu() -> bool:
    """Whether JAX will compute on the CPU, as far as can be told without starting it: by JAX_PLATFORMS, else by the
    packages that are installed for other devices.

    Compiling for a GPU takes many threads, and with one heap they wait for each other.
    """
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms == "cpu"
    return not any(find_spec(package) for package in ("jax_plugins", "libtpu"))
