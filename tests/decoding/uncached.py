"""Reference implementations of the searches: one sentence, no cache, the complete prefix decoded again at each step."""

from collections import deque
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.decoding.next_token import SpecialIds
from transformer_jax.decoding.slot_loop import Hypothesis, LoopShape, Request, translate_few
from transformer_jax.decoding.slots import SearchModel
from transformer_jax.model.transformer import Transformer

PAD, UNK, SOS, EOS = range(4)
SPECIAL_IDS = SpecialIds(PAD, UNK, SOS, EOS)


class Case(NamedTuple):
    """A model and its parameters."""

    model: Transformer
    params: Any

    @property
    def search_model(self):
        """The model as the searches use it."""
        return SearchModel(self.model, self.params, SPECIAL_IDS)

    def decode(self, method, sources, limits, source_length=7, columns=13, key_numbers=()):
        """Return the hypotheses of each source, all of which are decoded together."""
        numbers = key_numbers or [()] * len(sources)
        requests = [Request(*request) for request in zip(range(len(sources)), sources, limits, numbers, strict=True)]
        shape = LoopShape(len(sources), source_length, columns)
        results = translate_few(self.search_model, method, deque(requests), shape)
        return [hypotheses for _, hypotheses in results]

    def uncached_log_probs(self, source, prefixes, length):
        """Return the log-probabilities [prefix, position, token] of one uncached pass over padded prefixes."""
        inputs = np.full((len(prefixes), length), PAD, np.int32)
        for row, prefix in zip(inputs, prefixes, strict=True):
            row[: len(prefix) + 1] = [SOS, *prefix]
        sources = padded([source] * len(prefixes), length=7)
        return np.asarray(_log_softmax(self.model, self.params, sources, inputs))

    def next_log_probs(self, source, prefix, limit):
        """Return the log-probabilities of the next token, minus infinity for forbidden ones."""
        log_probs = self.uncached_log_probs(source, [prefix], length=13)[0, len(prefix)]
        ids = np.arange(len(log_probs))
        allowed = ids == EOS if len(prefix) + 1 == limit else (ids != PAD) & (ids != SOS)
        return np.where(allowed, log_probs, -np.inf)


@partial(jax.jit, static_argnums=0)
def _log_softmax(model, params, sources, inputs):
    # The padding after a prefix needs no mask: no position attends to later ones.
    segments = (sources != PAD).astype(jnp.int32), jnp.ones_like(inputs)
    return jax.nn.log_softmax(model.apply({"params": params}, sources, inputs, *segments))


def reference_greedy(case, source, limit):
    """Take the most probable token at each step."""
    ids, score = (), 0.0
    while EOS not in ids:
        log_probs = case.next_log_probs(source, ids, limit)
        ids, score = (*ids, int(log_probs.argmax())), score + float(log_probs.max())
    return Hypothesis(ids, score)


def reference_beam_search(case, source, limit, beam_size, alpha):
    """Return the best ``beam_size`` finished hypotheses of a beam search that never stops before the limit."""
    live, finished = [((), 0.0)], []
    for length in range(1, limit + 1):
        continuations = [
            ((*ids, token), total + float(log_prob))
            for ids, total in live
            for token, log_prob in enumerate(case.next_log_probs(source, ids, limit))
            if np.isfinite(log_prob)
        ]
        best = sorted(continuations, key=lambda continuation: -continuation[1])[: 2 * beam_size]
        penalty = ((5 + length) / 6) ** alpha
        finished += [Hypothesis(ids, total / penalty) for ids, total in best if ids[-1] == EOS]
        live = [(ids, total) for ids, total in best if ids[-1] != EOS][:beam_size]
    return sorted(finished, key=lambda hypothesis: -hypothesis.score)[:beam_size]


def padded(sources, length):
    """Return a batch with one source per row."""
    return jnp.asarray([(*source, *[PAD] * (length - len(source))) for source in sources], jnp.int32)


def assert_same(hypotheses, expected):
    """Assert the same hypotheses in the same order, with scores equal to float32 precision."""
    assert [hypothesis.ids for hypothesis in hypotheses] == [hypothesis.ids for hypothesis in expected]
    scores, expected_scores = ([hypothesis.score for hypothesis in row] for row in (hypotheses, expected))
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-4)
