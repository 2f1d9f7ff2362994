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
    ) -> None:
        """Plan the batches.

        batch_multiple: the planned number of rows per batch is a multiple of it.
        devices: number of devices. Empty rows pad the number of rows to a multiple of it; plan and order do not change.
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
            self.packed_rows = pack_by_length(pairs, np.random.default_rng(seed).permutation(len(pairs)), config)
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


def pack_by_length(pairs: EncodedPairs, order: Int[np.ndarray, "P"], config: DataConfig) -> dict[int, Ragged]:
    """Pack pairs into rows of ``row_length``, and longer pairs into rows of ``max_length``.

    Returns a dict from row length to the indices of the pairs in each row.
    """
    if config.row_length >= config.max_length:
        return {config.max_length: pack_rows(pairs, order, config.max_length)}
    fits = np.maximum(*pairs.lengths())[order] <= config.row_length
    groups = {config.row_length: order[fits], config.max_length: order[~fits]}
    return {length: pack_rows(pairs, members, length) for length, members in groups.items() if len(members)}


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
    shapes: Sequence[BatchShape] = [
        shape._replace(rows=max(1, batch_tokens // max(shape.source, shape.target) // batch_multiple) * batch_multiple)
        for shape in bucket_shapes(pairs, 2, batch_tokens, batch_multiple)
    ]
    for plan in plan_buckets(pairs, np.arange(len(pairs)), shapes):
        yield fill_batch(pairs, shard.select(plan))
