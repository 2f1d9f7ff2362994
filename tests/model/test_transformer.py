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
    """Return segments of rows that contain one sentence and then padding."""
    return jnp.asarray((np.arange(width) < np.reshape(lengths, (-1, 1))).astype(np.int32))


@pytest.fixture(scope="module")
def batch():
    """Return source, target and their segments. Rows have different lengths and contain no token twice."""
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
    sees_change = np.arange(T) >= 3
    assert (np.abs(after - before).max(-1)[(np.asarray(target_segments) == 1) & sees_change] > 1e-3).all()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_gradient_reaches_only_visible_target_and_source_tokens(norm, batch, random_parameters):
    source, target, source_segments, target_segments = (array[1:2] for array in batch)  # lengths 3 and 4
    model = transformer(norm)
    variables = random_parameters(model, source, target, source_segments, target_segments)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(V), jnp.float32)

    @jax.jit
    @jax.jacrev
    def jacobian(tables):
        # No token occurs twice in a row of the batch, so each row of a table corresponds to one position.
        parameters = variables["params"] | {name: {"table": table} for name, table in tables.items()}
        return model.apply({"params": parameters}, source, target, source_segments, target_segments)[0] @ weights

    tables = {name: variables["params"][name]["table"] for name in ("source_embeddings", "target_embeddings")}
    depends = {name: (np.asarray(slope) != 0).any(-1) for name, slope in jacobian(tables).items()}
    on_source = depends["source_embeddings"][:, source[0]]  # [T, S]: which logits depend on which source tokens
    on_target = depends["target_embeddings"][:, target[0]]
    assert_array_equal(on_target[:4], np.tril(np.ones((4, T), dtype=bool)))
    assert_array_equal(on_source[:4], np.broadcast_to(np.arange(S) < 3, (4, S)))


def test_encoder_attends_in_both_directions(post, batch):
    model, variables = post
    source, _, source_segments, _ = batch
    mask = segment_mask(source_segments, source_segments)
    encode = jax.jit(lambda source: model.apply(variables, source, mask, method="encode"))
    before = np.asarray(encode(source))
    for position in (0, 2):
        after = np.asarray(encode(source.at[:, position].set((source[:, position] + 1) % SOURCE_VOCABULARY)))
        assert (np.abs(after - before).max(-1)[np.asarray(source_segments) == 1] > 1e-3).all()


def test_content_of_padding_does_not_affect_the_logits(post, batch):
    source, target, source_segments, target_segments = batch
    other_source = jnp.where(source_segments == 1, source, (source + 1) % SOURCE_VOCABULARY)
    other_target = jnp.where(target_segments == 1, target, (target + 1) % V)
    real = np.asarray(target_segments) == 1
    before = logits_of(*post, *batch)
    after = logits_of(*post, other_source, other_target, source_segments, target_segments)
    assert_array_equal(after[real], before[real])
    assert np.isfinite(after).all()


def test_amount_of_padding_does_not_affect_the_logits(post, batch):
    wider = [jnp.pad(array, ((0, 0), (0, 4))) for array in batch]
    real = np.asarray(batch[3]) == 1
    assert_allclose(logits_of(*post, *wider)[:, :T][real], logits_of(*post, *batch)[real], atol=1e-5)


