"""The Transformer of "Attention Is All You Need" in JAX and Flax: train it, translate with it, see every head."""

from typing import Any

__all__ = ["Translator"]


def __getattr__(name: str) -> Any:
    """Import the translator when it is asked for: a reader of one part does not wait for orbax."""
    if name == "Translator":
        from transformer_jax.decoding.translator import Translator

        return Translator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
