"""A distributed run of several processes trains like a single process."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from simulated_devices import simulate_devices

ROOT = Path(__file__).parent.parent.parent

RECIPE = """
from transformer_jax.config import *
config = Config(
    model=ModelConfig(d_model=16, d_ff=32, heads=2, encoder_layers=1, decoder_layers=1),
    data=DataConfig("{0}", "{0}", "{0}", max_length=16, batch_tokens=256, buckets=1),
    tokenizer=TokenizerConfig(kind="word", size=40),
    optimizer=OptimizerConfig(warmup=10),
    training=TrainingConfig(steps=6, valid_every=3, log_every=1, valid_sentences=5),
)
"""


def train(directory, workdir, processes, *options):
    """Run all processes of a training and return its metrics."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "train.py",
        "--config",
        str(directory / "recipe.py"),
        "--workdir",
        str(directory / workdir),
        *options,
    ]
    command += ["--distributed"] if processes > 1 else []
    running = []
    for process in range(processes):
        variables = {
            **simulate_devices(4 // processes),
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(process),
        }
        running.append(
            subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    outputs = [process.communicate(timeout=500)[0].decode() for process in running]
    assert [process.returncode for process in running] == [0] * processes, outputs
    return [json.loads(line) for line in (directory / workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "options"),
    [(2, ()), (4, ()), (4, ("--mesh.tensor", "2")), (2, ("--mesh.tensor", "4"))],
    ids=["2", "4", "4, tensor 2", "2, tensor 4"],
)
def test_several_processes_train_like_a_single_one(processes, options, tmp_path):
    random = np.random.default_rng(0)
    rows = [random.integers(0, 8, random.integers(1, 5)) for _ in range(200)]
    lines = [f"{' '.join(map(str, row))}\t{' '.join(chr(97 + n) for n in row)}\n" for row in rows]
    (tmp_path / "pairs.tsv").write_text("".join(lines))
    (tmp_path / "recipe.py").write_text(RECIPE.format(tmp_path / "pairs.tsv"))
    single = train(tmp_path, "single", 1, *options)
    distributed = train(tmp_path, "distributed", processes, *options)
    assert [line["step"] for line in distributed] == [line["step"] for line in single]
    np.testing.assert_allclose([line["loss"] for line in distributed], [line["loss"] for line in single], rtol=1e-4)
    assert (tmp_path / "distributed/results.json").exists()
