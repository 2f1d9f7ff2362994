from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from transformer_jax.config import ModelConfig
from transformer_jax.model.masks import segment_mask
from transformer_jax.model.transformer import ProjectionLayer, Transformer

# Axes: B batch, S source, T target, D model width, F feed-forward width, H heads, V target vocabulary, W hypotheses.
B, S, T, D, F, H, V, W = 3, 5, 7, 22, 19, 2, 17, 2
SOURCE_VOCABULARY = 13


def transformer(norm="post", share="none", encoder_layers=1, decoder_layers=2, dropout=0.1, dtype="float32"):
    config = ModelConfig(D, F, H, encoder_layers, decoder_layers, dropout, norm, share, dtype)
    return Transformer(config, V if share == "all" else SOURCE_VOCABULARY, V)


@partial(jax.jit, static_argnames=("model", "mutable"))
def apply(model, variables, *inputs, key=None, mutable=()):
    rngs = None if key is None else {"dropout": key}
    return model.apply(variables, *inputs, rngs=rngs, mutable=list(mutable))


def logits_of(model, variables, *inputs, key=None):
    return jax.device_get(apply(model, variables, *inputs, key=key)[0])


def segments(lengths, width):
    """One sentence a row, then padding."""
    return jnp.asarray((np.arange(width) < np.reshape(lengths, (-1, 1))).astype(np.int32))


@pytest.fixture(scope="module")
def batch():
    """Source, target and their segments; rows of different lengths, no token twice in a row."""
    generator = np.random.default_rng(0)
    source = np.stack([generator.permutation(SOURCE_VOCABULARY)[:S] for _ in range(B)])
    target = np.stack([generator.permutation(V)[:T] for _ in range(B)])
    return jnp.asarray(source), jnp.asarray(target), segments([5, 3, 4], S), segments([7, 4, 2], T)


@pytest.fixture(scope="module")
def post(batch, random_parameters):
    model = transformer()
    return model, random_parameters(model, *batch)


def test_decoder_cannot_see_later_target_tokens(post, batch):
    source, target, source_segments, target_segments = batch
    before = logits_of(*post, *batch)
    changed = target.at[:, 3].set((target[:, 3] + 1) % V)
    after = logits_of(*post, source, changed, source_segments, target_segments)
    assert_array_equal(after[:, :3], before[:, :3])
    seeing = np.arange(T) >= 3
    assert (np.abs(after - before).max(-1)[(np.asarray(target_segments) == 1) & seeing] > 1e-3).all()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_gradient_reaches_earlier_target_tokens_and_all_of_the_source_but_no_padding(norm, batch, random_parameters):
    source, target, source_segments, target_segments = (array[1:2] for array in batch)  # lengths 3 and 4
    model = transformer(norm)
    variables = random_parameters(model, source, target, source_segments, target_segments)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(V), jnp.float32)

    @jax.jit
    @jax.jacrev
    def jacobian(tables):
        # No token comes twice in a row, so each row of a table stands for one position.
        parameters = variables["params"] | {name: {"table": table} for name, table in tables.items()}
        return model.apply({"params": parameters}, source, target, source_segments, target_segments)[0] @ weights

    tables = {name: variables["params"][name]["table"] for name in ("source_embeddings", "target_embeddings")}
    sees = {name: (np.asarray(slope) != 0).any(-1) for name, slope in jacobian(tables).items()}
    on_source = sees["source_embeddings"][:, source[0]]  # [T, S]: which source tokens move which logits
    on_target = sees["target_embeddings"][:, target[0]]
    assert_array_equal(on_target[:4], np.tril(np.ones((4, T), dtype=bool)))
    assert_array_equal(on_source[:4], np.broadcast_to(np.arange(S) < 3, (4, S)))


def test_encoder_sees_the_whole_sentence_in_both_directions(post, batch):
    model, variables = post
    source, _, source_segments, _ = batch
    mask = segment_mask(source_segments, source_segments)
    encode = jax.jit(lambda source: model.apply(variables, source, mask, method="encode"))
    before = np.asarray(encode(source))
    for place in (0, 2):
        after = np.asarray(encode(source.at[:, place].set((source[:, place] + 1) % SOURCE_VOCABULARY)))
        assert (np.abs(after - before).max(-1)[np.asarray(source_segments) == 1] > 1e-3).all()


