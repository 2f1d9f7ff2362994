"""Any number of encoded sentences -> hypotheses, in batches of few shapes.

Axes: B sentences, S source positions.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, UInt32

from transformer_jax.decoding.beam import beam_search
from transformer_jax.decoding.next_token import Hypotheses, SpecialIds
from transformer_jax.decoding.sampling import greedy, sample
from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer
from transformer_jax.runtime.memory import fits_memory, require_memory

LENGTH_BUCKETS = (16, 32, 64, 128)
"""Source lengths to which batches are padded, so that few programs are compiled; beyond the last, its multiples."""
BATCH_SIZES = (1, 8, 64)
"""Sentences in a batch: one for a single text, up to the most that a CPU decodes well at once."""


@dataclass(frozen=True)
class Sampling:
    """Draw translations instead of searching for the best; see ``sampling.sample``.

    Raises InputError for settings that cannot be drawn from.
    """

    temperature: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:  # Of larger numbers jax.random.key takes the last 32 bits.
            raise InputError(f"the seed {self.seed} cannot be drawn with. Give a number from 0 to 2**32 - 1.")
        # Beyond these a quotient of log-probabilities may be no number in float32.
        if not 1e-3 <= self.temperature <= 1e3 or self.top_k < 0:
            raise InputError(
                f"temperature {self.temperature} and top-k {self.top_k} cannot be drawn from. "
                "Give a temperature from 0.001 to 1000, and 0 or more for the other."
            )


class Hypothesis(NamedTuple):
    """One translation as ids, [EOS] last, and the score by which the search ranked it."""

    ids: tuple[int, ...]
    score: float


def max_target_length(source_length: int) -> int:
    """The longest translation looked for, [EOS] included. It depends on the sentence alone, never on its batch."""
    return 2 * source_length + 8


def search(
    model: Transformer,
    params: Any,
    sources: Sequence[Sequence[int]],
    special_ids: SpecialIds,
    beam: int,
    length_penalty: float,
    sampling: Sampling | None = None,
    draws: Sequence[tuple[int, ...]] = (),
    wanted: int = 1,
) -> list[list[Hypothesis]]:
    """Up to ``wanted`` hypotheses for each source (x1 ... xn [EOS]), best first; with ``sampling`` one drawn.

    draws: with ``sampling``, numbers for each source, on which alone its draw depends beside the seed. wanted: a beam
    is searched through the sooner, the fewer are.
    Raises InputError if that takes more memory than there is.
    """
    results: list[list[Hypothesis]] = [[] for _ in sources]

    def decode(members: Sequence[int], width: int) -> None:
        rows = _rows(members)
        batch = np.full((rows, width), special_ids.pad, np.int32)
        limits = np.zeros(rows, np.int32)  # 0 for rows that only fill up the batch
        for row, member in enumerate(members):
            batch[row, : len(sources[member])] = sources[member]
            limits[row] = max_target_length(len(sources[member]))
        inputs = (model, params, batch, limits, max_target_length(width), special_ids)
        if sampling is not None:
            numbers = [draws[member] for member in members] + [draws[members[0]]] * (rows - len(members))
            keys = jax.vmap(_key, (None, 0))(sampling.seed, jnp.asarray(numbers, jnp.uint32))
            found = _sample(*inputs, keys, sampling.temperature, sampling.top_k)
        elif beam == 1:
            found = _greedy(*inputs)
        else:
            found = _beam_search(*inputs, beam, length_penalty, wanted)
        for member, hypotheses in zip(members, _unpadded(jax.device_get(found), special_ids.eos), strict=False):
            results[member] = hypotheses[:wanted]

    batches = list(_batches([len(source) for source in sources]))
    with ThreadPoolExecutor(_at_once(model, 1 if sampling else beam, batches)) as pool:
        for _ in pool.map(lambda batch: decode(*batch), batches):
            pass  # Raises what went wrong in a batch.
    return results


def max_parallel_batches() -> int:
    """Batches decoded at the same time: on a CPU each core takes one, since the operations of a step are too small to
    share; at most 8, since each has caches of its own. An accelerator has room for one.
    """
    if jax.default_backend() != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def _at_once(model: Transformer, beam: int, batches: Sequence[tuple[list[int], int]]) -> int:
    """How many batches, the longest of which come first, are decoded together: by their largest arrays as many as the
    memory holds, up to ``max_parallel_batches``. Raises InputError if not even one fits.
    """
    config = model.config
    most, needed = max(1, min(max_parallel_batches(), len(batches))), 0
    for number, (members, width) in enumerate(batches[:most]):
        rows, length = _rows(members), max_target_length(width)
        caches = 2 * config.decoder_layers * config.d_model * (beam * length + width)
        weights = config.heads * max(width * width, beam * beam * length)
        size = jnp.dtype(config.dtype).itemsize
        needed += rows * (size * caches + 4 * (weights + beam * model.target_vocab_size))
        if number == 0:
            subject = f"a beam of {beam} over texts of up to {width} tokens"
            require_memory(needed, subject, "Lower --beam, or split the texts.")
        elif not fits_memory(needed):
            return number
    return most


def _key(seed: int, numbers: UInt32[Array, "N"]) -> Key[Array, ""]:
    """A key of its own for each seed and numbers."""
    return functools.reduce(jax.random.fold_in, numbers, jax.random.key(seed))


_greedy = jax.jit(greedy, static_argnums=(0, 4, 5))
_sample = jax.jit(sample, static_argnums=(0, 4, 5, 8))
_beam_search = jax.jit(beam_search, static_argnums=(0, 4, 5, 6))


def _batches(lengths: Sequence[int]) -> Iterator[tuple[list[int], int]]:
    """Sentences of similar length together, the longest first, so that the workers end at about the same time: their
    numbers, and the width that holds them.
    """
    by_length = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    for start in range(0, len(by_length), BATCH_SIZES[-1]):
        members = by_length[start : start + BATCH_SIZES[-1]]
        yield members, _width(lengths[members[0]])


def _width(length: int) -> int:
    longest = LENGTH_BUCKETS[-1]
    return next((width for width in LENGTH_BUCKETS if width >= length), -(-length // longest) * longest)


def _rows(members: Sequence[int]) -> int:
    return next((rows for rows in BATCH_SIZES if rows >= len(members)), BATCH_SIZES[-1])


def _unpadded(found: Hypotheses, end: int) -> Iterator[list[Hypothesis]]:
    """Rows of a batch as lists: without padding, and without places of the beam that stayed empty."""
    for tokens, scores in zip(found.tokens, found.score, strict=True):
        yield [
            Hypothesis(tuple(ids[: ids.tolist().index(end) + 1].tolist()), float(score))
            for ids, score in zip(tokens, scores, strict=True)
            if np.isfinite(score) and end in ids
        ]
