"""Attention for tests of the explorer: random rows that sum to 1, with prime sizes."""

import numpy as np

from transformer_jax.attention.weights import Attention

HOSTILE = "</script><img src=x onerror=alert(1)>"
SOURCE = ("▁Where", "▁is", "▁the", "▁old", "▁sta", "tion", "[EOS]")
TARGET = ("▁Wo", "▁ist", "▁der", "▁alte", "▁Bahn", "hof", "?", "▁", "Da", "?", "[EOS]")
JAPANESE = ("▁駅", "は", "どこ", "です", "か", "。", "[EOS]")
ARABIC = ("▁أين", "▁محطة", "▁القطار", "؟", "[EOS]")


def words_of(tokens: tuple[str, ...]) -> tuple[int, ...]:
    """Return the word number of each token; "▁" starts a word, and [EOS] belongs to none."""
    numbers = np.cumsum([token.startswith("▁") for token in tokens]) - 1
    return tuple(-1 if token == "[EOS]" else max(0, int(word)) for token, word in zip(tokens, numbers, strict=True))


def make_attention(
    source: tuple[str, ...] = SOURCE,
    target: tuple[str, ...] = TARGET,
    seed: int = 0,
    layers: tuple[int, int] = (2, 3),
    heads: int = 5,
    source_text: str | None = None,
) -> Attention:
    """Return attention with 2 encoder layers, 3 decoder layers and 5 heads; some rows are sharp and some are flat."""
    random = np.random.default_rng(seed)

    def rows(layers: int, queries: int, keys: int, hidden: np.ndarray | float = 0.0) -> np.ndarray:
        scores = random.standard_normal((layers, heads, queries, keys)) * random.choice(
            (0.5, 2, 6), (layers, heads, 1, 1)
        )
        weights = np.exp(scores + hidden)
        return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)

    s, t = len(source), len(target)
    text, translation = ("".join(tokens[:-1]).replace("▁", " ").strip() for tokens in (source, target))
    alternatives = tuple((token, *random.choice(target, 4).tolist()) for token in target)
    probabilities = np.sort(random.dirichlet(np.ones(7), t))[:, :1:-1].astype(np.float32)
    return Attention(
        encoder=rows(layers[0], s, s),
        decoder=rows(layers[1], t, t, np.triu(np.full((t, t), -np.inf), 1)),
        cross=rows(layers[1], t, s),
        source_tokens=source,
        target_tokens=target,
        target_inputs=("[SOS]", *target[:-1]),
        source=text if source_text is None else source_text,
        translation=translation,
        source_words=words_of(source),
        target_words=words_of(target),
        probabilities=probabilities[:, 0].copy(),
        alternatives=alternatives,
        alternative_probabilities=probabilities,
    )
