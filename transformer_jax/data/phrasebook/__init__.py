"""The built-in phrasebook: everyday sentences in English and German, generated from a lexicon and sentence frames."""

from transformer_jax.data.phrasebook.generator import generate
from transformer_jax.data.phrasebook.two_sentences import generate_two_sentences

__all__ = ["generate", "generate_two_sentences"]
