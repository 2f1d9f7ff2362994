"""Logits and a training step of the complete network agree with the independent implementation in torch.nn."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from transformer_jax.config import ModelConfig
from transformer_jax.model.transformer import Transformer

if os.environ.get("CI") == "true":
    import torch  # fail, rather than skip the test, if torch is missing in CI
else:
    torch = pytest.importorskip("torch", reason="pip install -r requirements-parity.txt")

# Axes: B batch, S source, T target, D model width, F feed-forward width, H heads, V vocabulary.
B, S, T, D, F, H, V = 3, 5, 7, 22, 19, 2, 17
ENCODER_LAYERS, DECODER_LAYERS = 2, 3
EPSILON = 1e-6
RATE = 0.1


class TorchTransformer(torch.nn.Module):
    """A Transformer of torch's encoder and decoder, with one shared embedding table and sinusoids.

    Unlike the paper, torch.nn.Transformer normalizes the output of each stack even in post-norm. Therefore the stacks
    are assembled here. The attention layers of torch have biases, unlike the paper; they stay zero and are not trained.
    """

    def __init__(self, norm):
        super().__init__()
        options = {
            "d_model": D,
            "nhead": H,
            "dim_feedforward": F,
            "dropout": 0.0,
            "layer_norm_eps": EPSILON,
            "batch_first": True,
            "norm_first": norm == "pre",
        }
        final = (lambda: torch.nn.LayerNorm(D, EPSILON)) if norm == "pre" else (lambda: None)
        self.table = torch.nn.Parameter(torch.zeros(V, D))
        self.encoder = torch.nn.TransformerEncoder(
            torch.nn.TransformerEncoderLayer(**options), ENCODER_LAYERS, final(), enable_nested_tensor=False
        )
        self.decoder = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(**options), DECODER_LAYERS, final())
        for module in self.modules():
            if isinstance(module, torch.nn.MultiheadAttention):
                for bias in (module.in_proj_bias, module.out_proj.bias):
                    bias.requires_grad_(False)
                    bias.zero_()

    def embed(self, tokens):
        angles = np.arange(tokens.shape[1])[:, None] / 10_000 ** (np.arange(0, D, 2) / D)
        sinusoids = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(-1, D).astype(np.float32)
        return self.table[tokens] * D**0.5 + torch.from_numpy(sinusoids)

    def forward(self, source, target, source_padding, target_padding):
        memory = self.encoder(self.embed(source), src_key_padding_mask=source_padding)
        features = self.decoder(
            self.embed(target),
            memory,
            tgt_mask=torch.triu(torch.ones(T, T, dtype=torch.bool), diagonal=1),
            tgt_key_padding_mask=target_padding,
            memory_key_padding_mask=source_padding,
        )
        return features @ self.table.T


def by_torch_names(parameters):
    """Return our tree of parameters or gradients with the names and layouts of TorchTransformer."""
    named = {"table": parameters["target_embeddings"]["table"]}

    def attention(name, ours):
        query, key, value = (ours[part]["kernel"].T for part in ("w_query", "w_key", "w_value"))
        named[f"{name}.in_proj_weight"] = np.concatenate([query, key, value])
        named[f"{name}.out_proj.weight"] = ours["w_output"]["kernel"].T

    def normalization(name, ours):
        named[f"{name}.weight"], named[f"{name}.bias"] = ours["gamma"], ours["beta"]

    def feed_forward(name, ours):
        for theirs, part in (("linear1", "widen"), ("linear2", "narrow")):
            named[f"{name}.{theirs}.weight"], named[f"{name}.{theirs}.bias"] = (
                ours[part]["kernel"].T,
                ours[part]["bias"],
            )

    for stack, residuals in (
        ("encoder", ("attention_residual", "feed_forward_residual")),
        ("decoder", ("self_residual", "cross_residual", "feed_forward_residual")),
    ):
        for key, ours in parameters[stack].items():
            if key == "normalization":
                normalization(f"{stack}.norm", ours)
                continue
            name = f"{stack}.layers.{key.removeprefix('blocks_')}"
            attention(f"{name}.self_attn", ours["self_attention"])
            if stack == "decoder":
                attention(f"{name}.multihead_attn", ours["cross_attention"])
            feed_forward(name, ours["feed_forward"])
            for number, residual in enumerate(residuals, start=1):
                normalization(f"{name}.norm{number}", ours[residual]["normalization"])
    return named


@pytest.fixture(scope="module", params=["post", "pre"])
def our_and_torch_results(request, random_parameters):
    """Return logits, loss, gradients and the parameters after one step of SGD and of Adam, of both implementations."""
    generator = np.random.default_rng(0)
    source, target, labels = (generator.integers(V, size=(B, length)) for length in (S, T, T))
    source_real, target_real = (np.arange(n) < np.reshape(k, (B, 1)) for n, k in ((S, [5, 2, 3]), (T, [3, 7, 5])))

    model = Transformer(ModelConfig(D, F, H, ENCODER_LAYERS, DECODER_LAYERS, norm=request.param), V, V)
    inputs = [jnp.asarray(array) for array in (source, target, source_real.astype(int), target_real.astype(int))]
    parameters = random_parameters(model, *inputs)["params"]
    optimizers = {"sgd": optax.sgd(RATE), "adam": optax.adam(RATE, b1=0.9, b2=0.98, eps=1e-3)}

    @jax.jit
    def our_step(parameters):
        def loss_and_logits(parameters):
            logits = model.apply({"params": parameters}, *inputs)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels))
            return jnp.where(target_real, losses, 0).sum() / target_real.sum(), logits

        (loss, logits), gradients = jax.value_and_grad(loss_and_logits, has_aux=True)(parameters)
        after = {}
        for name, optimizer in optimizers.items():
            updates, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
            after[name] = optax.apply_updates(parameters, updates)
        return {"logits": logits[target_real], "loss": loss, "gradients": gradients, **after}

    ours = jax.device_get(our_step(parameters))
    ours |= {name: by_torch_names(ours[name]) for name in ("gradients", "sgd", "adam")}

    start = {name: torch.tensor(np.array(value)) for name, value in by_torch_names(jax.device_get(parameters)).items()}
    theirs = {}
    for name in optimizers:
        network = TorchTransformer(request.param)
        trained = {key: value for key, value in network.named_parameters() if value.requires_grad}
        assert trained.keys() == start.keys()  # every trained parameter is loaded and compared
        network.load_state_dict(start, strict=False)
        optimizer = (
            torch.optim.SGD(trained.values(), lr=RATE)
            if name == "sgd"
            else torch.optim.Adam(trained.values(), lr=RATE, betas=(0.9, 0.98), eps=1e-3)
        )
        padding = [torch.from_numpy(~real) for real in (source_real, target_real)]
        logits = network(torch.from_numpy(source), torch.from_numpy(target), *padding)[torch.from_numpy(target_real)]
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[target_real]))
        loss.backward()
        theirs |= {"logits": logits.detach().numpy(), "loss": loss.item()}
        theirs["gradients"] = {key: value.grad.numpy().copy() for key, value in trained.items()}
        optimizer.step()
        theirs[name] = {key: value.detach().numpy() for key, value in trained.items()}
    return ours, theirs


def assert_same(ours, theirs, **tolerance):
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert_allclose(ours[name], theirs[name], err_msg=name, **tolerance)


def test_logits_equal_torch(our_and_torch_results):
    ours, theirs = our_and_torch_results
    assert_allclose(ours["logits"], theirs["logits"], atol=1e-5)
    assert theirs["logits"].std() > 0.5


def test_loss_and_gradients_equal_torch(our_and_torch_results):
    ours, theirs = our_and_torch_results
    assert_allclose(ours["loss"], theirs["loss"], rtol=1e-5)
    assert_same(ours["gradients"], theirs["gradients"], rtol=1e-4, atol=5e-6)
    assert all((gradient != 0).any() for gradient in theirs["gradients"].values())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_parameters_after_one_step_equal_torch(our_and_torch_results, optimizer):
    # The epsilon of Adam is 1e-3, because with the paper's 1e-9 a gradient of rounding errors would cause a full step.
    ours, theirs = our_and_torch_results
    assert_same(ours[optimizer], theirs[optimizer], atol=1e-6 if optimizer == "sgd" else 2e-3 * RATE)