def test_what_stands_in_the_padding_does_not_matter(post, batch):
    source, target, source_segments, target_segments = batch
    other_source = jnp.where(source_segments == 1, source, (source + 1) % SOURCE_VOCABULARY)
    other_target = jnp.where(target_segments == 1, target, (target + 1) % V)
    real = np.asarray(target_segments) == 1
    before = logits_of(*post, *batch)
    after = logits_of(*post, other_source, other_target, source_segments, target_segments)
    assert_array_equal(after[real], before[real])
    assert np.isfinite(after).all()


def test_more_padding_does_not_matter(post, batch):
    wider = [jnp.pad(array, ((0, 0), (0, 4))) for array in batch]
    real = np.asarray(batch[3]) == 1
    assert_allclose(logits_of(*post, *wider)[:, :T][real], logits_of(*post, *batch)[real], atol=1e-5)


def test_sentences_packed_into_one_row_get_the_logits_of_each_alone(post, batch):
    # Three pairs of lengths 5, 3, 4 and 7, 4, 2 in rows of 17 and 19, with padding between the last two and at the end.
    def pack(rows, lengths, width):
        packed = {name: np.zeros((1, width), np.int32) for name in ("tokens", "segments", "positions")}
        places, end = [], 0
        for number, (row, length) in enumerate(zip(np.asarray(rows), lengths, strict=True), start=1):
            start = end if number < 3 else end + 2
            end = start + length
            place = slice(start, end)
            packed["tokens"][0, place] = row[:length]
            packed["segments"][0, place] = number
            packed["positions"][0, place] = np.arange(length)
            places.append(place)
        return jax.tree.map(jnp.asarray, packed), places

    source, target, *_ = batch
    packed_source, _ = pack(source, [5, 3, 4], 17)
    packed_target, places = pack(target, [7, 4, 2], 19)
    names = ("tokens", "segments", "positions")
    inputs = [side[name] for name in names for side in (packed_source, packed_target)]
    packed, alone = logits_of(*post, *inputs), logits_of(*post, *batch)
    for row, place in enumerate(places):
        assert_allclose(packed[0, place], alone[row, : place.stop - place.start], atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "share", "encoder_layers", "decoder_layers"),
    [
        ("post", "none", 1, 2),
        ("post", "target", 2, 1),
        ("post", "all", 1, 1),
        ("pre", "none", 2, 1),
        ("pre", "target", 1, 1),
        ("pre", "all", 1, 2),
    ],
)
def test_steps_with_a_cache_give_the_logits_of_the_whole_pass(
    norm, share, encoder_layers, decoder_layers, batch, random_parameters
):
    source, _, source_segments, _ = batch
    model = transformer(norm, share, encoder_layers, decoder_layers)
    variables = random_parameters(model, *batch)
    prefixes = jnp.asarray(np.random.default_rng(2).integers(V, size=(B, W, T)))  # each hypothesis its own
    everything = jnp.ones((B * W, T), jnp.int32)

    @jax.jit
    def whole_and_stepwise():
        sources, sources_segments = (jnp.repeat(array, W, axis=0) for array in (source, source_segments))
        whole = model.apply(variables, sources, prefixes.reshape(B * W, T), sources_segments, everything)
        memory = model.apply(variables, source, segment_mask(source_segments, source_segments), method="encode")
        source_mask = segment_mask(jnp.ones((B, 1), jnp.int32), source_segments)
        caches = model.apply(variables, memory, W, T + 3, method="init_cache")  # with room to spare
        # What a cache holds where nothing was written yet must not matter.
        caches = tuple(cache._replace(prefix=jax.tree.map(lambda x: x + 1e3, cache.prefix)) for cache in caches)

        def step(caches, tokens_and_position):
            tokens, position = tokens_and_position
            # Each hypothesis keeps its place in the beam, and sees what was written there.
            own = jnp.eye(W, dtype=bool)[:, None] & (jnp.arange(T + 3) <= position)[None, :, None]
            prefix_mask = own.reshape(1, 1, W, (T + 3) * W)
            logits, caches = model.apply(
                variables, tokens, caches, position, prefix_mask, source_mask, method="decode_step"
            )
            return caches, logits

        _, stepwise = jax.lax.scan(step, caches, (jnp.moveaxis(prefixes, 2, 0), jnp.arange(T)))
        return whole.reshape(B, W, T, V), jnp.moveaxis(stepwise, 0, 2)

    whole, stepwise = whole_and_stepwise()
    assert_allclose(stepwise, whole, atol=2e-5)
    assert not np.allclose(whole[:, 0], whole[:, 1], atol=0.1)