def test_packed_sentences_have_the_logits_of_single_sentences(post, batch):
    # Three pairs of lengths 5, 3, 4 and 7, 4, 2 are packed into rows of 17 and 19 positions, with padding between the
    # last two sentences and at the end.
    def pack(rows, lengths, width):
        packed = {name: np.zeros((1, width), np.int32) for name in ("tokens", "segments", "positions")}
        spans, end = [], 0
        for number, (row, length) in enumerate(zip(np.asarray(rows), lengths, strict=True), start=1):
            start = end if number < 3 else end + 2
            end = start + length
            span = slice(start, end)
            packed["tokens"][0, span] = row[:length]
            packed["segments"][0, span] = number
            packed["positions"][0, span] = np.arange(length)
            spans.append(span)
        return jax.tree.map(jnp.asarray, packed), spans

    source, target, *_ = batch
    packed_source, _ = pack(source, [5, 3, 4], 17)
    packed_target, spans = pack(target, [7, 4, 2], 19)
    names = ("tokens", "segments", "positions")
    inputs = [side[name] for name in names for side in (packed_source, packed_target)]
    packed, separate = logits_of(*post, *inputs), logits_of(*post, *batch)
    for row, span in enumerate(spans):
        assert_allclose(packed[0, span], separate[row, : span.stop - span.start], atol=1e-5)


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
def test_cached_steps_equal_the_parallel_pass(norm, share, encoder_layers, decoder_layers, batch, random_parameters):
    source, _, source_segments, _ = batch
    model = transformer(norm, share, encoder_layers, decoder_layers)
    variables = random_parameters(model, *batch)
    prefixes = jnp.asarray(np.random.default_rng(2).integers(V, size=(B, W, T)))  # a different prefix per hypothesis
    all_visible = jnp.ones((B * W, T), jnp.int32)

    @jax.jit
    def parallel_and_stepwise():
        sources, sources_segments = (jnp.repeat(array, W, axis=0) for array in (source, source_segments))
        parallel = model.apply(variables, sources, prefixes.reshape(B * W, T), sources_segments, all_visible)
        memory = model.apply(variables, source, segment_mask(source_segments, source_segments), method="encode")
        source_mask = segment_mask(jnp.ones((B, 1), jnp.int32), source_segments)
        caches = model.apply(variables, memory, W, T + 3, method="init_cache")  # three more positions than needed
        # The content of cache places that have not been written must not matter.
        caches = tuple(cache._replace(prefix=jax.tree.map(lambda x: x + 1e3, cache.prefix)) for cache in caches)

        def step(caches, tokens_and_position):
            tokens, position = tokens_and_position
            # The first column need not be 0. Hypotheses are never reordered here, so each attends to its own places.
            column, positions = (position + 5) % (T + 3), jnp.full(B, position)
            age = (column - jnp.arange(T + 3)) % (T + 3)
            own_places = jnp.eye(W, dtype=bool)[:, None] & (age <= position)[None, :, None]
            prefix_mask = own_places.reshape(1, 1, W, (T + 3) * W)
            logits, caches = model.apply(
                variables, tokens, caches, positions, column, prefix_mask, source_mask, method="decode_step"
            )
            return caches, logits

        _, stepwise = jax.lax.scan(step, caches, (jnp.moveaxis(prefixes, 2, 0), jnp.arange(T)))
        return parallel.reshape(B, W, T, V), jnp.moveaxis(stepwise, 0, 2)

    parallel, stepwise = parallel_and_stepwise()
    assert_allclose(stepwise, parallel, atol=2e-5)
    assert not np.allclose(parallel[:, 0], parallel[:, 1], atol=0.1)


def test_capture_covers_every_layer_and_keeps_the_logits(batch, random_parameters):
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


def test_model_returns_only_logits_by_default(post, batch):
    assert apply(*post, *batch)[1] == {}


@pytest.mark.parametrize(("dtype", "rounding"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_16_bit_model_is_close_to_float32(dtype, rounding, post, batch):
    model, variables = post
    in_16_bits = transformer(dtype=dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters_of(in_16_bits))} == {jnp.dtype("float32")}
    float32_logits, logits = logits_of(model, variables, *batch), logits_of(in_16_bits, variables, *batch)
    assert logits.dtype == jnp.float32
    real = np.asarray(batch[3]) == 1
    error = np.abs(logits - float32_logits)[real]
    assert error.max() > 0, f"the arithmetic was not {dtype}"
    assert error.mean() < 5 * rounding * float32_logits[real].std()


def test_dropout_requires_a_key_and_depends_on_it(post, batch):
    without_dropout = logits_of(*post, *batch)
    first, repeated, second = (logits_of(*post, *batch, key=jax.random.key(seed)) for seed in (0, 0, 1))
    assert_array_equal(first, repeated)
    assert np.abs(first - second).max() > 0.1
    assert np.abs(first - without_dropout).max() > 0.1


def test_dropout_applies_to_sublayers_and_embeddings(batch, random_parameters):
    encoder_layers, decoder_layers = 2, 3
    model = transformer("pre", "all", encoder_layers, decoder_layers)
    variables = random_parameters(model, *batch)
    program = jax.make_jaxpr(lambda key: model.apply(variables, *batch, rngs={"dropout": key}))(jax.random.key(0))
    assert random_bits_calls(program.jaxpr) == 2 + 2 * encoder_layers + 3 * decoder_layers


def random_bits_calls(program):
    """Return how often a jaxpr draws random bits."""
    inner = [value.jaxpr for equation in program.eqns for value in equation.params.values() if hasattr(value, "jaxpr")]
    calls = sum(equation.primitive.name == "random_bits" for equation in program.eqns)
    return calls + sum(map(random_bits_calls, inner))


def parameters_of(model):
    """Return shapes and types of the initial parameters without computing them."""
    tokens = jnp.ones((1, 1), jnp.int32)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, tokens, tokens, tokens))["params"]


def parameter_count(model):
    return sum(leaf.size for leaf in jax.tree.leaves(parameters_of(model)))


