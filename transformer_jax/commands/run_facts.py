"""What all processes of a distributed run must have in common before it starts."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from pathlib import Path

import jax

import transformer_jax
from transformer_jax.config import Config, flatten
from transformer_jax.training.environment import RECORDED_PACKAGES, library_version

LOCAL_FIELDS = ("data.train", "data.valid", "data.test", "training.init")
"""Config fields that may differ between hosts: paths and locators. What they contain is compared once it is read."""
JAX_FLAGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_disable_jit",
)
"""JAX's settings that change results or compiled programs."""


def run_facts(config: Config, debug_nans: bool) -> dict[str, str]:
    """Return the settings, the code version and the library versions of this process. No device is used.

    debug_nans: see ``training.loop.fit``.
    """
    settings = flatten(dataclasses.asdict(config))
    shared = {name: str(value) for name, value in settings.items() if name not in LOCAL_FIELDS}
    flags = {name: str(getattr(jax.config, name, None)) for name in JAX_FLAGS}
    versions = {"Python": platform.python_version(), "transformer_jax": code_version()}
    libraries = {name: library_version(name) for name in RECORDED_PACKAGES}
    return {**shared, "--debug-nans": str(debug_nans), **versions, **libraries, **flags}


def device_facts() -> dict[str, str]:
    """Return the platform and the number of devices of this process, of which each process needs the same number."""
    return {"platform": jax.default_backend(), "number of local devices": str(jax.local_device_count())}


def code_version() -> str:
    """Return the version of this package with a checksum of its sources, which also covers changes without a commit."""
    package = Path(transformer_jax.__file__).parent
    checksum = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        checksum.update(f"{path.relative_to(package).as_posix()} {len(source)}\n".encode() + source)
    return f"{transformer_jax.__version__} (sources {checksum.hexdigest()[:12]})"