def test_captured_weights_come_from_every_layer_and_leave_the_logits_alone(batch, random_parameters):
    model = transformer("pre", "all", encoder_layers=2, decoder_layers=1)
    variables = random_parameters(model, *batch)
    logits, sown = jax.device_get(apply(model, variables, *batch, mutable=("intermediates",)))
    weights = sown["intermediates"]
    assert jax.tree.map(np.shape, weights) == {
        "encoder": {
            "blocks_0": {"self_attention": {"attention": ((B, H, S, S),)}},
            "blocks_1": {"self_attention": {"attention": ((B, H, S, S),)}},
        },
        "decoder": {
            "blocks_0": {
                "self_attention": {"attention": ((B, H, T, T),)},
                "cross_attention": {"attention": ((B, H, T, S),)},
            }
        },
    }
    source_real, target_real = (np.asarray(array) == 1 for array in batch[2:])
    for array in jax.tree.leaves(weights):
        queries_real = source_real if array.shape[2] == S else target_real
        expected = np.broadcast_to(queries_real[:, None], array.shape[:3])
        assert_allclose(array.sum(-1), expected, atol=1e-6)  # padding attends to nothing
    assert_allclose(logits, logits_of(model, variables, *batch), atol=1e-5)


def test_nothing_but_logits_comes_back_unless_asked_for(post, batch):
    assert apply(*post, *batch)[1] == {}


def test_bfloat16_stays_close_to_float32_with_float32_logits_and_parameters(post, batch):
    model, variables = post
    narrow = transformer(dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters_of(narrow))} == {jnp.dtype("float32")}
    wide_logits, narrow_logits = logits_of(model, variables, *batch), logits_of(narrow, variables, *batch)
    assert narrow_logits.dtype == jnp.float32
    real = np.asarray(batch[3]) == 1
    error = np.abs(narrow_logits - wide_logits)[real]
    assert error.max() > 0, "the arithmetic was not bfloat16"
    assert error.mean() < 0.02 * wide_logits[real].std()


def test_dropout_needs_a_key_and_depends_on_it(post, batch):
    still = logits_of(*post, *batch)
    first, again, second = (logits_of(*post, *batch, key=jax.random.key(seed)) for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert np.abs(first - second).max() > 0.1
    assert np.abs(first - still).max() > 0.1


def test_dropout_falls_on_every_sublayer_and_on_both_embeddings(batch, random_parameters):
    encoder_layers, decoder_layers = 2, 3
    model = transformer("pre", "all", encoder_layers, decoder_layers)
    variables = random_parameters(model, *batch)
    program = jax.make_jaxpr(lambda key: model.apply(variables, *batch, rngs={"dropout": key}))(jax.random.key(0))
    assert drawn(program.jaxpr) == 2 + 2 * encoder_layers + 3 * decoder_layers


def drawn(program):
    """How often a program draws random bits."""
    parts = [part.jaxpr for step in program.eqns for part in step.params.values() if hasattr(part, "jaxpr")]
    return sum(step.primitive.name == "random_bits" for step in program.eqns) + sum(map(drawn, parts))


def parameters_of(model):
    """Shapes and types of the parameters as they are initialized, without computing any."""
    tokens = jnp.ones((1, 1), jnp.int32)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, tokens, tokens, tokens))["params"]


def count(model):
    return sum(leaf.size for leaf in jax.tree.leaves(parameters_of(model)))


