"""From token ids to batches of few shapes with little padding.

Axes: B rows, S source positions, T target positions, P pairs, N tokens of one side of a corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from transformer_jax.data.sources import Pair
from transformer_jax.data.tokenizers import Tokenizers


class Batch(NamedTuple):
    """Rows of one sentence pair each, or of several when packed.

    Segments number the sentences of a row from 1, and are 0 on padding; a target position counts in the loss if its
    segment is not 0. Positions count from 0 within each sentence. ``target_input`` is [SOS] y1 ... yn,
    ``target_output`` the token to be predicted at each position: y1 ... yn [EOS]. The source ends with [EOS].
    """

    source: Int[np.ndarray, "B S"]
    source_segments: Int[np.ndarray, "B S"]
    source_positions: Int[np.ndarray, "B S"]
    target_input: Int[np.ndarray, "B T"]
    target_output: Int[np.ndarray, "B T"]
    target_segments: Int[np.ndarray, "B T"]
    target_positions: Int[np.ndarray, "B T"]


class Shape(NamedTuple):
    """The shape of a batch: one compiled program each."""

    rows: int
    source: int
    target: int


class Plan(NamedTuple):
    """Batches before they are filled: a shape, and the pairs that each row holds."""

    shape: Shape
    rows: list[list[int]]


class Sentences(NamedTuple):
    """One side of a corpus in two flat arrays, so that millions of sentences take no object each."""

    ids: Int[np.ndarray, "N"]
    ends: Int[np.ndarray, "P+1"]

    def __len__(self) -> int:
        return len(self.ends) - 1

    def sentence(self, index: int) -> Int[np.ndarray, "S"]:
        """The ids of one sentence."""
        return self.ids[self.ends[index] : self.ends[index + 1]]

    def lengths(self) -> Int[np.ndarray, "P"]:
        """Tokens in each sentence."""
        return np.diff(self.ends)


class EncodedPairs(NamedTuple):
    """Sentence pairs as ids: the source as x1 ... xn [EOS], the target as [SOS] y1 ... yn [EOS]."""

    source: Sentences
    target: Sentences

    def __len__(self) -> int:
        return len(self.source)

    def lengths(self) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
        """Positions that each pair takes in a row of the source and of the target."""
        return self.source.lengths(), self.target.lengths() - 1


def encode_pairs(pairs: Sequence[Pair], tokenizers: Tokenizers, max_length: int | None) -> tuple[EncodedPairs, int]:
    """Encode a corpus; also returns how many pairs were left out: longer than ``max_length`` positions, or empty, on
    a side.

    With ``max_length`` None nothing is left out: a validation or test set is scored whole.
    """
    source, target = tokenizers
    sources: list[list[int]] = []
    targets: list[list[int]] = []
    chunk = 10_000
    for start in range(0, len(pairs), chunk):
        part = [pairs[index] for index in range(start, min(start + chunk, len(pairs)))]
        encoded = zip(
            source.encode([pair.source for pair in part]), target.encode([pair.target for pair in part]), strict=True
        )
        for x, y in encoded:
            if max_length is None or (x and y and max(len(x), len(y)) < max_length):
                sources.append([*x, source.eos_id])
                targets.append([target.sos_id, *y, target.eos_id])
    return EncodedPairs(_flatten(sources), _flatten(targets)), len(pairs) - len(sources)


def _flatten(sentences: list[list[int]]) -> Sentences:
    ends = np.cumsum([0, *map(len, sentences)])
    ids = np.fromiter((token for sentence in sentences for token in sentence), np.int32, count=ends[-1])
    return Sentences(ids, ends)


def fill(pairs: EncodedPairs, plan: Plan) -> Batch:
    """Gather the sentences of a plan; rows that the plan leaves out are padding."""
    shape = plan.shape
    source, source_segments, source_positions = np.zeros((3, shape.rows, shape.source), np.int32)
    target_input, target_output, target_segments, target_positions = np.zeros((4, shape.rows, shape.target), np.int32)
    for row, members in enumerate(plan.rows):
        s = t = 0
        for segment, index in enumerate(members, start=1):
            x, y = pairs.source.sentence(index), pairs.target.sentence(index)
            in_source, in_target = slice(s, s := s + len(x)), slice(t, t := t + len(y) - 1)
            source[row, in_source] = x
            source_segments[row, in_source] = segment
            source_positions[row, in_source] = np.arange(len(x))
            target_input[row, in_target] = y[:-1]
            target_output[row, in_target] = y[1:]
            target_segments[row, in_target] = segment
            target_positions[row, in_target] = np.arange(len(y) - 1)
    return Batch(
        source, source_segments, source_positions, target_input, target_output, target_segments, target_positions
    )


def bucket_bounds(lengths: Int[np.ndarray, "P"], buckets: int) -> list[int]:
    """The row lengths, at most ``buckets`` of them, that leave the least padding if each sentence takes the next
    longer one.

    Exact, by dynamic programming over the histogram of lengths.
    """
    values, counts = np.unique(lengths, return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)])
    # cost[j]: least padded size of the j shortest lengths; splits[k][j]: where the last of k buckets then starts.
    cost = np.concatenate([[0], before[1:] * values]).astype(float)
    splits = [np.zeros(len(cost), int)]
    for _ in range(min(buckets, len(values)) - 1):
        candidates = cost[:, None] + (before[None, 1:] - before[:, None]) * values[None, :]
        candidates[np.arange(len(cost))[:, None] > np.arange(len(values))[None, :]] = np.inf
        splits.append(np.concatenate([[0], candidates.argmin(axis=0)]))
        cost = np.concatenate([[0], candidates.min(axis=0)])
    bounds = []
    end = len(values)
    while end:
        bounds.append(int(values[end - 1]))
        end = splits.pop()[end] if splits else 0
    return bounds[::-1]


def bucketed(pairs: EncodedPairs, order: Int[np.ndarray, "P"], shapes: Sequence[Shape]) -> list[Plan]:
    """Batches of one sentence a row. The sentences that do not fill a bucket's last batch move up to the next longer
    one, so that only the very last batch holds empty rows.
    """
    source, target = pairs.lengths()
    plans: list[Plan] = []
    waiting = order
    for shape in shapes:
        fits = (source[waiting] <= shape.source) & (target[waiting] <= shape.target)
        here, waiting = waiting[fits], waiting[~fits]
        last = shape is shapes[-1]
        full = len(here) if last else len(here) - len(here) % shape.rows
        plans += [
            Plan(shape, [[int(index)] for index in here[start : start + shape.rows]])
            for start in range(0, full, shape.rows)
        ]
        waiting = np.concatenate([here[full:], waiting])
    assert not len(waiting), "the last shape holds the longest sentence"
    return plans


def bucket_shapes(pairs: EncodedPairs, buckets: int, batch_tokens: int, divisor: int) -> list[Shape]:
    """A few shapes of about ``batch_tokens`` target tokens each, from short rows to long ones.

    divisor: the number of rows is a multiple of it, so that devices can share them.
    """
    source, target = pairs.lengths()
    longest = np.maximum(source, target)
    shapes = []
    for bound in bucket_bounds(longest, buckets):
        within = longest <= bound
        width = Shape(0, int(source[within].max()), int(target[within].max()))
        shapes.append(width._replace(rows=max(1, batch_tokens // width.target // divisor) * divisor))
    return shapes


def packed(pairs: EncodedPairs, order: Int[np.ndarray, "P"], length: int) -> list[list[int]]:
    """Rows of several sentences: each goes into the first open row with room on both sides.

    At most 64 rows are open at a time, which keeps this linear and still fills rows well.
    """
    source, target = pairs.lengths()
    rows: list[list[int]] = []
    room: list[tuple[int, int, list[int]]] = []
    for index in order:
        x, y = int(source[index]), int(target[index])
        for place, (s, t, row) in enumerate(room):
            if x <= s and y <= t:
                row.append(int(index))
                room[place] = (s - x, t - y, row)
                break
        else:
            rows.append([int(index)])
            room.append((length - x, length - y, rows[-1]))
            if len(room) > 64:
                room.remove(min(room, key=lambda entry: entry[0] + entry[1]))
    return rows
