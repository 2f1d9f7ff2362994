"""The fused kernels equal ``attend`` and are used where they should be. Pallas runs in interpret mode here."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas
from numpy.testing import assert_allclose, assert_array_equal

from transformer_jax.config import MeshConfig, ModelConfig
from transformer_jax.errors import InputError
from transformer_jax.model import attention
from transformer_jax.model.attention import KeysValues, attend
from transformer_jax.model.fused_attention import fused_attention, require_kernel
from transformer_jax.model.masks import SegmentMask, padding_mask
from transformer_jax.model.transformer import Transformer
from transformer_jax.sharding import batch_sharding, make_mesh
from transformer_jax.training.step import map_blocks

# Axes: B batch, T queries, S keys, H heads, K head width.
B, T, S, H, K = 3, 13, 7, 2, 11
CHIP_OF_KERNEL = {"cudnn": "gpu", "pallas": "tpu"}


def segments(length, rows=B):
    """Rows with the sentences 1, 2 and 3, which end at different positions, and then padding."""
    ends = np.stack([np.arange(rows) + length // 4, np.arange(rows) + length // 2, np.full(rows, length - 1)], -1)
    sentence = 1 + (np.arange(length)[None, :, None] >= ends[:, None]).sum(-1)
    return jnp.asarray(np.where(sentence == 4, 0, sentence), jnp.int32)


def make_inputs(queries=T, keys=S, rows=B, width=K, dtype=jnp.float32):
    """A query, its memory and the gradient of the output."""
    random = np.random.default_rng(0)
    lengths = queries, keys, keys, queries
    query, key, value, gradient = (jnp.asarray(random.normal(size=(rows, n, H, width)), dtype) for n in lengths)
    return query, KeysValues(key, value), gradient


def outputs_and_gradients(function, query, memory, gradient):
    output, pullback = jax.vjp(function, query, memory)
    return jax.tree.leaves((output, pullback(gradient)))


def plain(mask, query, memory):
    return attend(query, memory, mask.to_boolean())


def fused(kernel, mask, query, memory):
    return fused_attention(kernel, query, *memory, mask)


MASKS = {
    "self": SegmentMask(segments(T), segments(T)),
    "causal": SegmentMask(segments(T), segments(T), causal=True),
    # No key belongs to sentence 2 in any row, and no query of the last row has a key.
    "cross": SegmentMask(segments(T), jnp.where(segments(S) == 2, 3, segments(S)).at[2].set(0)),
    "several blocks": SegmentMask(segments(257), segments(257), causal=True),
}


@pytest.fixture
def interpreted(monkeypatch):
    """Run Pallas kernels on the CPU."""
    call = pallas.pallas_call
    monkeypatch.setattr(pallas, "pallas_call", lambda *args, **options: call(*args, **options | {"interpret": True}))


# Equality with the plain definition


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.usefixtures("interpreted")
def test_pallas_has_the_values_and_gradients_of_attend(name):
    mask = MASKS[name]
    inputs = make_inputs(mask.queries.shape[1], mask.keys.shape[1])
    compute = jax.jit(outputs_and_gradients, static_argnums=0)
    expected = jax.device_get(compute(partial(plain, mask), *inputs))
    results = jax.device_get(compute(partial(fused, "pallas", mask), *inputs))
    for result, of_plain in zip(results, expected, strict=True):
        assert_allclose(result, of_plain, atol=1e-5)
    is_empty = ~np.asarray(mask.to_boolean().any(-1)[:, 0])
    assert is_empty.any()
    assert (results[0][is_empty] == 0).all()
    assert (results[1][is_empty] == 0).all()  # The gradient with respect to the query.


@pytest.mark.usefixtures("interpreted")
def test_pallas_ignores_the_content_of_masked_positions():
    mask = MASKS["cross"]
    query, memory, gradient = make_inputs()
    compute = jax.jit(partial(outputs_and_gradients, partial(fused, "pallas", mask)))
    is_used = np.asarray(mask.to_boolean().any(-2)[:, 0])[..., None, None]  # [B, S, 1, 1]
    changed = KeysValues(*(jnp.where(is_used, x, 1e3) for x in memory))
    expected = jax.device_get(compute(query, memory, gradient))
    for result, before in zip(jax.device_get(compute(query, changed, gradient)), expected, strict=True):
        assert_array_equal(result, before)
    for key_or_value_gradient in expected[2:]:
        assert (np.where(is_used, 0, key_or_value_gradient) == 0).all()
        assert (key_or_value_gradient != 0).any()


@pytest.mark.usefixtures("interpreted")
def test_pallas_on_a_mesh_equals_attend():
    rows = *make_inputs(rows=8), segments(T, rows=8), segments(S, rows=8)

    def block_results(function, _, block):
        *inputs, query_segments, key_segments = block
        return outputs_and_gradients(partial(function, SegmentMask(query_segments, key_segments)), *inputs)

    mesh, results = make_mesh(MeshConfig(2, 2, 2)), []
    for function in (plain, partial(fused, "pallas")):
        compute = jax.jit(map_blocks(partial(block_results, function), mesh), in_shardings=(None, batch_sharding(mesh)))
        results.append(jax.device_get(compute(None, rows)))
    for result, of_plain in zip(*reversed(results), strict=True):
        assert_allclose(result, of_plain, atol=1e-5)


def test_cudnn_gets_even_lengths_and_equals_attend(monkeypatch):
    real = jax.nn.dot_product_attention

    def cudnn(query, key, value, *, mask, is_causal, implementation):
        assert implementation == "cudnn"
        assert query.shape[1] % 2 == key.shape[1] % 2 == 0
        return real(query, key, value, mask=mask, is_causal=is_causal)

    for name in ("causal", "cross"):
        mask = MASKS[name]
        inputs = make_inputs(keys=mask.keys.shape[1])
        compute = jax.jit(outputs_and_gradients, static_argnums=0)
        expected = compute(partial(plain, mask), *inputs)
        with monkeypatch.context() as patch:
            patch.setattr(jax.nn, "dot_product_attention", cudnn)
            results = compute(partial(fused, "cudnn", mask), *inputs)
        for result, of_plain in zip(results, expected, strict=True):
            assert_allclose(result, of_plain, atol=1e-5)


@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(kernel, marks=pytest.mark.skipif(jax.default_backend() != chip, reason=f"needs a {chip}"))
        for kernel, chip in CHIP_OF_KERNEL.items()
    ],
)
@pytest.mark.parametrize("name", MASKS)
def test_kernel_on_its_chip_equals_attend(name, kernel):
    mask = MASKS[name]
    inputs = make_inputs(mask.queries.shape[1], mask.keys.shape[1], width=64, dtype=jnp.bfloat16)
    results = jax.jit(partial(outputs_and_gradients, partial(fused, kernel, mask)))(*inputs)
    # float32 on the plain side, so that only one side has rounding errors.
    in_float32 = jax.tree.map(lambda x: x.astype(jnp.float32), inputs)
    with jax.default_matmul_precision("highest"):
        expected = jax.jit(partial(outputs_and_gradients, partial(plain, mask)))(*in_float32)
    for result, of_plain in zip(jax.device_get(results), jax.device_get(expected), strict=True):
        # Each of several consecutive roundings to 8 significant bits has an error of up to 0.4%.
        assert_allclose(result.astype(np.float32), of_plain, atol=0.02 * np.abs(of_plain).max())


# Where the kernels are used


MODEL = ModelConfig(d_model=22, d_ff=19, heads=H, encoder_layers=1, decoder_layers=1, attention="pallas")


@pytest.fixture
def kernel_calls(monkeypatch):
    """Replace the kernels by ``attend``. Return the list of the kernel and the mask of each call."""
    calls = []

    def record(kernel, query, keys, values, mask):
        calls.append((kernel, mask.queries.shape[1], mask.keys.shape[1], mask.causal))
        return attend(query, KeysValues(keys, values), mask.to_boolean())

    monkeypatch.setattr(attention, "fused_attention", record)
    return calls


def features(config, params=None, **options):
    model, source, target = Transformer(config, 23, 23), segments(S), segments(T)
    if params is None:
        return jax.eval_shape(lambda: model.init(jax.random.key(0), source, target, source, target))["params"]
    apply = partial(model.apply, method="features", **options)
    return jax.jit(apply)({"params": params}, source, target, source, target)


def test_training_masks_reach_the_kernel(kernel_calls, random_parameters):
    tokens = segments(S)
    params = random_parameters(Transformer(MODEL, 23, 23), *[tokens] * 4)["params"]
    assert kernel_calls == []  # Initialization uses no kernel.
    result = features(MODEL, params)
    assert kernel_calls == [("pallas", S, S, False), ("pallas", T, T, True), ("pallas", T, S, False)]
    plain_model = ModelConfig(**{**MODEL.__dict__, "attention": "xla"})
    assert_allclose(result, features(plain_model, params), atol=1e-5)
    assert len(kernel_calls) == 3


def test_capture_and_boolean_masks_use_no_kernel(kernel_calls, random_parameters):
    tokens = segments(S)
    model = Transformer(MODEL, 23, 23)
    params = random_parameters(model, *[tokens] * 4)["params"]
    _, sown = features(MODEL, params, mutable=["intermediates"])
    assert len(jax.tree.leaves(sown)) == 3
    jax.eval_shape(lambda: model.apply({"params": params}, tokens, padding_mask(tokens, 0), method="encode"))
    assert kernel_calls == []


# Unsuitable devices and models


TPU = SimpleNamespace(platform="tpu", device_kind="TPU v5 lite")
A100 = SimpleNamespace(platform="gpu", device_kind="NVIDIA A100-SXM4-40GB", compute_capability="8.0")
H100 = SimpleNamespace(platform="gpu", device_kind="NVIDIA H100 80GB HBM3", compute_capability="9.0")
T4 = SimpleNamespace(platform="gpu", device_kind="Tesla T4", compute_capability="7.5")
MI300 = SimpleNamespace(platform="gpu", device_kind="AMD Instinct MI300X", compute_capability="gfx942")
BFLOAT16 = {"attention": "cudnn", "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("model", "device", "tensor", "message"),
    [
        ({"attention": "pallas"}, H100, 1, "needs a TPU, not NVIDIA H100"),
        ({"attention": "pallas", "dtype": "float16"}, TPU, 1, "needs --model.dtype bfloat16 or float32"),
        (
            {"attention": "pallas", "d_model": 24, "heads": 3},
            TPU,
            2,
            "a --mesh.tensor that divides model.heads 3, not 2",
        ),
        (BFLOAT16, TPU, 1, "compute capability 8.0 or later, not TPU v5 lite"),
        (BFLOAT16, T4, 1, "compute capability 8.0 or later, not Tesla T4"),
        (BFLOAT16, MI300, 1, "compute capability 8.0 or later, not AMD"),
        ({"attention": "cudnn"}, H100, 1, "needs --model.dtype bfloat16 or float16"),
        ({**BFLOAT16, "d_model": 36, "heads": 3}, H100, 1, "a multiple of 8 and at most 256, not 12"),
        ({**BFLOAT16, "d_model": 272, "heads": 2}, A100, 1, "a multiple of 8 and at most 128, not 136"),
    ],
)
def test_a_kernel_that_does_not_fit_is_refused(model, device, tensor, message):
    with pytest.raises(InputError, match=rf"^model\.attention .*{message}.*\. Set --model\.attention xla\.$"):
        require_kernel(ModelConfig(**model), device, tensor)


@pytest.mark.parametrize(
    ("model", "device"),
    [
        ({"attention": "xla", "d_model": 36, "heads": 3}, T4),
        ({"attention": "pallas"}, TPU),
        (BFLOAT16, A100),
        ({"attention": "cudnn", "dtype": "float16"}, A100),
        ({**BFLOAT16, "d_model": 272, "heads": 2}, H100),
    ],
)
def test_a_kernel_that_fits_is_accepted(model, device):
    require_kernel(ModelConfig(**model), device, 1)
