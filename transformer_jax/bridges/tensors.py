"""Reading of untrusted safetensors and PyTorch weight files without executing code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from transformer_jax.errors import InputError
from transformer_jax.runtime.memory import require_memory

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of the weight file in a directory of Hugging Face's ``transformers``, preferred name first."""

Tensors = Mapping[str, Float[np.ndarray, "..."]]


def read_tensors(directory: Path) -> Tensors:
    """Return all tensors of the weight file in a directory as a dict from name to float32 array.

    Raises InputError if the file does not exist, if it does not fit in memory, or if it contains anything but tensors.
    """
    path = next((directory / name for name in WEIGHT_FILES if (directory / name).is_file()), None)
    if path is None:
        raise InputError(f"{directory} has no {' or '.join(WEIGHT_FILES)}. Download the model again.")
    require_memory(path.stat().st_size, str(path), "Use a machine with more memory.")
    return _safetensors(path) if path.suffix == ".safetensors" else _pytorch(path)


def _safetensors(path: Path) -> Tensors:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise InputError(f"reading {path} needs safetensors. Run: pip install safetensors") from error
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({_first_line(error)}). Download the model again.") from error


def _pytorch(path: Path) -> Tensors:
    """Read a pickle with PyTorch's restricted unpickler, which creates only tensors and executes no other code."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"reading {path} needs PyTorch. Run: pip install torch, or replace the file with {WEIGHT_FILES[0]}."
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):  # CVE-2025-32434
        raise InputError(f'PyTorch {torch.__version__} could execute code in {path}. Run: pip install "torch>=2.6"')
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): tensor.float().numpy() for name, tensor in tensors.items()}
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is damaged or contains more than weights, such as code. No code was executed. "
            f"Download {WEIGHT_FILES[0]} from a trusted source."
        ) from error
    except Exception as error:  # The type depends on which part of the file is damaged.
        raise InputError(f"{path} is damaged ({_first_line(error)}). Download the model again.") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
