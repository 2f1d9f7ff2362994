"""Benchmarks are no tests: here each runs once, at a toy size, so that it cannot rot."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from transformer_jax.training.loss import smoothed_cross_entropy

ROOT = Path(__file__).parent.parent


def test_training_beside_pytorch(tmp_path):
    pytest.importorskip("torch", reason="pip install -r requirements-parity.txt")
    command = [sys.executable, "-m", "benchmarks.training", "--suite", "toy", "--repeats", "1"]
    first = tmp_path / "first.json"
    subprocess.run([*command, "--output", str(first)], cwd=ROOT, check=True)
    measured = json.loads(first.read_text())["measured"]
    assert measured.keys() == {"toy, transformer_jax", "toy, PyTorch", "toy, ratio"}
    assert all(value["median"] > 0 for value in measured.values())
    again = subprocess.run([*command, "--against", str(first)], cwd=ROOT, check=True, capture_output=True, text=True)
    assert again.stdout.count(f"since {first}") == 3


def test_start_up(tmp_path):
    output = tmp_path / "startup.json"
    command = [sys.executable, "-m", "benchmarks.startup", "--pairs", "101", "--repeats", "1", "--output", str(output)]
    subprocess.run(command, cwd=ROOT, check=True)
    measured = json.loads(output.read_text())["measured"]
    starts = ("first", "later, buckets", "later, packed")
    parts = ("start", "plan", "batch", "MiB")
    assert measured.keys() == {f"101 pairs, {start}: {part}" for start in starts for part in parts}
    assert all(value["median"] > 0 for value in measured.values())


def test_the_loss_of_the_pytorch_loop_is_ours():
    torch = pytest.importorskip("torch", reason="pip install -r requirements-parity.txt")
    from benchmarks.peers.torch_loop import ChunkedLoss

    random = np.random.default_rng(0)
    features, table = random.normal(size=(7, 83, 5)).astype("f4"), random.normal(size=(11, 5)).astype("f4")
    targets = random.integers(0, 11, (7, 83))

    def total(features, table):
        return smoothed_cross_entropy(features, table, jnp.asarray(targets), jnp.ones((7, 83)), 0.1, 97).loss

    leaves = [torch.tensor(x, requires_grad=True) for x in (features, table)]
    loss = ChunkedLoss.apply(leaves[0].flatten(0, 1), leaves[1], torch.tensor(targets).flatten(), 0.1)
    loss.backward()
    expected, gradients = jax.value_and_grad(total, argnums=(0, 1))(jnp.asarray(features), jnp.asarray(table))
    assert_allclose(loss.item(), expected, rtol=1e-5)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        assert_allclose(leaf.grad.numpy(), gradient, atol=1e-4)
