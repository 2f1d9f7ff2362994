"""Batches contain every pair once per epoch, in few shapes, with little padding."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_jax.config import DataConfig
from transformer_jax.data.batches import (
    BatchPlan,
    BatchShape,
    EncodedPairs,
    Ragged,
    bucket_bounds,
    bucket_shapes,
    encode_pairs,
    fill_batch,
    pack_rows,
    plan_buckets,
)
from transformer_jax.data.pipeline import Shard, TrainingBatches, evaluation_batches, training_iterator
from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.data.sources import Pair
from transformer_jax.data.tokenizers import Tokenizer

START, END = 2, 3


def sentences(rows):
    return Ragged(np.array([token for row in rows for token in row], np.int32), np.cumsum([0, *map(len, rows)]))


def corpus(lengths, seed=0):
    """Return pairs with the given lengths, which include [EOS]. Tokens are random, so that pairs differ."""
    random = np.random.default_rng(seed)
    source = [[*random.integers(4, 1000, s - 1), END] for s, _ in lengths]
    target = [[START, *random.integers(4, 1000, t - 1), END] for _, t in lengths]
    return EncodedPairs(sentences(source), sentences(target))


def random_corpus(count, max_length=23, seed=0):
    return corpus(np.random.default_rng(seed).integers(1, max_length + 1, (count, 2)).tolist(), seed)


def pairs_in(batch):
    """Return the pairs of a batch as tuples of ids, separated by segment."""
    pairs = []
    for row in range(len(batch.source)):
        for segment in range(1, batch.source_segments[row].max() + 1):
            x = batch.source[row][batch.source_segments[row] == segment]
            y = batch.target_output[row][batch.target_segments[row] == segment]
            pairs.append((tuple(x.tolist()), tuple(y.tolist())))
    return pairs


def all_pairs(pairs):
    return [
        (tuple(pairs.source[index].tolist()), tuple(pairs.target[index][1:].tolist())) for index in range(len(pairs))
    ]


def test_encoding_adds_special_tokens_and_excludes_pairs():
    tokenizer = Tokenizer.train("word", ["a b c d e"] * 2, size=11)
    a, b, c = (tokenizer.encode([word])[0][0] for word in "abc")
    texts = [Pair("a b", "c"), Pair("a b c d e", "a"), Pair("", "a"), Pair("c", "b")]
    encoded, left_out = encode_pairs(texts, Tokenizers(tokenizer, tokenizer), max_length=4)
    assert left_out == 2
    assert encoded.source[0].tolist() == [a, b, END]
    assert encoded.target[0].tolist() == [START, c, END]
    assert encoded.source[1].tolist() == [c, END]
    unsharded, left_out = encode_pairs(texts, Tokenizers(tokenizer, tokenizer), max_length=None)
    assert (len(unsharded), left_out) == (4, 0)


def test_filled_batch_has_inputs_outputs_and_segments():
    pairs = EncodedPairs(sentences([[5, 6, 3], [7, 3]]), sentences([[2, 8, 3], [2, 9, 10, 3]]))
    batch = fill_batch(pairs, BatchPlan(BatchShape(3, 7, 5), sentences([[0, 1], [1]])))
    assert batch.source.tolist() == [[5, 6, 3, 7, 3, 0, 0], [7, 3, 0, 0, 0, 0, 0], [0] * 7]
    assert batch.source_segments.tolist() == [[1, 1, 1, 2, 2, 0, 0], [1, 1, 0, 0, 0, 0, 0], [0] * 7]
    assert batch.source_positions.tolist() == [[0, 1, 2, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0, 0], [0] * 7]
    assert batch.target_input.tolist() == [[2, 8, 2, 9, 10], [2, 9, 10, 0, 0], [0] * 5]
    assert batch.target_output.tolist() == [[8, 3, 9, 10, 3], [9, 10, 3, 0, 0], [0] * 5]
    assert batch.target_segments.tolist() == [[1, 1, 2, 2, 2], [1, 1, 1, 0, 0], [0] * 5]
    assert batch.target_positions.tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 0, 0], [0] * 5]


@given(st.lists(st.integers(1, 13), min_size=1, max_size=40), st.integers(1, 5))
def test_bucket_bounds_minimize_padding(lengths, buckets):
    def padded(bounds):
        return sum(min(bound for bound in bounds if bound >= length) for length in lengths)

    bounds = bucket_bounds(np.array(lengths), buckets)
    assert len(bounds) <= buckets
    assert bounds == sorted(set(bounds))
    values = sorted(set(lengths))
    others = itertools.combinations(values, min(buckets, len(values)))
    assert padded(bounds) == min(padded(choice) for choice in others if choice[-1] == values[-1])


@given(st.lists(st.tuples(st.integers(1, 13), st.integers(1, 13)), min_size=1, max_size=60), st.integers(1, 4))
def test_buckets_hold_every_pair_once_in_full_batches(lengths, buckets):
    pairs = corpus(lengths)
    shapes = bucket_shapes(pairs, buckets, batch_tokens=29, batch_multiple=1)
    plans = plan_buckets(pairs, np.random.default_rng(0).permutation(len(pairs)), shapes)
    assert sorted(index for plan in plans for index in plan.rows.values) == list(range(len(pairs)))
    assert all(len(plan.rows) == plan.shape.rows for plan in plans[:-1])
    for plan in plans:
        fill_batch(pairs, plan)  # Raises if a sentence does not fit.


@given(st.lists(st.tuples(st.integers(1, 13), st.integers(1, 13)), min_size=1, max_size=90))
@settings(max_examples=50)
def test_packed_rows_hold_every_pair_once_and_fit(lengths):
    pairs = corpus(lengths)
    rows = pack_rows(pairs, np.arange(len(pairs)), 13)
    assert sorted(rows.values) == list(range(len(pairs)))
    assert all(sum(lengths[index][side] for index in row) <= 13 for row in rows for side in (0, 1))


def test_packing_fills_rows_almost_completely():
    pairs = random_corpus(2000)
    rows = pack_rows(pairs, np.arange(len(pairs)), 61)
    assert pairs.lengths()[1].sum() / (61 * len(rows)) > 0.93


def test_pairs_longer_than_a_row_go_into_longer_rows():
    pairs = corpus([(3, 7), (8, 2), (2, 13), (7, 7)])
    config = DataConfig(batch_tokens=29, max_length=17, row_length=7)
    batches = TrainingBatches(pairs, config, seed=0, batch_multiple=1)
    assert {tuple(shape) for shape in batches.shapes} == {(4, 7, 7), (1, 17, 17)}
    members = {plan.shape.target: set(plan.rows.values) for plan in batches.plans(0)}
    assert members[7] == {0, 3}
    assert {index for plan in batches.plans(0) if plan.shape.target == 17 for index in plan.rows.values} == {1, 2}


def packed_lengths(pairs, row_length, **options):
    config = DataConfig(batch_tokens=97, max_length=29, row_length=row_length)
    return list(TrainingBatches(pairs, config, seed=0, batch_multiple=1, **options).packed_rows)


def test_one_row_length_replaces_two_if_it_adds_little_padding():
    assert packed_lengths(random_corpus(211), row_length=19) == [23]


def test_two_row_lengths_stay_if_one_adds_padding():
    # 101 rows of 23 positions instead of 100 rows of 20 and one of 29: 2,323 positions instead of 2,029.
    assert packed_lengths(corpus([(20, 20)] * 100 + [(23, 23)]), row_length=20) == [20, 29]


@pytest.mark.parametrize(("count", "row_lengths"), [(100, [50]), (101, [49, 50])])
def test_one_row_length_may_add_two_percent_of_the_positions(count, row_lengths):
    # Two row lengths take 49 * 100 + 50 * 2 = 5,000 positions. One takes 100 more.
    pairs = corpus([(49, 49)] * count + [(50, 50)] * 2)
    config = DataConfig(batch_tokens=97, max_length=50, row_length=49)
    assert list(TrainingBatches(pairs, config, seed=0, batch_multiple=1).packed_rows) == row_lengths


def test_two_row_lengths_stay_if_rows_would_be_much_longer():
    assert packed_lengths(random_corpus(211), row_length=18) == [18, 29]


def test_row_lengths_of_a_resumed_run_are_kept():
    assert packed_lengths(random_corpus(211), row_length=19, row_lengths=[19, 29]) == [19, 29]
    assert packed_lengths(random_corpus(211), row_length=18, row_lengths=[23]) == [23]


def test_rows_are_a_multiple_of_batch_multiple():
    shapes = bucket_shapes(random_corpus(200), 3, batch_tokens=97, batch_multiple=8)
    assert all(shape.rows % 8 == 0 and shape.rows > 0 for shape in shapes)


@pytest.mark.parametrize("batching", ["buckets", "packed"])
class TestTraining:
    def batches(self, batching, seed=0, shard=None):
        config = DataConfig(batching=batching, batch_tokens=97, max_length=29, buckets=3)
        return TrainingBatches(random_corpus(211), config, seed, 2, shard or Shard())

    def test_an_epoch_holds_every_pair_once(self, batching):
        batches = self.batches(batching)
        for epoch in (0, 1):
            start = epoch * batches.batches_per_epoch
            epoch_batches = [batches[start + index] for index in range(batches.batches_per_epoch)]
            epoch_pairs = [pair for batch in epoch_batches for pair in pairs_in(batch)]
            assert sorted(epoch_pairs) == sorted(all_pairs(batches.pairs))

    def test_batches_depend_on_epoch_and_seed_only(self, batching):
        batches = self.batches(batching)
        first, again = batches[0], self.batches(batching)[0]
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        for other in (batches[batches.batches_per_epoch], self.batches(batching, seed=1)[0]):
            assert pairs_in(other) != pairs_in(first)

    def test_shards_together_form_the_global_batch(self, batching):
        unsharded = self.batches(batching)
        shards = [self.batches(batching, shard=Shard(process, 2)) for process in (0, 1)]
        for index in range(unsharded.batches_per_epoch):
            joined = [np.concatenate(halves) for halves in zip(*(shard[index] for shard in shards), strict=True)]
            assert all(np.array_equal(a, b) for a, b in zip(unsharded[index], joined, strict=True))

    def test_restored_iterator_continues_exactly(self, batching):
        iterator = training_iterator(self.batches(batching))
        for _ in range(7):
            next(iterator)
        state = iterator.get_state()
        expected = [next(iterator) for _ in range(5)]
        resumed = training_iterator(self.batches(batching))
        resumed.set_state(state)
        for batch in expected:
            assert all(np.array_equal(a, b) for a, b in zip(batch, next(resumed), strict=True))

    def test_padding_fraction_matches_the_batches(self, batching):
        batches = self.batches(batching)
        segments = [batches[index].target_segments for index in range(batches.batches_per_epoch)]
        empty = sum((batch == 0).sum() for batch in segments) / sum(batch.size for batch in segments)
        assert batches.padding_fraction() == pytest.approx(empty)


@pytest.mark.parametrize("batching", ["packed", "buckets"])
def test_other_device_counts_add_only_empty_rows(batching):
    config = DataConfig(batching=batching, batch_tokens=23 * 5, max_length=23, row_length=23)
    planned = TrainingBatches(random_corpus(211), config, 0, 1)
    on_eight_devices = TrainingBatches(random_corpus(211), config, 0, 1, devices=8)
    shards = [TrainingBatches(random_corpus(211), config, 0, 1, Shard(process, 2), 8) for process in range(2)]
    for index in range(planned.batches_per_epoch):
        batch, wider = planned[index], on_eight_devices[index]
        rows = len(batch.source)
        assert len(wider.source) % 8 == 0
        assert len(wider.source) - rows < 8
        for array, wider_array, *halves in zip(batch, wider, *(shard[index] for shard in shards), strict=True):
            np.testing.assert_array_equal(wider_array[:rows], array)
            assert not wider_array[rows:].any()
            np.testing.assert_array_equal(np.concatenate(halves), wider_array)


LENGTHS = st.lists(st.tuples(st.integers(1, 13), st.integers(1, 13)), min_size=1, max_size=60)


@given(LENGTHS, st.sampled_from(["buckets", "packed"]), st.integers(1, 5), st.integers(0, 3), st.integers(2, 13))
@settings(max_examples=60)
def test_every_pair_occurs_once_over_any_number_of_processes(lengths, batching, processes, seed, row_length):
    config = DataConfig(batching=batching, batch_tokens=71, max_length=13, buckets=3, row_length=row_length)
    shards = [
        TrainingBatches(corpus(lengths), config, seed, processes, Shard(process, processes))
        for process in range(processes)
    ]
    unsharded = TrainingBatches(corpus(lengths), config, seed, processes)
    for epoch in (0, 1):
        epoch_pairs = []
        for index in range(epoch * unsharded.batches_per_epoch, (epoch + 1) * unsharded.batches_per_epoch):
            batches = [shard[index] for shard in shards]
            epoch_pairs += [pair for batch in batches for pair in pairs_in(batch)]
            for sharded_rows, all_rows in zip(zip(*batches, strict=True), unsharded[index], strict=True):
                assert np.array_equal(np.concatenate(sharded_rows), all_rows)
        assert sorted(epoch_pairs) == sorted(all_pairs(unsharded.pairs))


@given(LENGTHS, st.sampled_from(["buckets", "packed"]), st.lists(st.integers(0, 5), min_size=1, max_size=4))
@settings(max_examples=40)
def test_no_pair_is_lost_or_repeated_when_training_resumes(lengths, batching, runs):
    def start():
        config = DataConfig(batching=batching, batch_tokens=31, max_length=13, buckets=2)
        return TrainingBatches(corpus(lengths), config, seed=0, batch_multiple=1)

    batches, received, state = start(), [], training_iterator(start()).get_state()
    for steps in [*runs, start().batches_per_epoch]:
        iterator = training_iterator(start())
        iterator.set_state(state)
        received += [next(iterator) for _ in range(steps)]
        state = iterator.get_state()
    for index, batch in enumerate(received):
        assert all(np.array_equal(a, b) for a, b in zip(batch, batches[index], strict=True))
    epoch = [pair for batch in received[: batches.batches_per_epoch] for pair in pairs_in(batch)]
    assert sorted(epoch) == sorted(all_pairs(batches.pairs))


def test_evaluation_contains_every_pair_once():
    pairs = corpus([(3, 5), (200, 211), (7, 2), (1, 1)])
    batches = list(evaluation_batches(pairs, batch_tokens=31, batch_multiple=2))
    assert sorted(pair for batch in batches for pair in pairs_in(batch)) == sorted(all_pairs(pairs))


def test_evaluation_limits_rows_by_the_longer_side():
    pairs = corpus([(997, 3), (3, 5), (7, 2), (1, 1)])
    batches = list(evaluation_batches(pairs, batch_tokens=101, batch_multiple=2))
    assert sorted(pair for batch in batches for pair in pairs_in(batch)) == sorted(all_pairs(pairs))
    assert {len(batch.source) for batch in batches} == {2}
