"""Arrays by name from a stranger's file of weights, in which nothing is executed: safetensors, or PyTorch's."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from transformer_jax.errors import InputError
from transformer_jax.runtime.memory import GIB, device_memory

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of the file in a folder of Hugging Face's, the preferred one first."""

Tensors = Mapping[str, Float[np.ndarray, "..."]]


def read_tensors(folder: Path) -> Tensors:
    """All arrays, as float32.

    Raises InputError if there is no such file, if it does not fit the memory, or if it holds anything but arrays.
    """
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder} has no {' or '.join(WEIGHTS)}. Copy it there from the same model.")
    size, there = path.stat().st_size, device_memory()
    if there is not None and size > there:
        raise InputError(
            f"{path} has {size / GIB:.1f} GiB, and {there / GIB:.1f} GiB are free. Use a machine with more memory."
        )
    return _safetensors(path) if path.suffix == ".safetensors" else _pytorch(path)


def _safetensors(path: Path) -> Tensors:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise InputError(f"{path.name} needs the package safetensors. Run: pip install safetensors") from error
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({_first_line(error)}). Copy it again.") from error


def _pytorch(path: Path) -> Tensors:
    """PyTorch's file is a pickle, which may run any code; its own restricted reader makes tensors and nothing else."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path} needs PyTorch to be read. Run: pip install torch, or put {WEIGHTS[0]} in its place."
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):  # CVE-2025-32434
        raise InputError(f"PyTorch {torch.__version__} may run code when it reads {path}. Install 2.6 or newer.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): tensor.float().numpy() for name, tensor in found.items()}
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is damaged, or holds more than weights, which may be code: nothing of it is run. "
            f"Get the model from a source that you trust, with {WEIGHTS[0]}."
        ) from error
    except Exception as error:  # Of many kinds, by the part of the file that is damaged.
        raise InputError(f"{path} cannot be read ({_first_line(error)}). Copy it again.") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
