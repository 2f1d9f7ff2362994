"""Batches of token ids in a few shapes, with little padding.

Axes: B rows, S source positions, T target positions, P pairs, M selected pairs, N tokens, L lists, O offsets.

An epoch can have millions of pairs, so per-pair work uses numpy operations on flat arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from transformer_jax.data.records import Pair
from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.data.tokenizers import Tokenizer


class Batch(NamedTuple):
    """Token ids with their segments and positions. A row contains one sentence pair, or several if rows are packed.

    source: tokens of the source sentences, each followed by [EOS].
    source_segments: one-based index of the sentence within its row; 0 for padding.
    source_positions: zero-based position within the sentence.
    target_input: [SOS] y1 ... yn of each target sentence.
    target_output: the token to predict at each position: y1 ... yn [EOS].
    target_segments: like ``source_segments``. Positions with segment 0 do not contribute to the loss.
    target_positions: like ``source_positions``.
    """

    source: Int[np.ndarray, "B S"]
    source_segments: Int[np.ndarray, "B S"]
    source_positions: Int[np.ndarray, "B S"]
    target_input: Int[np.ndarray, "B T"]
    target_output: Int[np.ndarray, "B T"]
    target_segments: Int[np.ndarray, "B T"]
    target_positions: Int[np.ndarray, "B T"]


class BatchShape(NamedTuple):
    """The shape of a batch. The training step is compiled once per shape.

    rows: number of rows.
    source, target: number of positions per row.
    """

    rows: int
    source: int
    target: int


@dataclass(frozen=True)
class Ragged:
    """Lists of integers stored in two flat arrays, without a Python object per list.

    List n is ``values[offsets[n] : offsets[n + 1]]``.
    """

    values: Integer[np.ndarray, "N"]
    offsets: Int[np.ndarray, "O"]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Integer[np.ndarray, "S"]:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def lengths(self) -> Int[np.ndarray, "L"]:
        """Return the number of values in each list."""
        return np.diff(self.offsets)

    def slice(self, start: int, stop: int) -> Ragged:
        """Return the lists from ``start`` to ``stop``; as for Python slices, bounds past the end are allowed."""
        offsets = self.offsets[min(start, len(self)) : stop + 1]
        return Ragged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    def take(self, indices: Int[np.ndarray, "M"]) -> Ragged:
        """Return the lists at these indices, in this order."""
        lengths = self.offsets[indices + 1] - self.offsets[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        value_indices = np.arange(offsets[-1]) + np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        return Ragged(self.values[value_indices], offsets)


class BatchPlan(NamedTuple):
    """The shape of a batch and the pairs in it, without their tokens.

    shape: shape of the batch.
    rows: indices of the pairs in each row. Rows missing from the plan become padding.
    """

    shape: BatchShape
    rows: Ragged


class EncodedPairs(NamedTuple):
    """Sentence pairs as token ids: the source as x1 ... xn [EOS], the target as [SOS] y1 ... yn [EOS]."""

    source: Ragged
    target: Ragged

    def __len__(self) -> int:
        return len(self.source)

    def lengths(self) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
        """Return the number of source and target positions that each pair takes in a row."""
        return self.source.lengths(), self.target.lengths() - 1


ENCODING_BLOCK_PAIRS = 10_000
"""Number of pairs encoded at a time."""


def encode_in_blocks(
    pairs: Iterable[Pair], tokenizers: Tokenizers, max_length: int | None
) -> Iterator[tuple[EncodedPairs, int]]:
    """Encode a corpus block by block, so that it need not fit in memory.

    max_length: exclude pairs in which either sentence is empty or longer than ``max_length`` tokens. If None, keep all
        pairs, as needed for validation and test sets.
    Yields the encoded pairs of each block and the number of pairs excluded from it.
    """
    remaining = iter(pairs)
    while block := list(itertools.islice(remaining, ENCODING_BLOCK_PAIRS)):
        x = _encode(tokenizers.source, [pair.source for pair in block])
        y = _encode(tokenizers.target, [pair.target for pair in block])
        if max_length is not None:
            shorter, longer = np.sort([x.lengths(), y.lengths()], axis=0)
            included = np.flatnonzero((shorter > 0) & (longer < max_length))
            x, y = x.take(included), y.take(included)
        y = _insert(y, y.offsets[1:], tokenizers.target.eos_id)
        encoded = EncodedPairs(
            _insert(x, x.offsets[1:], tokenizers.source.eos_id), _insert(y, y.offsets[:-1], tokenizers.target.sos_id)
        )
        yield encoded, len(block) - len(encoded)


def encode_pairs(pairs: Iterable[Pair], tokenizers: Tokenizers, max_length: int | None) -> tuple[EncodedPairs, int]:
    """Encode a corpus in memory. Return the pairs and the number of excluded pairs."""
    blocks, excluded = zip(*encode_in_blocks(pairs, tokenizers, max_length), strict=True)
    return EncodedPairs(*map(_concatenate, zip(*blocks, strict=True))), sum(excluded)


def id_dtype(tokenizer: Tokenizer) -> np.dtype:
    """Return the smallest integer type that holds all ids of a vocabulary."""
    return np.min_scalar_type(len(tokenizer) - 1)


def _encode(tokenizer: Tokenizer, texts: list[str]) -> Ragged:
    ids = tokenizer.encode(texts)
    values = np.fromiter(itertools.chain.from_iterable(ids), id_dtype(tokenizer))
    return Ragged(values, np.cumsum([0, *map(len, ids)]))


def _insert(sentences: Ragged, value_indices: Int[np.ndarray, "L"], token: int) -> Ragged:
    """Insert a token into each sentence of a flat array of concatenated sentences.

    value_indices: one index into the flat array per sentence; the token is inserted before the value at that index.
    """
    values = np.insert(sentences.values, value_indices, token)
    return Ragged(values, sentences.offsets + np.arange(len(sentences) + 1))


def _concatenate(blocks: Sequence[Ragged]) -> Ragged:
    lengths = np.concatenate([block.lengths() for block in blocks])
    return Ragged(np.concatenate([block.values for block in blocks]), np.concatenate([[0], np.cumsum(lengths)]))


def fill_batch(pairs: EncodedPairs, plan: BatchPlan) -> Batch:
    """Gather the tokens of a planned batch. Rows missing from the plan become padding."""
    rows, source, target = plan.shape
    x, y = pairs.source.take(plan.rows.values), pairs.target.take(plan.rows.values)
    inputs, outputs = np.delete(y.values, y.offsets[1:] - 1), np.delete(y.values, y.offsets[:-1])
    return Batch(
        *_lay_out((rows, source), plan.rows, x.lengths(), x.values),
        *_lay_out((rows, target), plan.rows, y.lengths() - 1, inputs, outputs),
    )


def _lay_out(
    shape: tuple[int, int], rows: Ragged, lengths: Int[np.ndarray, "M"], *values: Integer[np.ndarray, "N"]
) -> Int[np.ndarray, "K B S"]:
    """Concatenate the sentences of each row.

    lengths: length of each sentence, in the order of ``rows``.
    values: arrays of the tokens of all sentences.
    Returns one padded array per array in ``values``, followed by the segments and the positions.
    """
    sentences = np.arange(len(lengths))
    row = np.repeat(np.arange(len(rows)), rows.lengths())
    first_in_row = rows.offsets[row]
    starts = np.cumsum(lengths) - lengths
    sentence_of_token = np.repeat(sentences, lengths)
    tokens = np.arange(len(sentence_of_token))
    columns = tokens - starts[first_in_row[sentence_of_token]]
    segments = (1 + sentences - first_in_row)[sentence_of_token]
    positions = tokens - starts[sentence_of_token]
    arrays = np.zeros((len(values) + 2, *shape), np.int32)
    arrays[:, row[sentence_of_token], columns] = [*values, segments, positions]
    return arrays


def bucket_bounds(lengths: Int[np.ndarray, "P"], buckets: int) -> list[int]:
    """Return at most ``buckets`` row lengths that minimize the padding.

    Each sentence is padded to the smallest row length that fits it. Dynamic programming over the histogram of lengths
    finds the optimum.
    """
    counts = np.bincount(lengths)
    values = np.flatnonzero(counts)
    cumulative = np.concatenate([[0], np.cumsum(counts[values])])
    # cost[j]: minimum padded size of the j shortest lengths; splits[k][j]: where the last of k + 1 buckets starts.
    cost = np.concatenate([[0], cumulative[1:] * values]).astype(float)
    splits = [np.zeros(len(cost), int)]
    for _ in range(min(buckets, len(values)) - 1):
        candidates = cost[:, None] + (cumulative[None, 1:] - cumulative[:, None]) * values[None, :]
        candidates[np.arange(len(cost))[:, None] > np.arange(len(values))[None, :]] = np.inf
        splits.append(np.concatenate([[0], candidates.argmin(axis=0)]))
        cost = np.concatenate([[0], candidates.min(axis=0)])
    bounds = []
    end = len(values)
    while end:
        bounds.append(int(values[end - 1]))
        end = splits.pop()[end] if splits else 0
    return bounds[::-1]


def plan_rows(rows: Ragged, shape: BatchShape) -> list[BatchPlan]:
    """Plan batches of consecutive rows. The last batch can have fewer rows than its shape."""
    return [BatchPlan(shape, rows.slice(start, start + shape.rows)) for start in range(0, len(rows), shape.rows)]


def plan_buckets(pairs: EncodedPairs, order: Int[np.ndarray, "P"], shapes: Sequence[BatchShape]) -> list[BatchPlan]:
    """Plan batches with one sentence pair per row.

    Pairs that do not fill the last batch of a bucket move to the next larger shape, so only the very last batch has
    empty rows.

    order: indices of the pairs, in the order in which they fill the batches.
    shapes: from the smallest to the largest; the largest fits all pairs.
    """
    source, target = pairs.lengths()
    plans: list[BatchPlan] = []
    remaining = order
    for shape in shapes:
        fits = (source[remaining] <= shape.source) & (target[remaining] <= shape.target)
        bucket, remaining = remaining[fits], remaining[~fits]
        is_last = shape is shapes[-1]
        count = len(bucket) if is_last else len(bucket) - len(bucket) % shape.rows
        plans += plan_rows(Ragged(bucket[:count], np.arange(count + 1)), shape)
        remaining = np.concatenate([bucket[count:], remaining])
    assert not len(remaining), "the last shape fits the longest sentence"
    return plans


def bucket_shapes(pairs: EncodedPairs, buckets: int, batch_tokens: int, batch_multiple: int) -> list[BatchShape]:
    """Return at most ``buckets`` batch shapes, from short rows to long ones.

    batch_tokens: approximate number of target positions per batch.
    batch_multiple: the number of rows is a multiple of it, so that the rows can be sharded over devices.
    """
    source, target = pairs.lengths()
    longer = np.maximum(source, target)
    shapes = []
    for bound in bucket_bounds(longer, buckets):
        fits = longer <= bound
        widths = BatchShape(0, int(source[fits].max()), int(target[fits].max()))
        shapes.append(widths._replace(rows=max(1, batch_tokens // widths.target // batch_multiple) * batch_multiple))
    return shapes


def pack_rows(pairs: EncodedPairs, order: Int[np.ndarray, "M"], length: int) -> Ragged:
    """Pack pairs into rows of ``length`` positions, longest pairs first, each into the fullest row with enough space.

    order: indices of the pairs to pack.
    Returns the indices of the pairs in each row. Pairs with equal source and target lengths are placed together, so the
    running time hardly depends on the number of pairs.
    Source: best-fit decreasing over a histogram, after Krell et al. 2021 (arXiv 2107.02027), in two dimensions.
    """
    source, target = (lengths[order].astype(int) for lengths in pairs.lengths())
    row_of_pair = np.empty(len(order), int)
    row_count = 0
    # Rows by their free positions (source, target), and the sum of the two: infinite if no row has this much room.
    rows_by_room: dict[tuple[int, int], Int[np.ndarray, "R"]] = {}
    total_room = np.full((length + 1, length + 1), np.inf)
    # Several rounds of random pairs: a single round would put the same sizes together in thousands of rows. Long rows
    # contain many pairs, so they need more rounds.
    for members in np.array_split(np.arange(len(order)), min(-(-length // 4), len(order))):
        x, y = source[members], target[members]
        for group in _group_by(members, np.maximum(x, y), x + y, x):
            s, t = int(source[group[0]]), int(target[group[0]])
            while len(group):
                fitting = total_room[s:, t:]
                best_s, best_t = np.unravel_index(fitting.argmin(), fitting.shape)
                room = (int(best_s) + s, int(best_t) + t)
                if total_room[room] == np.inf:
                    room = (length, length)
                    chosen = row_count + np.arange(len(group))
                    row_count += len(group)
                else:
                    chosen, unused = np.split(rows_by_room[room], [len(group)])
                    rows_by_room[room] = unused
                    total_room[room] = sum(room) if len(unused) else np.inf
                row_of_pair[group[: len(chosen)]] = chosen
                group = group[len(chosen) :]
                left = (room[0] - s, room[1] - t)
                rows_by_room[left] = np.concatenate([rows_by_room.get(left, chosen[:0]), chosen])
                total_room[left] = sum(left)
    by_row = order[np.argsort(row_of_pair, kind="stable")]
    return Ragged(by_row, np.concatenate([[0], np.cumsum(np.bincount(row_of_pair))]))


def _group_by(members: Int[np.ndarray, "M"], *keys: Int[np.ndarray, "M"]) -> list[Int[np.ndarray, "A"]]:
    """Group members with equal keys, in descending order of the keys."""
    by_key = np.lexsort([-key for key in reversed(keys)])
    changes = np.any([np.diff(key[by_key]) for key in keys], axis=0)
    return np.split(members[by_key], np.flatnonzero(changes) + 1)
