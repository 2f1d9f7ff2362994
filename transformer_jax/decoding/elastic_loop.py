"""A decoding loop that sentences join while it runs. Its number of slots follows the number of its sentences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from transformer_jax.decoding.search import FEW, bytes_per_slot, default_slots, max_target_length
from transformer_jax.decoding.slot_loop import REFILL_FACTOR, Hypothesis, LoopShape, Request, SlotLoop
from transformer_jax.decoding.slots import SearchMethod, SearchModel
from transformer_jax.runtime.memory import fits_memory, require_memory

MAX_STEPS = 16
"""After this many steps at the latest, further sentences can join. Most short sentences are finished by then."""


class ElasticLoop:
    """A loop for the sentences of one search method and one padded length.

    A step takes longer with more slots, so a lone sentence has a single slot, and the loop grows only when its slots do
    not suffice. Its ring is long enough for every translation.
    """

    def __init__(self, search_model: SearchModel, method: SearchMethod, source_length: int) -> None:
        columns = max_target_length(source_length)
        self._search_model = search_model
        self._method = method
        self._shape = LoopShape(1, source_length, columns)
        self._bytes_per_slot = bytes_per_slot(search_model.model, method.beam_size, self._shape)
        largest = default_slots(method.beam_size)
        while largest > 1 and not fits_memory(self._bytes_per_slot * largest):
            largest //= 2
        self._sizes = sorted({1, min(FEW, largest), largest})
        self._loop: SlotLoop | None = None

    @property
    def live(self) -> int:
        """The number of unfinished requests."""
        return len(self._loop.requests) if self._loop else 0

    @property
    def capacity(self) -> int:
        """The number of requests that can join now."""
        return min(FEW, self._sizes[-1] - self.live)

    def advance(self, joining: Sequence[Request]) -> list[tuple[Request, list[Hypothesis]]]:
        """Let at most ``capacity`` requests join, and decode until an eighth of all requests is finished.

        Return after ``MAX_STEPS`` steps at the latest. Return each finished request with its hypotheses.
        Raises InputError if not even a single slot fits in memory. An empty loop needs a request that joins.
        """
        requests = self.live + len(joining)
        self._loop = loop = self._resized(requests) if self._loop else self._new_loop(joining)
        max_live = requests - max(1, requests // REFILL_FACTOR)
        # The ring has room for every translation.
        results = [
            (request, hypotheses or [])
            for request, hypotheses in loop.decode([joining], _rows(loop), [max_live], MAX_STEPS)
        ]
        if not loop.requests:
            self._loop = None  # This frees memory, and the next loop starts with few slots.
        return results

    def warm_up(self, request: Request) -> None:
        """Compile the programs for every number of slots and every change. Raises InputError as ``advance``."""
        for size, other in itertools.product(self._sizes, repeat=2):
            loop = self._new_loop([request] * size)
            list(loop.decode([[]], _rows(loop), [0], 0))
            if other != size:
                loop.resize(other)

    def _new_loop(self, joining: Sequence[Request]) -> SlotLoop:
        method, length = self._method, self._shape.source_length
        subject = f"beam size {method.beam_size} with texts of up to {length} tokens"
        require_memory(self._bytes_per_slot, subject, "Lower the beam size, or split the texts.")
        shape = self._shape._replace(slots=next(size for size in self._sizes if size >= len(joining)))
        return SlotLoop(self._search_model, method, shape, len(joining[0].key_numbers))

    def _resized(self, requests: int) -> SlotLoop:
        """Return the loop with enough slots. It becomes smaller only if half of the slots then stay free."""
        assert self._loop
        size = self._loop.size
        enough = next(size for size in self._sizes if size >= requests)
        twice_enough = next((size for size in self._sizes if size >= 2 * requests), size)
        if not enough <= size <= twice_enough:
            self._loop.resize(max(enough, min(twice_enough, size)))
        return self._loop


def _rows(loop: SlotLoop) -> int:
    """Return the number of rows of the sentences that enter together."""
    return min(FEW, loop.size)
