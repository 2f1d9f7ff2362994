"""Batched translation of encoded sources with greedy search, sampling or beam search.

Batches have few distinct shapes, so that few programs are compiled.
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
from transformer_jax.decoding.sampling import greedy, sample
from transformer_jax.decoding.search_inputs import Hypotheses, SearchInputs, SpecialIds
from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer
from transformer_jax.runtime.memory import fits_memory, require_memory

LENGTH_BUCKETS = (16, 32, 64, 128)
"""Source lengths to which batches are padded. Longer batches are padded to a multiple of the last length."""
BATCH_SIZES = (1, 8, 64)
"""Batch sizes: from a single text to the largest batch that a CPU decodes efficiently."""


@dataclass(frozen=True)
class Sampling:
    """Options of random sampling, which replaces the search for the best translation.

    temperature: divisor of the logits, from 0.001 to 1000. A higher temperature makes unlikely tokens more frequent.
    top_k: number of most probable tokens to draw from; 0 for all tokens.
    seed: from 0 to 2**32 - 1. The same seed draws the same translations of the same texts.

    Raises InputError if a value is out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:  # jax.random.key uses only the last 32 bits of a larger seed.
            raise InputError(f"--seed {self.seed} is out of range. Set --seed to a number from 0 to {2**32 - 1}.")
        # Outside this range logits / temperature may not be finite in float32.
        if not 1e-3 <= self.temperature <= 1e3:
            raise InputError(
                f"--temperature {self.temperature} is out of range. Set --temperature to a number from 0.001 to 1000."
            )
        if self.top_k < 0:
            raise InputError(
                f"--top-k {self.top_k} is negative. Set --top-k to a number of tokens, or to 0 for all tokens."
            )


class Hypothesis(NamedTuple):
    """One translation.

    ids: token ids, [EOS] last.
    score: the ranking score; see ``Hypotheses``.
    """

    ids: tuple[int, ...]
    score: float


class _Batch(NamedTuple):
    """A batch of sources that are decoded together.

    indices: the indices of the sources in the list of all sources.
    length: length to which they are padded.
    """

    indices: list[int]
    length: int

    @property
    def size(self) -> int:
        """The number of rows, including padding rows."""
        return next((size for size in BATCH_SIZES if size >= len(self.indices)), BATCH_SIZES[-1])


def max_target_length(source_length: int) -> int:
    """Return the maximum length of a translation. Source and target lengths include [EOS]."""
    return 2 * source_length + 8


def search(
    model: Transformer,
    params: Any,
    sources: Sequence[Sequence[int]],
    special_ids: SpecialIds,
    beam_size: int,
    alpha: float,
    sampling: Sampling | None = None,
    key_numbers: Sequence[tuple[int, ...]] = (),
    n_best: int = 1,
) -> list[list[Hypothesis]]:
    """Return up to ``n_best`` hypotheses per source, best first.

    sources: ids of each source, [EOS] last.
    special_ids: ids of the special tokens of the target.
    beam_size: number of live hypotheses per source; 1 for greedy search.
    alpha: strength of the length penalty; 0 for none.
    sampling: if given, one hypothesis per source is drawn instead.
    key_numbers: with ``sampling``, a tuple of numbers per source. A draw depends only on these numbers and on the seed.
    n_best: maximum number of hypotheses per source. With a smaller number, the search stops earlier.

    Raises InputError if a single batch does not fit in memory.
    """
    results: list[list[Hypothesis]] = [[] for _ in sources]

    def decode(batch: _Batch) -> None:
        inputs = _search_inputs(model, params, sources, batch, special_ids)
        if sampling is not None:
            numbers = [key_numbers[index] for index in batch.indices]
            numbers += [numbers[0]] * (batch.size - len(numbers))
            keys = jax.vmap(_random_key, (None, 0))(sampling.seed, jnp.asarray(numbers, jnp.uint32))
            hypotheses = _sample(inputs, keys, sampling.temperature, sampling.top_k)
        elif beam_size == 1:
            hypotheses = _greedy(inputs)
        else:
            hypotheses = _beam_search(inputs, beam_size, alpha, n_best)
        rows = _without_padding(jax.device_get(hypotheses), special_ids.eos)
        for index, row in zip(batch.indices, rows, strict=False):
            results[index] = row[:n_best]

    batches = list(_make_batches([len(source) for source in sources]))
    with ThreadPoolExecutor(_parallel_batches(model, 1 if sampling else beam_size, batches)) as pool:
        for _ in pool.map(decode, batches):
            pass  # Iterating raises the exceptions of the threads.
    return results


