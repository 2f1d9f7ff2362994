"""The Transformer of "Attention Is All You Need" in JAX and Flax, for training, translation and attention analysis."""

from typing import Any

__all__ = ["Translator", "__version__", "train"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that importing one module does not load all others."""
    if name == "Translator":
        from transformer_jax.decoding.translator import Translator

        return Translator
    if name == "train":
        from transformer_jax.commands.train import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
