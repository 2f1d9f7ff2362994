"""The Transformer of "Attention Is All You Need" in JAX and Flax: train it, translate with it, see every head."""

from typing import Any

__all__ = ["Translator", "__version__", "train"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is asked for on first use, so that reading one part does not load the rest."""
    if name == "Translator":
        from transformer_jax.decoding.translator import Translator

        return Translator
    if name == "train":
        from transformer_jax.commands.train import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