def max_parallel_batches() -> int:
    """Return the maximum number of batches to decode in parallel.

    On a CPU it is the number of cores, because the operations of one step are too small to use several cores. The
    maximum is 8, because every batch needs its own caches. On an accelerator it is 1.
    """
    if jax.default_backend() != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def _parallel_batches(model: Transformer, beam_size: int, batches: Sequence[_Batch]) -> int:
    """Return the number of batches to decode in parallel: as many as fit in memory, at most ``max_parallel_batches``.

    The memory of a batch is estimated from its largest arrays.
    batches: longest first.
    Raises InputError if a single batch does not fit in memory.
    """
    config = model.config
    itemsize = jnp.dtype(config.dtype).itemsize
    most, needed = max(1, min(max_parallel_batches(), len(batches))), 0
    for number, batch in enumerate(batches[:most]):
        target_length = max_target_length(batch.length)
        caches = 2 * config.decoder_layers * config.d_model * (beam_size * target_length + batch.length)
        weights = config.heads * max(batch.length**2, beam_size**2 * target_length)
        needed += batch.size * (itemsize * caches + 4 * (weights + beam_size * model.target_vocab_size))
        if number == 0:
            subject = f"beam size {beam_size} with texts of up to {batch.length} tokens"
            remedy = "Lower --beam, or split the texts." if beam_size > 1 else "Split the texts."
            require_memory(needed, subject, remedy)
        elif not fits_memory(needed):
            return number
    return most


def _search_inputs(
    model: Transformer, params: Any, sources: Sequence[Sequence[int]], batch: _Batch, special_ids: SpecialIds
) -> SearchInputs:
    """Return the padded sources of a batch and the length limits of the translations, as arguments of a search.

    A length limit depends only on its own source.
    """
    source = np.full((batch.size, batch.length), special_ids.pad, np.int32)
    length_limits = np.zeros(batch.size, np.int32)
    for row, index in enumerate(batch.indices):
        source[row, : len(sources[index])] = sources[index]
        length_limits[row] = max_target_length(len(sources[index]))
    # Unlike jnp.asarray, device_put compiles nothing.
    return SearchInputs(
        model,
        params,
        jax.device_put(source),
        jax.device_put(length_limits),
        max_target_length(batch.length),
        special_ids,
    )


def _random_key(seed: int, numbers: UInt32[Array, "N"]) -> Key[Array, ""]:
    """Return a distinct random key for each combination of seed and numbers."""
    return functools.reduce(jax.random.fold_in, numbers, jax.random.key(seed))


_greedy = jax.jit(greedy)
_sample = jax.jit(sample, static_argnames="top_k")
_beam_search = jax.jit(beam_search, static_argnames="beam_size")


def _make_batches(lengths: Sequence[int]) -> Iterator[_Batch]:
    """Yield batches of sources of similar length, longest first, so that all threads finish at about the same time."""
    by_length = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    for start in range(0, len(by_length), BATCH_SIZES[-1]):
        indices = by_length[start : start + BATCH_SIZES[-1]]
        yield _Batch(indices, _padded_length(lengths[indices[0]]))


def _padded_length(length: int) -> int:
    largest = LENGTH_BUCKETS[-1]
    return next((bucket for bucket in LENGTH_BUCKETS if bucket >= length), -(-length // largest) * largest)


def _without_padding(hypotheses: Hypotheses, eos_id: int) -> Iterator[list[Hypothesis]]:
    """Yield the hypotheses of each row without padding and without empty beam slots."""
    for tokens, scores in zip(hypotheses.tokens, hypotheses.scores, strict=True):
        yield [
            Hypothesis(tuple(ids[: ids.tolist().index(eos_id) + 1].tolist()), float(score))
            for ids, score in zip(tokens, scores, strict=True)
            if np.isfinite(score) and eos_id in ids
        ]
