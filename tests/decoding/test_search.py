"""Search over any number of sentences: results in order, in batches of few shapes."""

import math

import jax
import numpy as np
import pytest
from uncached import EOS, SPECIAL_IDS, assert_same, reference_beam_search, reference_greedy

from transformer_jax.decoding import search as search_module
from transformer_jax.decoding.search import LENGTH_BUCKETS, MARGIN, Sampling, compile_search, max_target_length, search
from transformer_jax.decoding.slot_loop import Hypothesis, LoopShape
from transformer_jax.errors import InputError
from transformer_jax.runtime import memory

A = 4
FIRST, SECOND, *_, LAST = LENGTH_BUCKETS


@pytest.fixture
def recorded(monkeypatch, dice):
    """A simulated search, which translates each source to its first token, and the shapes of its loops."""
    shapes = []

    def simulated(search_model, method, requests, shape):
        shapes.append((shape, [len(request.source) for request in requests]))
        for request in requests:
            yield request, [Hypothesis((request.source[0], EOS), float(request.length_limit))]

    monkeypatch.setattr(search_module, "translate_few", simulated)
    monkeypatch.setattr(search_module, "translate_many", simulated)

    def call(lengths, slots=None):
        return search(*dice(eos=1.0), sources_of(lengths), SPECIAL_IDS, 1, 0.6, slots=slots)

    return call, shapes


def sources_of(lengths):
    """Return one source per length. The first token is the index of the source plus 4."""
    return [(index + 4, *[A] * (length - 2), EOS) for index, length in enumerate(lengths)]


@pytest.mark.parametrize("sentences", [0, 1, 7, 65, 200])
def test_results_of_any_number_of_sentences_are_in_order(sentences, recorded):
    call, _ = recorded
    lengths = np.random.default_rng(0).integers(2, 301, sentences).tolist()
    hypotheses = [best for [best] in call(lengths)]
    assert [hypothesis.ids for hypothesis in hypotheses] == [(index + 4, EOS) for index in range(sentences)]
    assert [hypothesis.score for hypothesis in hypotheses] == [max_target_length(length) for length in lengths]


def test_loops_have_few_shapes_and_translate_all_sentences(recorded):
    call, shapes = recorded
    lengths = [length for length in range(2, 128) for _ in range(5)]
    call(lengths)
    assert {shape.slots for shape, _ in shapes} <= {1, 8, 64}
    assert {shape.source_length for shape, _ in shapes} <= set(LENGTH_BUCKETS)
    assert sorted(length for _, group in shapes for length in group) == lengths


@pytest.mark.parametrize(
    ("length", "padded_length"),
    [(2, FIRST), (FIRST, FIRST), (FIRST + 1, SECOND), (LAST, LAST), (LAST + 1, 2 * LAST), (2 * LAST + 1, 3 * LAST)],
)
def test_sources_are_padded_to_the_next_bucket_or_multiple(length, padded_length, recorded):
    call, shapes = recorded
    call([length])
    columns = padded_length + MARGIN if padded_length <= LAST else max_target_length(padded_length)
    assert shapes == [(LoopShape(1, padded_length, columns), [length])]


def test_a_cut_translation_is_repeated_with_twice_the_length(monkeypatch, dice):
    shapes = []

    def simulated(search_model, method, requests, shape):
        for request in requests:
            shapes.append((request.number, shape.source_length))
            fits = request.length_limit <= shape.columns
            yield request, [Hypothesis((A, EOS), 0.0)] if fits else None

    monkeypatch.setattr(search_module, "translate_few", simulated)
    monkeypatch.setattr(search_module, "loop_devices", lambda: jax.devices()[:1])
    lengths = [2, FIRST, SECOND, LAST, LAST + 1]
    search(*dice(eos=1.0), sources_of(lengths), SPECIAL_IDS, 1, 0.6)
    assert sorted(shapes) == [
        (0, FIRST),
        (1, FIRST),
        (1, 2 * FIRST),
        (2, SECOND),
        (2, 2 * SECOND),
        (3, LAST),
        (3, 2 * LAST),
        (4, 2 * LAST),
    ]


def test_the_number_of_slots_depends_on_the_number_of_sentences(recorded, monkeypatch):
    monkeypatch.setattr(search_module, "loop_devices", lambda: jax.devices()[:1] * 2)
    call, shapes = recorded

    def slots(sentences, **options):
        shapes.clear()
        call([5] * sentences, **options)
        assert sum(len(group) for _, group in shapes) == sentences
        return [shape.slots for shape, _ in shapes]

    assert [slots(sentences) for sentences in (1, 8, 9, 65, 200)] == [[1], [8], [8, 8], [64, 8], [64, 64]]
    assert slots(200, slots=17) == [17, 17]
    assert slots(3, slots=1) == [1, 1]
    assert slots(12, slots=5) == [5, 5]
    assert slots(9, slots=5) == [5, 5]


