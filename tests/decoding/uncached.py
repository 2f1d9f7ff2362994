"""What decoding must find, written plainly: one sentence, no cache, the whole prefix read anew at each step."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.decoding.next_token import SpecialIds
from transformer_jax.decoding.search import Hypothesis
from transformer_jax.model.transformer import Transformer

PAD, UNK, SOS, EOS = range(4)
SPECIAL = SpecialIds(PAD, UNK, SOS, EOS)


class Case(NamedTuple):
    """A model and its parameters."""

    model: Transformer
    params: Any

    def whole_pass(self, source, prefixes, length):
        """Log-softmax [prefix, position, word] of one uncached pass over the prefixes, padded to ``length``."""
        inputs = np.full((len(prefixes), length), PAD, np.int32)
        for row, prefix in zip(inputs, prefixes, strict=True):
            row[: len(prefix) + 1] = [SOS, *prefix]
        sources = padded([source] * len(prefixes), width=7)
        return np.asarray(_log_softmax(self.model, self.params, sources, inputs))

    def following(self, source, prefix, limit):
        """Log-probabilities of the next word; minus infinity for what must not be produced."""
        log_p = self.whole_pass(source, [prefix], length=13)[0, len(prefix)]
        words = np.arange(len(log_p))
        allowed = words == EOS if len(prefix) + 1 == limit else (words != PAD) & (words != SOS)
        return np.where(allowed, log_p, -np.inf)


@partial(jax.jit, static_argnums=0)
def _log_softmax(model, params, sources, inputs):
    # What stands after a prefix needs no mask: no position sees later ones.
    segments = (sources != PAD).astype(jnp.int32), jnp.ones_like(inputs)
    return jax.nn.log_softmax(model.apply({"params": params}, sources, inputs, *segments))


def greedy_by_hand(case, source, limit):
    """The most likely word at each step."""
    ids, total = (), 0.0
    while EOS not in ids:
        log_p = case.following(source, ids, limit)
        ids, total = (*ids, int(log_p.argmax())), total + float(log_p.max())
    return Hypothesis(ids, total)


def beam_by_hand(case, source, limit, beams, alpha):
    """The best ``beams`` finished hypotheses that a beam of so many open ones meets on its way to the limit."""
    open_ones, finished = [((), 0.0)], []
    for length in range(1, limit + 1):
        longer = [
            ((*ids, int(word)), total + float(log_p))
            for ids, total in open_ones
            for word, log_p in enumerate(case.following(source, ids, limit))
            if np.isfinite(log_p)
        ]
        best = sorted(longer, key=lambda one: -one[1])[: 2 * beams]
        penalty = ((5 + length) / 6) ** alpha
        finished += [Hypothesis(ids, total / penalty) for ids, total in best if ids[-1] == EOS]
        open_ones = [one for one in best if one[0][-1] != EOS][:beams]
    return sorted(finished, key=lambda one: -one.score)[:beams]


def padded(sources, width):
    """A batch: the sources one below the other."""
    return np.asarray([(*source, *[PAD] * (width - len(source))) for source in sources], np.int32)


def decoded(found):
    """The hypotheses of each row; places that stayed empty are left out."""
    rows = []
    for tokens, scores in zip(*jax.device_get(found), strict=True):
        row = []
        for ids, score in zip(tokens.tolist(), scores.tolist(), strict=True):
            if np.isfinite(score) and EOS in ids:
                end = ids.index(EOS) + 1
                assert set(ids[end:]) <= {PAD}
                row.append(Hypothesis(tuple(ids[:end]), score))
        rows.append(row)
    return rows


def assert_same(found, expected):
    """The same hypotheses in the same order; scores agree as far as float32 does."""
    assert [one.ids for one in found] == [one.ids for one in expected]
    np.testing.assert_allclose([one.score for one in found], [one.score for one in expected], rtol=1e-4, atol=1e-4)
