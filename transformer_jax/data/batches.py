"""From token ids to batches of few shapes with little padding.

Axes: B rows, S source positions, T target positions, P pairs, M some of them, N tokens.

An epoch may have millions of pairs, so whatever is done for each of them is done by numpy, in flat arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from transformer_jax.data.sources import Pair
from transformer_jax.data.tokenizers import Tokenizer, Tokenizers


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


@dataclass(frozen=True)
class Ragged:
    """Lists of integers in two flat arrays, so that millions of lists take no object each: list n is
    ``values[ends[n] : ends[n + 1]]``.
    """

    values: Integer[np.ndarray, "N"]
    ends: Int[np.ndarray, "E"]

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, number: int) -> Integer[np.ndarray, "S"]:
        return self.values[self.ends[number] : self.ends[number + 1]]

    def lengths(self) -> Int[np.ndarray, "L"]:
        """Number of values in each list."""
        return np.diff(self.ends)

    def part(self, start: int, stop: int) -> Ragged:
        """The lists from ``start`` up to ``stop``, or as many of them as there are."""
        ends = self.ends[min(start, len(self)) : stop + 1]
        return Ragged(self.values[ends[0] : ends[-1]], ends - ends[0])

    def take(self, numbers: Int[np.ndarray, "M"]) -> Ragged:
        """The lists of these numbers, in this order."""
        lengths = self.ends[numbers + 1] - self.ends[numbers]
        ends = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(ends[-1]) + np.repeat(self.ends[numbers] - ends[:-1], lengths)
        return Ragged(self.values[places], ends)


class Plan(NamedTuple):
    """A batch before it is filled: its shape, and the numbers of the pairs that each row holds. Rows may be missing at
    the end.
    """

    shape: Shape
    rows: Ragged


class EncodedPairs(NamedTuple):
    """Sentence pairs as ids: the source as x1 ... xn [EOS], the target as [SOS] y1 ... yn [EOS]."""

    source: Ragged
    target: Ragged

    def __len__(self) -> int:
        return len(self.source)

    def lengths(self) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
        """Positions that each pair takes in a row of the source and of the target."""
        return self.source.lengths(), self.target.lengths() - 1


BLOCK = 10_000
"""Pairs encoded at a time."""


def encoded_blocks(
    pairs: Iterable[Pair], tokenizers: Tokenizers, max_length: int | None
) -> Iterator[tuple[EncodedPairs, int]]:
    """Encode a corpus that need not fit the memory, block by block; with each, how many of its pairs were left out:
    longer than ``max_length`` positions, or empty, on a side.

    With ``max_length`` None nothing is left out: a validation or test set is scored whole.
    """
    rest = iter(pairs)
    while part := list(itertools.islice(rest, BLOCK)):
        x = _encode(tokenizers.source, [pair.source for pair in part])
        y = _encode(tokenizers.target, [pair.target for pair in part])
        if max_length is not None:
            shorter, longer = np.sort([x.lengths(), y.lengths()], axis=0)
            kept = np.flatnonzero((shorter > 0) & (longer < max_length))
            x, y = x.take(kept), y.take(kept)
        y = _insert(y, y.ends[1:], tokenizers.target.eos_id)
        block = EncodedPairs(
            _insert(x, x.ends[1:], tokenizers.source.eos_id), _insert(y, y.ends[:-1], tokenizers.target.sos_id)
        )
        yield block, len(part) - len(block)


def encode_pairs(pairs: Iterable[Pair], tokenizers: Tokenizers, max_length: int | None) -> tuple[EncodedPairs, int]:
    """All blocks as one, in memory, and how many pairs were left out."""
    blocks, left_out = zip(*encoded_blocks(pairs, tokenizers, max_length), strict=True)
    return EncodedPairs(*map(_joined, zip(*blocks, strict=True))), sum(left_out)


def id_type(tokenizer: Tokenizer) -> np.dtype:
    """The smallest type that holds all ids: two bytes for most vocabularies."""
    return np.min_scalar_type(len(tokenizer) - 1)


def _encode(tokenizer: Tokenizer, texts: list[str]) -> Ragged:
    lists = tokenizer.encode(texts)
    ids = np.fromiter(itertools.chain.from_iterable(lists), id_type(tokenizer))
    return Ragged(ids, np.cumsum([0, *map(len, lists)]))


def _insert(sentences: Ragged, places: Int[np.ndarray, "L"], token: int) -> Ragged:
    """One token more in each sentence."""
    return Ragged(np.insert(sentences.values, places, token), sentences.ends + np.arange(len(sentences) + 1))


def _joined(parts: Sequence[Ragged]) -> Ragged:
    lengths = np.concatenate([part.lengths() for part in parts])
    return Ragged(np.concatenate([part.values for part in parts]), np.concatenate([[0], np.cumsum(lengths)]))


def fill(pairs: EncodedPairs, plan: Plan) -> Batch:
    """Gather the sentences of a plan; rows that the plan leaves out are padding."""
    rows, source, target = plan.shape
    x, y = pairs.source.take(plan.rows.values), pairs.target.take(plan.rows.values)
    inputs, outputs = np.delete(y.values, y.ends[1:] - 1), np.delete(y.values, y.ends[:-1])
    return Batch(
        *_lay_out((rows, source), plan.rows, x.lengths(), x.values),
        *_lay_out((rows, target), plan.rows, y.lengths() - 1, inputs, outputs),
    )


def _lay_out(
    shape: tuple[int, int], rows: Ragged, lengths: Int[np.ndarray, "M"], *values: Integer[np.ndarray, "N"]
) -> Int[np.ndarray, "K B S"]:
    """Write the sentences of each row, of which ``values`` holds the tokens, one after the other.

    Returns one array for each of ``values``, then one of segments and one of positions.
    """
    sentences = np.arange(len(lengths))
    row = np.repeat(np.arange(len(rows)), rows.lengths())
    first = rows.ends[row]  # The first sentence in the row of each sentence.
    starts = np.cumsum(lengths) - lengths
    of = np.repeat(sentences, lengths)  # The sentence of each token.
    tokens = np.arange(len(of))
    arrays = np.zeros((len(values) + 2, *shape), np.int32)
    arrays[:, row[of], tokens - starts[first[of]]] = [*values, (1 + sentences - first)[of], tokens - starts[of]]
    return arrays


def bucket_bounds(lengths: Int[np.ndarray, "P"], buckets: int) -> list[int]:
    """The row lengths, at most ``buckets`` of them, that leave the least padding if each sentence takes the next
    longer one.

    Exact, by dynamic programming over the histogram of lengths.
    """
    counts = np.bincount(lengths)
    values = np.flatnonzero(counts)
    before = np.concatenate([[0], np.cumsum(counts[values])])
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


def dealt(rows: Ragged, shape: Shape) -> list[Plan]:
    """Batches of the rows, one after the other; the last one may lack rows."""
    return [Plan(shape, rows.part(start, start + shape.rows)) for start in range(0, len(rows), shape.rows)]


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
        plans += dealt(Ragged(here[:full], np.arange(full + 1)), shape)
        waiting = np.concatenate([here[full:], waiting])
    assert not len(waiting), "the last shape holds the longest sentence"
    return plans


def bucket_shapes(pairs: EncodedPairs, buckets: int, batch_tokens: int, batch_multiple: int) -> list[Shape]:
    """A few shapes of about ``batch_tokens`` target tokens each, from short rows to long ones.

    batch_multiple: the number of rows is a multiple of it, so that devices can share them.
    """
    source, target = pairs.lengths()
    longest = np.maximum(source, target)
    shapes = []
    for bound in bucket_bounds(longest, buckets):
        within = longest <= bound
        width = Shape(0, int(source[within].max()), int(target[within].max()))
        shapes.append(width._replace(rows=max(1, batch_tokens // width.target // batch_multiple) * batch_multiple))
    return shapes


def packed(pairs: EncodedPairs, order: Int[np.ndarray, "M"], length: int) -> Ragged:
    """Rows of several of the pairs: each goes where it leaves the least room, the longest first.

    Pairs of one size, source and target alike, are placed at once, so the time hardly depends on their number.
    Source: best-fit decreasing over a histogram, after Krell et al. 2021 (arXiv 2107.02027), in two dimensions.
    """
    source, target = (lengths[order].astype(int) for lengths in pairs.lengths())
    row = np.empty(len(order), int)
    rows = 0
    open_rows: dict[tuple[int, int], Int[np.ndarray, "R"]] = {}
    # By the room of a row on both sides: their sum, or infinity where no row has that room.
    room = np.full((length + 1, length + 1), np.inf)
    # In several rounds of random pairs: one alone would put the same sizes together in thousands of rows. Long rows,
    # which hold many pairs, need more of them.
    for part in np.array_split(np.arange(len(order)), min(-(-length // 4), len(order))):
        x, y = source[part], target[part]
        for alike in _alike(part, np.maximum(x, y), x + y, x):
            s, t = int(source[alike[0]]), int(target[alike[0]])
            while len(alike):
                fitting = room[s:, t:]
                before_s, before_t = np.unravel_index(fitting.argmin(), fitting.shape)
                before = (int(before_s) + s, int(before_t) + t)
                if room[before] == np.inf:
                    before = (length, length)
                    chosen = np.arange(rows, rows := rows + len(alike))
                else:
                    chosen, left = np.split(open_rows[before], [len(alike)])
                    open_rows[before] = left
                    room[before] = sum(before) if len(left) else np.inf
                row[alike[: len(chosen)]] = chosen
                alike = alike[len(chosen) :]
                after = (before[0] - s, before[1] - t)
                open_rows[after] = np.concatenate([open_rows.get(after, chosen[:0]), chosen])
                room[after] = sum(after)
    members = order[np.argsort(row, kind="stable")]
    return Ragged(members, np.concatenate([[0], np.cumsum(np.bincount(row))]))


def _alike(numbers: Int[np.ndarray, "M"], *keys: Int[np.ndarray, "M"]) -> list[Int[np.ndarray, "A"]]:
    """Numbers with the same keys together, those with the largest keys first."""
    by_key = np.lexsort([-key for key in reversed(keys)])
    changes = np.any([np.diff(key[by_key]) for key in keys], axis=0)
    return np.split(numbers[by_key], np.flatnonzero(changes) + 1)
