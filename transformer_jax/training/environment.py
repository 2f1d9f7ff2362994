"""The environment that results depend on: hardware, commit and versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

RECORDED_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "tokenizers",
    "sacrebleu",
    "sacremoses",
    "sentencex",
    "langcodes",
)
"""Packages whose versions are recorded in results.json."""


def describe_environment() -> dict[str, Any]:
    """Return hardware, commit and versions, as JSON values."""
    versions = {name: library_version(name) for name in RECORDED_PACKAGES}
    return {
        "hardware": hardware(),
        "commit": git_commit(),
        "versions": {"python": platform.python_version(), **versions},
    }


def library_version(name: str) -> str:
    """Return the version of an installed library."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def hardware() -> dict[str, Any]:
    """Return the processor, the number of cores and the devices of this machine."""
    # On most Linux systems platform.processor() returns nothing or only the architecture.
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
    }


def git_commit() -> str | None:
    """Return the current commit of the checkout that contains this package; None if it is not in a checkout.

    The working tree may differ from the commit. The commit is read from .git, because training starts no programs.
    """
    git = Path(__file__).parent.parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        branch = head.removeprefix("ref: ")
        if branch == head:
            return head
        if (git / branch).exists():
            return (git / branch).read_text().strip()
        packed = (line.split(" ") for line in (git / "packed-refs").read_text().splitlines())
        return next((first for first, *rest in packed if rest == [branch]), None)
    except OSError:  # Not a checkout, or a branch without commits.
        return None
