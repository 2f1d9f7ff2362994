"""Several processes are one run: python train.py --distributed on each."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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


def train(folder, workdir, processes, *options):
    """Run all processes of one training; returns its metrics."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "train.py",
        "--config",
        str(folder / "recipe.py"),
        "--workdir",
        str(folder / workdir),
        *options,
    ]
    command += ["--distributed"] if processes > 1 else []
    started = []
    for process in range(processes):
        environment = {
            **os.environ,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={4 // processes}",
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(process),
        }
        started.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    outputs = [process.communicate(timeout=500)[0].decode() for process in started]
    assert [process.returncode for process in started] == [0] * processes, outputs
    return [json.loads(line) for line in (folder / workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "options"),
    [(2, ()), (4, ()), (4, ("--mesh.tensor", "2")), (2, ("--mesh.tensor", "4"))],
    ids=["2", "4", "4, two of which divide a layer", "2 that divide a layer"],
)
def test_several_processes_train_as_one_does(processes, options, tmp_path):
    random = np.random.default_rng(0)
    rows = [random.integers(0, 8, random.integers(1, 5)) for _ in range(200)]
    lines = [f"{' '.join(map(str, row))}\t{' '.join(chr(97 + n) for n in row)}\n" for row in rows]
    (tmp_path / "pairs.tsv").write_text("".join(lines))
    (tmp_path / "recipe.py").write_text(RECIPE.format(tmp_path / "pairs.tsv"))
    one, several = train(tmp_path, "one", 1, *options), train(tmp_path, "several", processes, *options)
    assert [line["step"] for line in several] == [line["step"] for line in one]
    np.testing.assert_allclose([line["loss"] for line in several], [line["loss"] for line in one], rtol=1e-4)
    assert (tmp_path / "several/results.json").exists()
