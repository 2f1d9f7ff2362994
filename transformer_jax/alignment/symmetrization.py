"""Symmetrization: one alignment from two models of opposite directions.

``agreement`` combines the word weights of the two models (axes: source word, target word). The other methods combine
the links of the two models.

Source: Koehn, Och and Marcu 2003, "Statistical Phrase-Based Translation"; Koehn et al. 2005, "Edinburgh System
Description for the 2005 IWSLT Speech Translation Evaluation", with pseudocode of grow-diag-final.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from jaxtyping import Float

from transformer_jax.alignment.error_rate import Link, Links
from transformer_jax.alignment.reading import link_source_words, link_target_words

Symmetrization = Literal["agreement", "intersection", "union", "grow-diagonal", "grow-diagonal-final-and"]

NEIGHBOUR_OFFSETS = ((0, -1), (-1, 0), (0, 1), (1, 0), (-1, -1), (1, -1), (-1, 1), (1, 1))
"""Offsets (source word, target word) from a link to its neighbours, diagonal neighbours last."""


def intersection(forward: Links, reverse: Links) -> Links:
    """Return the links that both directions contain: high precision, low recall."""
    return forward & reverse


def union(forward: Links, reverse: Links) -> Links:
    """Return the links that at least one direction contains: high recall, low precision."""
    return forward | reverse


def grow_diagonal(forward: Links, reverse: Links) -> Links:
    """Return the intersection, repeatedly extended with neighbouring links of the union.

    A horizontal, vertical or diagonal neighbour is added if at least one of its two words has no link yet. Links are
    visited in the order of Moses' symal: by target word, then by source word.
    """
    order = sorted(forward | reverse, key=lambda link: link[::-1])
    candidates, links = set(order), set(forward & reverse)
    sources, targets = {source for source, _ in links}, {target for _, target in links}
    size = -1
    while len(links) > size:
        size = len(links)
        for source, target in order:
            if (source, target) not in links:
                continue
            for source_offset, target_offset in NEIGHBOUR_OFFSETS:
                neighbour = source + source_offset, target + target_offset
                if neighbour in candidates and not (neighbour[0] in sources and neighbour[1] in targets):
                    links.add(neighbour)
                    sources.add(neighbour[0])
                    targets.add(neighbour[1])
    return frozenset(links)


def grow_diagonal_final_and(forward: Links, reverse: Links) -> Links:
    """Return ``grow_diagonal``, extended with links of either direction between two words that have no link yet."""
    links = set(grow_diagonal(forward, reverse))
    for direction in (forward, reverse):
        _add_unlinked(links, sorted(direction, key=lambda link: link[::-1]))
    return frozenset(links)


def _add_unlinked(links: set[Link], candidates: Iterable[Link]) -> None:
    """Add each candidate whose two words have no link yet."""
    sources, targets = {source for source, _ in links}, {target for _, target in links}
    for source, target in candidates:
        if source not in sources and target not in targets:
            links.add((source, target))
            sources.add(source)
            targets.add(target)


def agreement(forward: Float[np.ndarray, "_ _"], reverse: Float[np.ndarray, "_ _"]) -> Links:
    """Return links derived from the products of the two models' weights.

    The weights of the two models are multiplied, so where one model is uncertain, the other model decides. The products
    are normalized over the source words and over the target words, and the score of a link is the product of both
    normalized values. This prevents a word with large weights everywhere from attracting most links. In each direction,
    each word is linked to the word with the highest score, and ``grow_diagonal`` combines the two directions.

    Source: Liang et al. 2006, "Alignment by Agreement", which multiplies the posteriors of two alignment models. The
    normalization is our addition.
    """
    # One of the models may lack the last words, if its tokenizer gives them no tokens. Their weight is 0.
    rows, columns = np.minimum(forward.shape, reverse.shape)
    products = forward[:rows, :columns] * reverse[:rows, :columns]
    scores = _shares(products, axis=0) * _shares(products, axis=1)
    return grow_diagonal(link_target_words(scores), link_source_words(scores))


def _shares(weights: Float[np.ndarray, "V W"], axis: int) -> Float[np.ndarray, "V W"]:
    """Divide the weights by their sum along an axis. The result is 0 where the sum is 0."""
    total = weights.sum(axis=axis, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


LINK_SYMMETRIZATIONS: dict[Symmetrization, Callable[[Links, Links], Links]] = {
    "intersection": intersection,
    "union": union,
    "grow-diagonal": grow_diagonal,
    "grow-diagonal-final-and": grow_diagonal_final_and,
}


def symmetrize(
    symmetrization: Symmetrization, forward: Float[np.ndarray, "_ _"], reverse: Float[np.ndarray, "_ _"]
) -> Links:
    """Return the links of one sentence pair.

    forward: word weights of the model that translates from source to target.
    reverse: word weights of the model that translates from target to source.
    """
    if symmetrization == "agreement":
        return agreement(forward, reverse)
    return LINK_SYMMETRIZATIONS[symmetrization](link_target_words(forward), link_source_words(reverse))
