"""Small real trainings in separate processes, and comparisons of their results."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from simulated_devices import simulate_devices

ROOT = Path(__file__).parent.parent.parent

RECIPE = """
from transformer_jax.config import *
config = Config(
    model=ModelConfig(d_model=16, d_ff=32, heads=2, encoder_layers=1, decoder_layers=1, dropout=0.1),
    data=DataConfig("{0}", "{0}", "{0}", max_length=16, batch_tokens={2}),
    tokenizer=TokenizerConfig(kind="word", size=40),
    decoding=DecodingConfig(beam=1),
    optimizer=OptimizerConfig(warmup=400),  # A low learning rate keeps rounding differences between devices small.
    # Coprime intervals, so that reports, checkpoints and validations fall on different steps.
    training=TrainingConfig(steps={1}, valid_every=41, save_every=17, log_every=5, valid_sentences=7, ema=0.9),
)
"""


def write_recipe(directory, steps=101, batch_tokens=256):
    """Write a corpus and a recipe to train on it, and return the path of the recipe."""
    random = np.random.default_rng(0)
    rows = [random.integers(0, 8, random.integers(1, 5)) for _ in range(211)]
    lines = [f"{' '.join(map(str, row))}\t{' '.join(chr(97 + n) for n in row)}\n" for row in rows]
    (directory / "pairs.tsv").write_text("".join(lines))
    (directory / "recipe.py").write_text(RECIPE.format(directory / "pairs.tsv", steps, batch_tokens))
    return directory / "recipe.py"


@contextmanager
def training(recipe, workdir, *options, devices=1, wrapper=(), **popen_options):
    """Start a training process, and kill it at the end of the block.

    wrapper: program and arguments that start the training.
    """
    command = [*wrapper, sys.executable, "train.py", "--config", str(recipe), "--workdir", str(workdir), *options]
    popen_options.setdefault("env", simulate_devices(devices))
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **popen_options
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def train(recipe, workdir, *options, status=0, **training_options):
    """Run a training, assert its exit status, and return its output."""
    with training(recipe, workdir, *options, **training_options) as process:
        output = process.communicate(timeout=300)[0]
        assert process.returncode == status, output
        assert "Traceback" not in output, output
        return output


def wait_for(condition, process, seconds=120):
    """Wait until ``condition()`` is true. Return False if the process ends first."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.001)
    return True


def count_reports(workdir):
    """Return the number of lines in metrics.jsonl. A new line shows that the training loop is running."""
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def metrics(workdir):
    """Return the lines of metrics.jsonl without the speed."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]


def checkpoints(workdir):
    """Return the steps of all checkpoints."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())


def checkpoint_contents(workdir):
    """Return progress and arrays of every checkpoint, without times."""
    contents = {}
    for step in checkpoints(workdir):
        checkpoint = workdir / "checkpoints" / str(step)
        progress = json.loads((checkpoint / "progress.json").read_text())
        del progress["seconds"], progress["window"]["seconds"]
        contents[step] = progress, load_state(checkpoint.absolute() / "state")
    return contents


def load_state(path):
    """Return the arrays of a saved state, except for the random key, which is the seed and never changes."""
    with ocp.PyTreeCheckpointer() as reader:
        saved = {name: tree for name, tree in reader.metadata(path).item_metadata.tree.items() if name != "key"}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        restore = ocp.args.PyTreeRestore(item=saved, restore_args=as_numpy, partial_restore=True)
        return reader.restore(path, args=restore)


def assert_same_run(workdir, expected):
    """Assert that two runs have identical metrics, translations, curves and checkpoints, apart from times."""
    for name in ("samples.jsonl", "valid.hyp.txt", "test.hyp.txt", "curves.png"):
        assert (workdir / name).read_bytes() == (expected / name).read_bytes(), name
    assert metrics(workdir) == metrics(expected)
    contents, expected_contents = checkpoint_contents(workdir), checkpoint_contents(expected)
    assert contents.keys() == expected_contents.keys()
    for step, (progress, state) in expected_contents.items():
        assert contents[step][0] == progress
        jax.tree.map(np.testing.assert_array_equal, contents[step][1], state)


def wall_seconds(workdir):
    """Return the wall time of the run, as saved in its newest checkpoint."""
    newest = workdir / "checkpoints" / str(checkpoints(workdir)[-1])
    return json.loads((newest / "progress.json").read_text())["seconds"]


TERM, INT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGKILL

SMALL_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (12 << 10, 12 << 10))
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a program with a limit of 12 KiB per file. Writing beyond it fails, as on a full disk."""
