"""An endless, shuffled, sharded stream of training batches whose position can be saved.

Grain stores the position and prefetches batches. Each Grain element is a complete batch gathered by numpy, so Grain's
overhead occurs once per batch instead of once per sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Int

from transformer_jax.config import DataConfig
from transformer_jax.data.batches import (
    Batch,
    BatchPlan,
    BatchShape,
    EncodedPairs,
    Ragged,
    bucket_shapes,
    fill_batch,
    pack_rows,
    plan_buckets,
    plan_rows,
)


class Shard(NamedTuple):
    """The rows of every batch that this process loads.

    process: index of this process.
    processes: number of processes over which the rows are sharded.
    """

    process: int = 0
    processes: int = 1

    def select(self, plan: BatchPlan) -> BatchPlan:
        """Return this process's rows of a batch: a contiguous block, because devices hold contiguous blocks."""
        rows = plan.shape.rows // self.processes
        own_rows = plan.rows.slice(self.process * rows, (self.process + 1) * rows)
        return BatchPlan(plan.shape._replace(rows=rows), own_rows)


SINGLE_PROCESS = Shard()
"""All rows."""

MAX_ADDED_PADDING = 0.02
"""Packed rows of a single length are chosen if they have at most this fraction more positions than rows of two lengths.
"""
MAX_LENGTHENING = 1.25
"""Packed rows are made longer than ``row_length`` by at most this factor, because the cost of attention per token grows
with the row length.
"""