@pytest.mark.parametrize(
    ("d_model", "d_ff", "heads", "expected"),
    [(512, 2048, 8, 63_045_632), (1024, 4096, 16, 214_171_648)],  # table 3 rounds to 65 and 213 million
    ids=["base", "big"],
)
def test_number_of_parameters_is_the_papers(d_model, d_ff, heads, expected):
    vocabulary, layers = 37_000, 6
    attention = 4 * d_model**2  # W^Q, W^K, W^V, W^O, without bias
    feed_forward = d_model * d_ff + d_ff + d_ff * d_model + d_model
    normalization = 2 * d_model
    encoder = attention + feed_forward + 2 * normalization
    decoder = 2 * attention + feed_forward + 3 * normalization
    assert vocabulary * d_model + layers * (encoder + decoder) == expected
    model = Transformer(ModelConfig(d_model, d_ff, heads), vocabulary, vocabulary)
    assert count(model) == expected


def test_pre_norm_adds_one_normalization_to_each_stack():
    assert count(transformer("pre")) - count(transformer("post")) == 2 * 2 * D


def test_sharing_saves_whole_tables():
    one = D * V
    assert count(transformer(share="none")) - count(transformer(share="target")) == one
    assert count(transformer(share="target")) - count(transformer(share="all")) == D * SOURCE_VOCABULARY


@partial(jax.jit, static_argnames="model")
def gradients(model, parameters, batch):
    return jax.grad(lambda p: jnp.square(model.apply({"params": p}, *batch)).mean())(parameters)


@pytest.mark.parametrize("share", ["target", "all"])
def test_shared_table_gathers_the_gradients_of_all_its_uses(share, batch, random_parameters):
    config = ModelConfig(D, F, H, 1, 1, share_embeddings=share)
    tied = Transformer(config, V, V)
    untied = Transformer(ModelConfig(D, F, H, 1, 1, share_embeddings="none"), V, V)
    shared = random_parameters(tied, *batch)["params"]
    table = {"table": shared["target_embeddings"]["table"]}
    separate = {"source_embeddings": table, "target_embeddings": table, "projection": table} | shared

    of_tied, of_untied = jax.device_get((gradients(tied, shared, batch), gradients(untied, separate, batch)))
    parts = [of_untied[name]["table"] for name in ("target_embeddings", "projection")]
    if share == "all":
        parts.append(of_untied["source_embeddings"]["table"])
    assert all((part != 0).any() for part in parts)
    assert_allclose(of_tied["target_embeddings"]["table"], sum(parts), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("norm", "share"), [("post", "all"), ("pre", "target")])
def test_logits_of_a_shared_table_start_with_unit_variance(norm, share):
    # The last features are normalized, so that D squares sum to D; times a table of variance 1 / D that makes 1.
    vocabulary = 997
    model = Transformer(ModelConfig(D, F, H, 1, 1, norm=norm, share_embeddings=share), vocabulary, vocabulary)
    source, target = jnp.asarray(np.random.default_rng(0).integers(vocabulary, size=(2, 5, 11)))
    inputs = (source, target, jnp.ones_like(source), jnp.ones_like(target))
    logits, _ = jax.jit(model.init_with_output)(jax.random.key(0), *inputs)
    assert_allclose(logits.var(), 1, atol=0.15)
    assert_allclose(logits.mean(), 0, atol=0.1)


@pytest.mark.parametrize("share", ["none", "all"])
def test_features_times_the_table_are_the_logits(share, batch, random_parameters):
    model = transformer(share=share)
    variables = random_parameters(model, *batch)
    separate = jax.jit(lambda variables: model.apply(variables, *batch, method="features_and_table"))
    features, table = jax.device_get(separate(variables))
    assert_allclose(features @ table.T, logits_of(model, variables, *batch), atol=1e-5)


def test_logits_have_an_entry_for_every_target_word(post, batch):
    assert logits_of(*post, *batch).shape == (B, T, V)


def test_the_factors_of_logits_with_a_bias_multiply_to_them(random_parameters):
    layer, x = (
        ProjectionLayer(17, 22, biases="all"),
        jnp.asarray(np.random.default_rng(0).random((2, 3, 22)), "float32"),
    )
    variables = random_parameters(layer, x)
    features, table = layer.apply(variables, x, method="factors")
    assert features.shape == (2, 3, 23)
    assert_allclose(jnp.einsum("BTE,VE->BTV", features, table), layer.apply(variables, x), atol=1e-5)
