"""Sentence pairs -> an endless, shuffled, sharded stream of batches whose position can be saved.

grain keeps the position and prefetches. Its element is a whole batch, gathered by numpy: one sentence an element
would repeat grain's bookkeeping for each sentence.
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
    EncodedPairs,
    Plan,
    Ragged,
    Shape,
    bucket_shapes,
    bucketed,
    dealt,
    fill,
    packed,
)


class Shard(NamedTuple):
    """The part of every batch's rows that this process loads."""

    process: int = 0
    processes: int = 1

    def of(self, plan: Plan) -> Plan:
        """This process's rows: a contiguous block, since devices hold contiguous blocks."""
        rows = plan.shape.rows // self.processes
        mine = plan.rows.part(self.process * rows, (self.process + 1) * rows)
        return Plan(plan.shape._replace(rows=rows), mine)


WHOLE = Shard()
"""All rows: there is one process."""


class TrainingBatches:
    """Random access to the batches of all epochs: number ``index`` is the same for a seed on any number of processes.

    Every pair occurs once an epoch. Buckets are filled anew each epoch; packed rows keep their sentences and are
    dealt anew.
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        config: DataConfig,
        seed: int,
        batch_multiple: int,
        shard: Shard = WHOLE,
        devices: int = 1,
    ) -> None:
        """Plan the batches.

        batch_multiple: the planned number of rows per batch is a multiple of it.
        devices: empty rows are added to make the number of rows a multiple of it; plan and order do not change.
        """
        self.pairs = pairs
        self.seed = seed
        self.batch_multiple = batch_multiple
        self.shard = shard
        self.devices = devices
        if config.batching == "buckets":
            self.rows = {}
            self.shapes = bucket_shapes(pairs, config.buckets, config.batch_tokens, batch_multiple)
        else:
            self.rows = packed_rows(pairs, np.random.default_rng(seed).permutation(len(pairs)), config)
            self.shapes = [
                Shape(max(1, config.batch_tokens // length // batch_multiple) * batch_multiple, length, length)
                for length in self.rows
            ]
        self.plans = lru_cache(maxsize=2)(self._plans)
        self.batches_per_epoch = len(self.plans(0))

    def _plans(self, epoch: int) -> list[Plan]:
        random = np.random.default_rng((self.seed, epoch))
        if not self.rows:
            plans = bucketed(self.pairs, random.permutation(len(self.pairs)), self.shapes)
        else:
            plans = [
                plan
                for shape, rows in zip(self.shapes, self.rows.values(), strict=True)
                for plan in dealt(rows.take(random.permutation(len(rows))), shape)
            ]
        return [plans[index] for index in random.permutation(len(plans))]

    def padding(self) -> float:
        """Share of the target positions of an epoch that hold no token."""
        positions = sum(plan.shape.rows * plan.shape.target for plan in self.plans(0))
        return 1 - int(self.pairs.lengths()[1].sum()) / positions

    def __len__(self) -> int:
        return 2**40  # Endless for any training, finite for grain.

    def __getitem__(self, index: int) -> Batch:
        epoch, position = divmod(index, self.batches_per_epoch)
        (rows, source, target), content = self.plans(epoch)[position]
        shape = Shape(-(-rows // self.devices) * self.devices, source, target)
        return fill(self.pairs, self.shard.of(Plan(shape, content)))


def packed_rows(pairs: EncodedPairs, order: Int[np.ndarray, "P"], config: DataConfig) -> dict[int, Ragged]:
    """Length -> rows of it: of ``row_length`` for the pairs that fit there, of ``max_length`` for the longer ones."""
    if config.row_length >= config.max_length:
        return {config.max_length: packed(pairs, order, config.max_length)}
    fits = np.maximum(*pairs.lengths())[order] <= config.row_length
    groups = {config.row_length: order[fits], config.max_length: order[~fits]}
    return {length: packed(pairs, members, length) for length, members in groups.items() if len(members)}


def training_iterator(batches: TrainingBatches) -> grain.DatasetIterator:
    """Iterate with one batch prepared ahead; ``get_state`` and ``set_state`` save and restore the position exactly."""
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    return iter(grain.MapDataset.source(batches).to_iter_dataset(options))


def evaluation_batches(
    pairs: EncodedPairs,
    batch_tokens: int,
    batch_multiple: int,
    shard: Shard = WHOLE,
) -> Iterator[Batch]:
    """All pairs once, in few shapes, whatever their length: a long source has few rows, too."""
    shapes: Sequence[Shape] = [
        shape._replace(rows=max(1, batch_tokens // max(shape.source, shape.target) // batch_multiple) * batch_multiple)
        for shape in bucket_shapes(pairs, 2, batch_tokens, batch_multiple)
    ]
    for plan in bucketed(pairs, np.arange(len(pairs)), shapes):
        yield fill(pairs, shard.of(plan))
