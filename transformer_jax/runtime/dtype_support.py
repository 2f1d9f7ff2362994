"""Checks of the devices' support for the data type of a model."""

from __future__ import annotations

import logging
from typing import Any

from transformer_jax.errors import InputError

BFLOAT16_CAPABILITY = 8
"""First major compute capability of NVIDIA GPUs with bfloat16 arithmetic: Ampere."""


def check_dtype_support(dtype: str, device: Any) -> None:
    """Warn of bfloat16 on a GPU that emulates it. Raise InputError for float16 on a TPU.

    dtype: ``model.dtype``.
    device: a device of JAX.
    """
    if dtype == "float16" and device.platform == "tpu":
        raise InputError(f"model.dtype float16 is not supported on {device.device_kind}. Set --model.dtype bfloat16.")
    # NVIDIA: "7.5". AMD: "gfx942".
    major = str(getattr(device, "compute_capability", "")).partition(".")[0]
    if dtype == "bfloat16" and major.isdecimal() and int(major) < BFLOAT16_CAPABILITY:
        logging.warning(
            f"{device.device_kind} (compute capability {device.compute_capability}) has no bfloat16 arithmetic, so "
            "model.dtype bfloat16 is slow. For a faster run, set --model.dtype float16 and another --workdir."
        )