@pytest.mark.parametrize(
    ("d_model", "d_ff", "heads", "expected"),
    [(512, 2048, 8, 63_045_632), (1024, 4096, 16, 214_171_648)],  # table 3 rounds to 65 and 213 million
    ids=["base", "big"],
)
def test_parameter_count_equals_the_papers(d_model, d_ff, heads, expected):
    vocab_size, layers = 37_000, 6
    attention = 4 * d_model**2  # W^Q, W^K, W^V, W^O, without bias
    feed_forward = d_model * d_ff + d_ff + d_ff * d_model + d_model
    normalization = 2 * d_model
    encoder = attention + feed_forward + 2 * normalization
    decoder = 2 * attention + feed_forward + 3 * normalization
    assert vocab_size * d_model + layers * (encoder + decoder) == expected
    model = Transformer(ModelConfig(d_model, d_ff, heads), vocab_size, vocab_size)
    assert parameter_count(model) == expected


def test_pre_norm_adds_one_normalization_to_each_stack():
    assert parameter_count(transformer("pre")) - parameter_count(transformer("post")) == 2 * 2 * D


def test_sharing_embeddings_saves_complete_tables():
    assert parameter_count(transformer(share="none")) - parameter_count(transformer(share="target")) == D * V
    assert (
        parameter_count(transformer(share="target")) - parameter_count(transformer(share="all"))
        == D * SOURCE_VOCABULARY
    )


@partial(jax.jit, static_argnames="model")
def gradients(model, parameters, batch):
    return jax.grad(lambda p: jnp.square(model.apply({"params": p}, *batch)).mean())(parameters)


@pytest.mark.parametrize("share", ["target", "all"])
def test_gradient_of_a_shared_table_is_the_sum_over_its_uses(share, batch, random_parameters):
    config = ModelConfig(D, F, H, 1, 1, share_embeddings=share)
    tied = Transformer(config, V, V)
    untied = Transformer(ModelConfig(D, F, H, 1, 1, share_embeddings="none"), V, V)
    shared = random_parameters(tied, *batch)["params"]
    table = {"table": shared["target_embeddings"]["table"]}
    separate = {"source_embeddings": table, "target_embeddings": table, "projection": table} | shared

    of_tied, of_untied = jax.device_get((gradients(tied, shared, batch), gradients(untied, separate, batch)))
    separate_gradients = [of_untied[name]["table"] for name in ("target_embeddings", "projection")]
    if share == "all":
        separate_gradients.append(of_untied["source_embeddings"]["table"])
    assert all((gradient != 0).any() for gradient in separate_gradients)
    assert_allclose(of_tied["target_embeddings"]["table"], sum(separate_gradients), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("norm", "share"), [("post", "all"), ("pre", "target")])
def test_logits_of_a_shared_table_have_unit_variance_at_start(norm, share):
    # The features are normalized, so their D squares sum to D. A table of variance 1 / D gives logits of variance 1.
    vocab_size = 997
    model = Transformer(ModelConfig(D, F, H, 1, 1, norm=norm, share_embeddings=share), vocab_size, vocab_size)
    source, target = jnp.asarray(np.random.default_rng(0).integers(vocab_size, size=(2, 5, 11)))
    inputs = (source, target, jnp.ones_like(source), jnp.ones_like(target))
    logits, _ = jax.jit(model.init_with_output)(jax.random.key(0), *inputs)
    assert_allclose(logits.var(), 1, atol=0.15)
    assert_allclose(logits.mean(), 0, atol=0.1)


@pytest.mark.parametrize("share", ["none", "all"])
def test_features_times_table_equal_the_logits(share, batch, random_parameters):
    model = transformer(share=share)
    variables = random_parameters(model, *batch)
    factors = jax.jit(lambda variables: model.apply(variables, *batch, method="features_and_table"))
    features, table = jax.device_get(factors(variables))
    assert_allclose(features @ table.T, logits_of(model, variables, *batch), atol=1e-5)


def test_logits_cover_the_target_vocabulary(post, batch):
    assert logits_of(*post, *batch).shape == (B, T, V)


def test_factors_with_a_bias_multiply_to_the_logits(random_parameters):
    layer, x = (
        ProjectionLayer(17, 22, biases="all"),
        jnp.asarray(np.random.default_rng(0).random((2, 3, 22)), "float32"),
    )
    variables = random_parameters(layer, x)
    features, table = layer.apply(variables, x, method="factors")
    assert features.shape == (2, 3, 23)
    assert_allclose(jnp.einsum("BTE,VE->BTV", features, table), layer.apply(variables, x), atol=1e-5)
