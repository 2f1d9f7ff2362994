"""The built-in phrasebook: everyday sentences in English and German, generated from a lexicon and sentence frames."""

from transformer_jax.data.phrasebook.generator import generate

__all__ = ["generate"]
