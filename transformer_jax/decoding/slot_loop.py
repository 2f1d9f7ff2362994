"""The host side of the decoding loop: it hands sentences to free slots and collects their translations.

Axes: N new sentences, M numbers per random key.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key, UInt32

from transformer_jax.decoding.slots import (
    NewSentences,
    SearchMethod,
    SearchModel,
    Slots,
    decode_all,
    decode_rest,
    decode_some,
    empty_slots,
)

REFILL_FACTOR = 8
"""New sentences enter when 1 / REFILL_FACTOR of the slots is free. When no sentence waits, the last ones continue in
this fraction of the slots.
"""


class Hypothesis(NamedTuple):
    """One translation.

    ids: token ids, [EOS] last.
    score: the ranking score; see ``Finished``.
    """

    ids: tuple[int, ...]
    score: float


class Request(NamedTuple):
    """A sentence to translate.

    number: number of the sentence in the results.
    source: ids of the source, [EOS] last.
    length_limit: maximum length of the translation, [EOS] included.
    key_numbers: seed and other numbers that determine random draws; empty unless tokens are sampled.
    """

    number: int
    source: Sequence[int]
    length_limit: int
    key_numbers: tuple[int, ...] = ()


Results = Iterator[tuple[int, list[Hypothesis]]]
"""The number of each finished request, and its hypotheses, best first."""


def few_slots(slots: int) -> int:
    """Return the number of sentences that enter together, and of slots in which the last ones continue."""
    return max(1, slots // REFILL_FACTOR)


class LoopShape(NamedTuple):
    """The shapes for which the decoding loop is compiled.

    slots: number of sentences that are decoded together.
    source_length: length to which sources are padded.
    columns: number of columns of the ring.
    max_columns: number of columns that is sufficient for every sentence.
    """

    slots: int
    source_length: int
    columns: int
    max_columns: int


def translate_few(
    search_model: SearchModel, method: SearchMethod, requests: Sequence[Request], shape: LoopShape
) -> Results:
    """Translate at most ``shape.slots`` requests in a single call, and yield the results."""
    by_slot = dict(enumerate(requests))
    new = _new_sentences(search_model, by_slot, shape.slots, len(requests[0].key_numbers), shape)
    return _results(search_model, decode_all(search_model, method, new, shape.max_columns), by_slot)


def translate_many(
    search_model: SearchModel, method: SearchMethod, waiting: deque[Request], shape: LoopShape
) -> Results:
    """Translate all requests of a queue, and yield each result as soon as it is complete.

    Which request enters which slot at which step depends only on the requests. The few whose translations are longer
    than the ring, and the last ones of the queue, continue in fewer slots.
    """
    key_length = len(waiting[0].key_numbers)
    slots = empty_slots(search_model, *shape[:3], method.beam_size, key_length > 0)
    requests: dict[int, Request] = {}  # slot -> request
    few = few_slots(shape.slots)
    while waiting or requests:
        free = [slot for slot in range(shape.slots) if slot not in requests][:few]
        entering = {slot: waiting.popleft() for slot in free[: len(waiting)]}
        requests |= entering
        max_live = shape.slots - min(len(waiting), few) if waiting else few
        new = _new_sentences(search_model, entering, few, key_length, shape)
        slots = decode_some(search_model, method, slots, new, max_live)
        yield from _results(search_model, slots, requests)
        leaving = _full_slots(slots) or ([] if waiting else sorted(requests))
        for start in range(0, len(leaving), few):
            rows = leaving[start : start + few]
            padded = np.asarray(rows + [shape.slots] * (few - len(rows)), np.int32)
            rest = decode_rest(search_model, method, slots, padded, shape.max_columns)
            yield from _results(search_model, rest, {row: requests.pop(slot) for row, slot in enumerate(rows)})
        if leaving:
            is_live = np.array(slots.is_live)
            is_live[leaving] = False
            slots = slots._replace(is_live=jax.device_put(is_live, slots.is_live.sharding))


def _new_sentences(
    search_model: SearchModel, entering: Mapping[int, Request], rows: int, key_length: int, shape: LoopShape
) -> NewSentences:
    """Return the padded sources of the requests that enter, by slot.

    rows: number of sources, including padding rows.
    key_length: number of ``key_numbers`` per request.
    """
    slots = np.full(rows, shape.slots, np.int32)
    source = np.full((rows, shape.source_length), search_model.special_ids.pad, np.int32)
    length_limits = np.ones(rows, np.int32)
    for row, (slot, request) in enumerate(entering.items()):
        slots[row] = slot
        source[row, : len(request.source)] = request.source
        length_limits[row] = request.length_limit
    if not key_length:
        return NewSentences(slots, source, length_limits, None)
    numbers = np.zeros((rows, key_length), np.uint32)
    for row, request in enumerate(entering.values()):
        numbers[row] = request.key_numbers
    return NewSentences(slots, source, length_limits, _random_keys(numbers))


def _results(search_model: SearchModel, slots: Slots, requests: dict[int, Request]) -> Results:
    """Remove the finished requests from ``requests``, and yield their results."""
    is_live, starts, tokens, finished = jax.device_get((slots.is_live, slots.starts, slots.tokens, slots.finished))
    columns = tokens.shape[2]
    for slot in [slot for slot in requests if not is_live[slot]]:
        hypotheses = []
        for origins, length, score in zip(*(field[slot] for field in finished), strict=True):
            if np.isfinite(score):
                # Column c has the token that was read in step c: the first is [SOS], and [EOS] is never read.
                read = (starts[slot] + np.arange(1, length)) % columns
                ids = tokens[slot, origins[read], read].tolist()
                hypotheses.append(Hypothesis((*ids, search_model.special_ids.eos), float(score)))
        yield requests.pop(slot).number, hypotheses


def _full_slots(slots: Slots) -> list[int]:
    """Return the live slots whose ring is full."""
    is_live, step, starts = jax.device_get((slots.is_live, slots.step, slots.starts))
    return np.flatnonzero(is_live & (step - starts >= slots.tokens.shape[2])).tolist()


@jax.jit
def _random_keys(numbers: UInt32[Array, "N M"]) -> Key[Array, "N"]:
    """Return a distinct random key for each sequence of numbers, which starts with the seed."""

    def random_key(numbers: UInt32[Array, "M"]) -> Key[Array, ""]:
        return functools.reduce(jax.random.fold_in, numbers[1:], jax.random.key(numbers[0]))

    return jax.vmap(random_key)(numbers)