def test_every_device_decodes_its_share(random_case, monkeypatch):
    case, used = random_case(spread=1.0), set()
    sources = [(A, *[7] * (number % 5), EOS) for number in range(17)]
    expected = search(*case, sources, SPECIAL_IDS, 3, 0.6)
    original = search_module.translate_few

    def recorded(search_model, *arguments):
        used.update(device for leaf in jax.tree.leaves(search_model.params) for device in leaf.devices())
        return original(search_model, *arguments)

    monkeypatch.setattr(search_module, "translate_few", recorded)
    monkeypatch.setattr(search_module, "loop_devices", lambda: jax.devices()[:3])
    for hypotheses, others in zip(search(*case, sources, SPECIAL_IDS, 3, 0.6), expected, strict=True):
        assert_same(hypotheses, others)
    assert used == set(jax.devices()[:3])


@pytest.mark.parametrize(("sentences", "beam"), [(3, 3), (41, 1)])
def test_search_compiles_nothing_after_compile_search(sentences, beam, random_case, monkeypatch, caplog):
    device = jax.devices()[1]
    monkeypatch.setattr(search_module, "loop_devices", lambda: [device])
    model, params = random_case(spread=1.0)
    sources = [(A, *[7] * (number % 5), EOS) for number in range(sentences)]
    compile_search(model, jax.eval_shape(lambda: params), sources, SPECIAL_IDS, beam, 0.6)
    params = jax.device_put(params, device)
    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        search(model, params, sources, SPECIAL_IDS, beam, 0.6)
    assert not [record for record in caplog.records if record.message.startswith("Compiling jit(")]


def test_as_many_slots_and_loops_are_used_as_fit_in_memory(random_case, monkeypatch):
    model = random_case().model
    monkeypatch.setattr(search_module, "loop_devices", lambda: jax.devices()[:1] * 4)

    def plan(available, slots=None):
        monkeypatch.setattr(memory, "device_memory", lambda: available)
        return search_module._plan(model, 4, FIRST, 1000, slots)

    assert plan(None) == (4, 16)
    bytes_per_slot = search_module.bytes_per_slot(model, 4, LoopShape(16, FIRST, FIRST + MARGIN))
    assert plan(4 * 16 * bytes_per_slot) == (4, 16)
    assert plan(4 * 16 * bytes_per_slot - 1) == (4, 8)
    assert plan(4 * bytes_per_slot) == (4, 1)
    assert plan(4 * bytes_per_slot - 1) == (1, 1)
    with pytest.raises(InputError, match="not enough memory for beam size 4 with texts of up to 16 tokens"):
        plan(bytes_per_slot - 1)
    assert plan(4 * 100 * bytes_per_slot, slots=100) == (4, 100)
    with pytest.raises(InputError, match=r"not enough memory for 100 slots with beam size 4.*Lower --slots\."):
        plan(4 * 100 * bytes_per_slot - 1, slots=100)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_the_length_limit_depends_on_the_sentence_alone(beam_size, dice):
    # The model almost never ends by itself. The limits are 2 * 3 + 8 = 14 and 2 * 7 + 8 = 22.
    case = dice(eos=1e-6, a=1 - 1e-6)
    results = search(*case, [(A, A, EOS), (A,) * 6 + (EOS,)], SPECIAL_IDS, beam_size, 2.0)
    assert [len(best.ids) for best, *_ in results] == [14, 22]


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_a_beam_of_one_is_greedy(alpha, random_case, batch):
    case = random_case()
    source = batch[0][1]  # 2 tokens: the limit of 12 fits the 13 positions of the reference search.
    [hypotheses] = search(*case, [source], SPECIAL_IDS, 1, alpha)
    assert_same(hypotheses, [reference_greedy(case, source, max_target_length(len(source)))])


def test_each_sentence_gets_its_own_n_best_list(random_case):
    case = random_case(spread=1.0)
    sources = [(A, EOS), (7, EOS), (9, EOS)]
    for source, n_best in zip(sources, search(*case, sources, SPECIAL_IDS, 3, 0.6, n_best=3), strict=True):
        expected = reference_beam_search(case, source, max_target_length(2), 3, 0.6)
        assert [ids for ids, _ in n_best] == [ids for ids, _ in expected]
        assert [score for _, score in n_best] == pytest.approx([score for _, score in expected], rel=1e-4)


def test_a_draw_depends_on_its_seed_and_numbers_only(random_case):
    case = random_case(spread=0.5)
    key_numbers = [(text, part) for text in (0, 5) for part in range(5)]

    def draw(seed, key_numbers):
        sources = [(A, 7, EOS)] * len(key_numbers)
        results = search(*case, sources, SPECIAL_IDS, 1, 0.6, Sampling(seed=seed), key_numbers)
        return [hypothesis.ids for [hypothesis] in results]

    drawn = draw(0, key_numbers)
    assert drawn == draw(0, key_numbers)
    assert drawn == [draw(0, [numbers])[0] for numbers in key_numbers]
    assert drawn[::-1] == draw(0, key_numbers[::-1])
    assert len({tuple(draw(seed, key_numbers)) for seed in (0, 1, 2**31, 2**32 - 1)}) == 4
    assert drawn[:5] != drawn[5:]
    assert len(set(drawn)) > 1  # equal sentences are drawn independently


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e-9, math.inf, math.nan])
def test_sampling_options_out_of_range_are_refused(temperature):
    with pytest.raises(InputError, match=r"temperature to a number from 0\.001"):
        Sampling(temperature=temperature)
    with pytest.raises(InputError, match="top-k -1"):
        Sampling(top_k=-1)