class TrainingBatches:
    """Random access to the batches of all epochs. A batch depends on the seed, not on the number of processes.

    Every pair occurs once per epoch. With bucketed batching, sentences are assigned to new batches every epoch. Packed
    rows contain the same sentences in all epochs, and the rows are assigned to new batches every epoch.
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        config: DataConfig,
        seed: int,
        batch_multiple: int,
        shard: Shard = SINGLE_PROCESS,
        devices: int = 1,
        row_lengths: Sequence[int] = (),
    ) -> None:
        """Plan the batches.

        batch_multiple: the planned number of rows per batch is a multiple of it.
        devices: number of devices. Empty rows pad the number of rows to a multiple of it; plan and order do not change.
        row_lengths: the lengths of packed rows in the run that resumes; by default, they are chosen.
        """
        self.pairs = pairs
        self.seed = seed
        self.batch_multiple = batch_multiple
        self.shard = shard
        self.devices = devices
        if config.batching == "buckets":
            self.packed_rows = {}
            self.shapes = bucket_shapes(pairs, config.buckets, config.batch_tokens, batch_multiple)
        else:
            order = np.random.default_rng(seed).permutation(len(pairs))
            self.packed_rows = pack_by_length(pairs, order, row_lengths) if row_lengths else pack(pairs, order, config)
            self.shapes = [
                BatchShape(max(1, config.batch_tokens // length // batch_multiple) * batch_multiple, length, length)
                for length in self.packed_rows
            ]
        self.plans = lru_cache(maxsize=2)(self._plan_epoch)
        self.batches_per_epoch = len(self.plans(0))

    def _plan_epoch(self, epoch: int) -> list[BatchPlan]:
        random = np.random.default_rng((self.seed, epoch))
        if not self.packed_rows:
            plans = plan_buckets(self.pairs, random.permutation(len(self.pairs)), self.shapes)
        else:
            plans = [
                plan
                for shape, rows in zip(self.shapes, self.packed_rows.values(), strict=True)
                for plan in plan_rows(rows.take(random.permutation(len(rows))), shape)
            ]
        return [plans[index] for index in random.permutation(len(plans))]

    def global_shapes(self) -> list[BatchShape]:
        """Return the shapes of the batches over all processes, including the empty rows that pad them."""
        return [shape._replace(rows=-(-shape.rows // self.devices) * self.devices) for shape in self.shapes]

    def padding_fraction(self) -> float:
        """Return the fraction of target positions per epoch that are padding."""
        positions = sum(plan.shape.rows * plan.shape.target for plan in self.plans(0))
        return 1 - int(self.pairs.lengths()[1].sum()) / positions

    def __len__(self) -> int:
        return 2**40  # Grain needs a finite length; no training run reaches this length.

    def __getitem__(self, index: int) -> Batch:
        epoch, position = divmod(index, self.batches_per_epoch)
        (rows, source, target), pair_indices = self.plans(epoch)[position]
        shape = BatchShape(-(-rows // self.devices) * self.devices, source, target)
        return fill_batch(self.pairs, self.shard.select(BatchPlan(shape, pair_indices)))


def pack(pairs: EncodedPairs, order: Int[np.ndarray, "P"], config: DataConfig) -> dict[int, Ragged]:
    """Pack pairs into rows of ``row_length`` and ``max_length``, or into rows of a single length if that costs little.

    Each row length is another shape, for which the training step is compiled. Rows as long as the longest pair replace
    both lengths within the limits of ``MAX_ADDED_PADDING`` and ``MAX_LENGTHENING``.

    Returns a dict from row length to the indices of the pairs in each row.
    """
    rows = pack_by_length(pairs, order, configured_row_lengths(config))
    longest = int(np.maximum(*pairs.lengths()).max())
    if len(rows) > 1 and longest <= MAX_LENGTHENING * config.row_length:
        single = pack_by_length(pairs, order, [longest])
        if _count_positions(single) <= (1 + MAX_ADDED_PADDING) * _count_positions(rows):
            return single
    return rows


def configured_row_lengths(config: DataConfig) -> list[int]:
    """Return the lengths of packed rows that the config allows: ``row_length``, and ``max_length`` for longer pairs."""
    return sorted({min(config.row_length, config.max_length), config.max_length})


def pack_by_length(pairs: EncodedPairs, order: Int[np.ndarray, "P"], row_lengths: Sequence[int]) -> dict[int, Ragged]:
    """Pack each pair into a row of the smallest length that fits it. See ``pack``.

    row_lengths: in ascending order; the last one fits all pairs.
    """
    bucket = np.searchsorted(row_lengths, np.maximum(*pairs.lengths())[order])
    groups = {length: order[bucket == index] for index, length in enumerate(row_lengths)}
    return {length: pack_rows(pairs, members, length) for length, members in groups.items() if len(members)}


def _count_positions(packed_rows: dict[int, Ragged]) -> int:
    return sum(length * len(rows) for length, rows in packed_rows.items())


def training_iterator(batches: TrainingBatches) -> grain.DatasetIterator:
    """Return an iterator that prefetches batches; ``get_state`` and ``set_state`` save and restore its position."""
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    return iter(grain.MapDataset.source(batches).to_iter_dataset(options))


def evaluation_batches(
    pairs: EncodedPairs,
    batch_tokens: int,
    batch_multiple: int,
    shard: Shard = SINGLE_PROCESS,
) -> Iterator[Batch]:
    """Yield batches that contain every pair exactly once, regardless of its length, in at most two shapes.

    batch_tokens: approximate number of positions per batch, counted on the longer side.
    batch_multiple: the number of rows per batch is a multiple of it.
    """
    for plan in plan_evaluation(pairs, batch_tokens, batch_multiple):
        yield fill_batch(pairs, shard.select(plan))


def plan_evaluation(pairs: EncodedPairs, batch_tokens: int, batch_multiple: int) -> list[BatchPlan]:
    """Plan the batches of ``evaluation_batches``."""
    shapes: Sequence[BatchShape] = [
        shape._replace(rows=max(1, batch_tokens // max(shape.source, shape.target) // batch_multiple) * batch_multiple)
        for shape in bucket_shapes(pairs, 2, batch_tokens, batch_multiple)
    ]
    return plan_buckets(pairs, np.arange(len(pairs)), shapes)
