"""The host side of the decoding loop: it hands sentences to free slots and collects their translations.

Axes: N new sentences, M numbers per random key.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key, UInt32

from transformer_jax.decoding.slots import (
    NO_LIMIT,
    NewSentences,
    SearchMethod,
    SearchModel,
    SlotResults,
    decode_all,
    decode_rest,
    decode_some,
    empty_slots,
    move_slots,
)

REFILL_FACTOR = 8
"""New sentences enter when 1 / REFILL_FACTOR of the slots is free. When no sentence waits, the last ones continue in
this fraction of the slots.
"""
GROUPS = 8
"""Number of groups of new sentences that are encoded together and then enter without the help of the host."""


class Hypothesis(NamedTuple):
    """One translation.

    ids: token ids, [EOS] last.
    score: the ranking score; see ``Finished``.
    """

    ids: tuple[int, ...]
    score: float


class Request(NamedTuple):
    """A sentence to translate.

    number: number of the sentence.
    source: ids of the source, [EOS] last.
    length_limit: maximum length of the translation, [EOS] included.
    key_numbers: seed and other numbers that determine random draws; empty unless tokens are sampled.
    """

    number: int
    source: Sequence[int]
    length_limit: int
    key_numbers: tuple[int, ...] = ()


Results = Iterator[tuple[Request, list[Hypothesis] | None]]
"""Each request with its hypotheses, best first. None if the ring is too short for the translation."""


def few_slots(slots: int) -> int:
    """Return the number of sentences that enter together, and of slots in which the last ones continue."""
    return max(1, slots // REFILL_FACTOR)


class LoopShape(NamedTuple):
    """The shape for which a decoding loop is compiled.

    slots: number of sentences that are decoded together.
    source_length: length to which sources are padded.
    columns: number of columns of the ring.
    """

    slots: int
    source_length: int
    columns: int


def translate_few(
    search_model: SearchModel, method: SearchMethod, waiting: deque[Request], shape: LoopShape
) -> Results:
    """Translate the requests of a queue, ``shape.slots`` at a time, each group in a single call."""
    key_length = len(waiting[0].key_numbers)
    while waiting:
        group = [waiting.popleft() for _ in range(min(shape.slots, len(waiting)))]
        new = _new_sentences(search_model, [group], shape.slots, shape.source_length, key_length)
        results = decode_all(search_model, method, new, shape.columns)
        yield from _finished(search_model, jax.device_get(results), dict(enumerate(group)))


def translate_many(
    search_model: SearchModel, method: SearchMethod, waiting: deque[Request], shape: LoopShape
) -> Results:
    """Translate all requests of a queue, and yield each result when the host receives it.

    Which request enters which slot at which step depends only on the requests. The last ones of the queue continue in
    fewer slots.
    """
    loop = SlotLoop(search_model, method, shape, len(waiting[0].key_numbers))
    few = few_slots(shape.slots)
    while waiting:
        groups = [[waiting.popleft() for _ in range(min(few, len(waiting)))] for _ in range(GROUPS)]
        next_sizes = [*map(len, groups[1:]), min(few, len(waiting))]
        yield from loop.decode(groups, few, [shape.slots - size if size else few for size in next_sizes])
    yield from loop.finish(few)


class SlotLoop:
    """The slots of a loop, and the requests that they translate.

    key_length: number of ``key_numbers`` per request.
    requests: the unfinished requests by slot.
    """

    def __init__(self, search_model: SearchModel, method: SearchMethod, shape: LoopShape, key_length: int) -> None:
        self._search_model = search_model
        self._method = method
        self._shape = shape
        self._key_length = key_length
        self._slots = empty_slots(search_model, *shape, method.beam_size, key_length > 0)
        self.requests: dict[int, Request] = {}

    @property
    def size(self) -> int:
        """The number of slots."""
        return self._shape.slots

    def decode(
        self, groups: Sequence[Sequence[Request]], group_size: int, max_live: Sequence[int], max_steps: int = NO_LIMIT
    ) -> Results:
        """Let groups of at most ``group_size`` requests enter, decode as ``decode_some``, and yield the results."""
        new = _new_sentences(self._search_model, groups, group_size, self._shape.source_length, self._key_length)
        limits = np.asarray(max_live, np.int32)
        self._slots, results = decode_some(self._search_model, self._method, self._slots, new, limits, max_steps)
        for group, after_group in zip(groups, _by_group(jax.device_get(results)), strict=True):
            free = [slot for slot in range(self.size) if slot not in self.requests]
            self.requests |= zip(free, group, strict=False)
            yield from _finished(self._search_model, after_group, self.requests)

    def finish(self, size: int) -> Results:
        """Decode the requests, at most ``size``, to their end in that number of slots, and yield the results."""
        rows = self._rows(size)
        results = jax.device_get(decode_rest(self._search_model, self._method, self._slots, rows))
        yield from _finished(self._search_model, results, dict(enumerate(self._in_order())))
        self.requests.clear()

    def resize(self, size: int) -> None:
        """Move the requests, at most ``size``, to that number of slots."""
        self._slots = move_slots(self._slots, self._rows(size))
        self.requests = dict(enumerate(self._in_order()))
        self._shape = self._shape._replace(slots=size)

    def _rows(self, size: int) -> np.ndarray:
        """Return the slots with requests, followed by padding."""
        live = sorted(self.requests)
        return np.asarray(live + [self.size] * (size - len(live)), np.int32)

    def _in_order(self) -> list[Request]:
        return [self.requests[slot] for slot in sorted(self.requests)]


def _new_sentences(
    search_model: SearchModel,
    groups: Sequence[Sequence[Request]],
    group_size: int,
    source_length: int,
    key_length: int,
) -> NewSentences:
    """Return the requests of all groups, with each group padded to ``group_size`` rows.

    key_length: number of ``key_numbers`` per request.
    """
    rows = len(groups) * group_size
    source = np.full((rows, source_length), search_model.special_ids.pad, np.int32)
    length_limits = np.zeros(rows, np.int32)
    key_numbers = np.zeros((rows, key_length), np.uint32)
    for number, group in enumerate(groups):
        for row, request in enumerate(group, number * group_size):
            source[row, : len(request.source)] = request.source
            length_limits[row] = request.length_limit
            key_numbers[row] = request.key_numbers
    return NewSentences(source, length_limits, _random_keys(key_numbers) if key_length else None)


def _by_group(results: SlotResults) -> list[SlotResults]:
    """Split the results of several groups."""
    return [jax.tree.map(lambda x, g=group: x[g], results) for group in range(len(results.is_live))]


def _finished(search_model: SearchModel, results: SlotResults, requests: dict[int, Request]) -> Results:
    """Remove the finished requests from ``requests``, which maps slots to requests, and yield their results."""
    for slot in [slot for slot in requests if not results.is_live[slot]]:
        is_cut = results.is_cut[slot]
        yield requests.pop(slot), None if is_cut else _hypotheses(results, slot, search_model.special_ids.eos)


def _hypotheses(results: SlotResults, slot: int, eos_id: int) -> list[Hypothesis]:
    columns = results.tokens.shape[2]
    hypotheses = []
    for origins, length, score in zip(*(field[slot] for field in results.finished), strict=True):
        if np.isfinite(score):
            # Column c has the token that was read in step c: the first is [SOS], and [EOS] is never read.
            read = (results.starts[slot] + np.arange(1, length)) % columns
            ids = results.tokens[slot, origins[read], read].tolist()
            hypotheses.append(Hypothesis((*ids, eos_id), float(score)))
    return hypotheses


@jax.jit
def _random_keys(numbers: UInt32[Array, "N M"]) -> Key[Array, "N"]:
    """Return a distinct random key for each sequence of numbers, which starts with the seed."""

    def random_key(numbers: UInt32[Array, "M"]) -> Key[Array, ""]:
        return functools.reduce(jax.random.fold_in, numbers[1:], jax.random.key(numbers[0]))

    return jax.vmap(random_key)(numbers)
