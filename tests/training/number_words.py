"""A corpus that a small model learns in seconds, and comparisons of runs."""

import json

import jax
import numpy as np

from transformer_jax.storage.checkpoints import load_params

WORDS = ("eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht")


def write_corpus(directory):
    """Write pairs of digits and German number words."""
    random = np.random.default_rng(0)
    for name, count in (("train", 400), ("valid", 23), ("test", 29)):
        rows = [random.integers(0, 8, random.integers(1, 5)) for _ in range(count)]
        text = "".join(f"{' '.join(str(n + 1) for n in row)}\t{' '.join(WORDS[n] for n in row)}\n" for row in rows)
        (directory / f"{name}.tsv").write_text(text)


def metrics_lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(workdir, expected):
    """Assert that two runs have the same parameters, translations and curves and, apart from the speed, metrics."""
    for name in ("samples.jsonl", "valid.hyp.txt", "test.hyp.txt", "curves.png"):
        assert (workdir / name).read_bytes() == (expected / name).read_bytes(), name
    jax.tree.map(
        np.testing.assert_array_equal, load_params(workdir / "checkpoints"), load_params(expected / "checkpoints")
    )
    metrics, expected_metrics = (
        [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in metrics_lines(run)]
        for run in (workdir, expected)
    )
    assert metrics == expected_metrics
