"""The embedded corpus: English and German everyday sentences, generated from a lexicon and sentence frames."""

from transformer_jax.data.phrasebook.generator import generate

__all__ = ["generate"]
