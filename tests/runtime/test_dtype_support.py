"""Devices without the data type of a model are reported."""

import logging
from types import SimpleNamespace

import jax
import pytest

from transformer_jax.errors import InputError
from transformer_jax.runtime.dtype_support import check_dtype_support


def gpu(kind, capability):
    return SimpleNamespace(platform="gpu", device_kind=kind, compute_capability=capability)


@pytest.mark.parametrize(
    ("device", "dtype", "warns"),
    [
        (gpu("Tesla T4", "7.5"), "bfloat16", True),
        (gpu("Tesla V100-SXM2-16GB", "7.0"), "bfloat16", True),
        (gpu("Tesla T4", "7.5"), "float16", False),
        (gpu("Tesla T4", "7.5"), "float32", False),
        (gpu("NVIDIA A100-SXM4-40GB", "8.0"), "bfloat16", False),
        (gpu("NVIDIA GeForce RTX 5090", "12.0"), "bfloat16", False),
        (gpu("AMD Instinct MI300X", "gfx942"), "bfloat16", False),
        (SimpleNamespace(platform="tpu", device_kind="TPU v4"), "bfloat16", False),
    ],
    ids=lambda value: getattr(value, "device_kind", value),
)
def test_only_gpus_before_ampere_warn_of_bfloat16(device, dtype, warns, caplog):
    with caplog.at_level(logging.WARNING):
        check_dtype_support(dtype, device)
    messages = [record.message for record in caplog.records]
    assert bool(messages) == warns
    if warns:
        capability = f"{device.device_kind} (compute capability {device.compute_capability}) has no bfloat16"
        assert messages[0].startswith(capability)
        assert "--model.dtype float16" in messages[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_real_devices_of_the_tests_support_every_type(dtype, caplog):
    check_dtype_support(dtype, jax.local_devices()[0])
    assert not caplog.records


def test_float16_on_a_tpu_is_refused():
    with pytest.raises(InputError, match=r"float16 is not supported on TPU v5 lite\. Set --model\.dtype bfloat16\."):
        check_dtype_support("float16", SimpleNamespace(platform="tpu", device_kind="TPU v5 lite"))
