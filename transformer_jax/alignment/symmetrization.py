"""Two alignments of the same sentence pair, of models that translate either way, put together.

Most ways take two sets of links (source word, target word). Source: Koehn, Och and Marcu 2003, "Statistical
Phrase-Based Translation"; Koehn et al. 2005, "Edinburgh System Description for the 2005 IWSLT Speech Translation
Evaluation", which has the pseudo code of grow-diag-final. `agreement` takes the weights themselves.

Weights are those of ``word_weights``, a row for each source word, a column for each target word; sizes may differ, see
``agreement``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
from jaxtyping import Float

from transformer_jax.alignment.error_rate import Link, Links
from transformer_jax.alignment.reading import link_source_words, link_target_words

Symmetrization = Literal["agreement", "intersection", "union", "grow-diagonal", "grow-diagonal-final-and"]

NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def intersection(forward: Links, reverse: Links) -> Links:
    """What both found: few links, but most are right."""
    return forward & reverse


def union(forward: Links, reverse: Links) -> Links:
    """What either found."""
    return forward | reverse


def grow_diagonal(forward: Links, reverse: Links) -> Links:
    """The intersection, and what of the union touches it, also at a corner, and links a word that has no link yet.

    What is added may be touched in turn. As in Moses' symal, links are visited by target, then source word.
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
            for down, right in NEIGHBOURS:
                near = source + right, target + down
                if near in candidates and not (near[0] in sources and near[1] in targets):
                    links.add(near)
                    sources.add(near[0])
                    targets.add(near[1])
    return frozenset(links)


def grow_diagonal_final_and(forward: Links, reverse: Links) -> Links:
    """``grow_diagonal``, and then links of either direction whose words both have none yet."""
    links = set(grow_diagonal(forward, reverse))
    for direction in (forward, reverse):
        _add_lonely(links, sorted(direction, key=lambda link: link[::-1]))
    return frozenset(links)


def _add_lonely(links: set[Link], candidates: Iterable[Link]) -> None:
    sources, targets = {source for source, _ in links}, {target for _, target in links}
    for source, target in candidates:
        if source not in sources and target not in targets:
            links.add((source, target))
            sources.add(source)
            targets.add(target)


def agreement(forward: Float[np.ndarray, "_ _"], reverse: Float[np.ndarray, "_ _"]) -> Links:
    """``grow_diagonal`` of the strongest links, from either side, of the product of both models' weights.

    A word that one model is sure of helps the other where it is not. A product counts by its shares of all that its
    target word and its source word have, so that a word which many read takes no others from them. Source: Liang et
    al. 2006, "Alignment by Agreement", which multiplies the posteriors of two alignment models; the shares are ours.
    """
    # One model's tokens may leave out words at the end, which then have no weight.
    rows, columns = np.minimum(forward.shape, reverse.shape)
    both = forward[:rows, :columns] * reverse[:rows, :columns]
    shared = _shares(both, axis=0) * _shares(both, axis=1)
    return grow_diagonal(link_target_words(shared), link_source_words(shared))


def _shares(weights: Float[np.ndarray, "V W"], axis: int) -> Float[np.ndarray, "V W"]:
    """Each weight over the sum along an axis; none of nothing."""
    total = weights.sum(axis=axis, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


LINK_SYMMETRIZATIONS: dict[Symmetrization, Callable[[Links, Links], Links]] = {
    "intersection": intersection,
    "union": union,
    "grow-diagonal": grow_diagonal,
    "grow-diagonal-final-and": grow_diagonal_final_and,
}


def symmetrize(how: Symmetrization, forward: Float[np.ndarray, "_ _"], reverse: Float[np.ndarray, "_ _"]) -> Links:
    """The links of one sentence pair by the weights of the model that writes its target, and of that which writes its
    source.
    """
    if how == "agreement":
        return agreement(forward, reverse)
    return LINK_SYMMETRIZATIONS[how](link_target_words(forward), link_source_words(reverse))
