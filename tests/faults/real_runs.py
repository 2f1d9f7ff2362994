"""Real trainings, small, as processes of their own: started, hurt, started again, and compared."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).parent.parent.parent

RECIPE = """
from transformer_jax.config import *
config = Config(
    model=ModelConfig(d_model=16, d_ff=32, heads=2, encoder_layers=1, decoder_layers=1, dropout=0.1),
    data=DataConfig("{0}", "{0}", "{0}", max_length=16, batch_tokens={2}),
    tokenizer=TokenizerConfig(kind="word", size=40),
    optimizer=OptimizerConfig(warmup=400),  # Slow: rounding on other devices must not grow.
    # Numbers that share no divisor: reports, checkpoints and validations fall on different steps.
    training=TrainingConfig(steps={1}, valid_every=41, save_every=17, log_every=5, valid_sentences=7, ema=0.9),
)
"""


def write_recipe(folder, steps=101, batch_tokens=256):
    """A corpus and the settings to train on it; returns the recipe's path."""
    random = np.random.default_rng(0)
    rows = [random.integers(0, 8, random.integers(1, 5)) for _ in range(211)]
    lines = [f"{' '.join(map(str, row))}\t{' '.join(chr(97 + n) for n in row)}\n" for row in rows]
    (folder / "pairs.tsv").write_text("".join(lines))
    (folder / "recipe.py").write_text(RECIPE.format(folder / "pairs.tsv", steps, batch_tokens))
    return folder / "recipe.py"


@contextmanager
def training(recipe, workdir, *options, devices=1, under=(), **settings):
    """A training that runs, if wanted under another program; killed if it is still there at the end."""
    command = [*under, sys.executable, "train.py", "--config", str(recipe), "--workdir", str(workdir), *options]
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    settings.setdefault("env", environment)
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **settings
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def train(recipe, workdir, *options, status=0, **settings):
    """A training from start to end, which must have the status; returns what it printed."""
    with training(recipe, workdir, *options, **settings) as process:
        output = process.communicate(timeout=300)[0]
        assert process.returncode == status, output
        assert "Traceback" not in output, output
        return output


def wait_for(happens, process, seconds=120):
    """Until something happens; False if the process ends first."""
    until = time.monotonic() + seconds
    while not happens():
        if process.poll() is not None:
            return False
        assert time.monotonic() < until, "nothing happens"
        time.sleep(0.001)
    return True


def reported(workdir):
    """How many reports a training has written: it is in its loop once there is one more."""
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def metrics(workdir):
    """What metrics.jsonl says, without what depends on the machine's mood."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]


def checkpoints(workdir):
    """The steps whose checkpoints are there."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())


def remembered(workdir):
    """Every array and number of every checkpoint, but for times."""
    found = {}
    for step in checkpoints(workdir):
        folder = workdir / "checkpoints" / str(step)
        progress = json.loads((folder / "progress.json").read_text())
        del progress["seconds"], progress["window"]["seconds"]
        found[step] = progress, state_of(folder.absolute() / "state")
    return found


def state_of(folder):
    """All arrays of a saved state, on whatever devices it was, but for the key: that is the seed, and never changes."""
    with ocp.PyTreeCheckpointer() as reader:
        saved = {name: part for name, part in reader.metadata(folder).item_metadata.tree.items() if name != "key"}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        restore = ocp.args.PyTreeRestore(item=saved, restore_args=as_numpy, partial_restore=True)
        return reader.restore(folder, args=restore)


def assert_same_run(workdir, expected):
    """Bit by bit: all that is remembered, and all that was reported."""
    assert metrics(workdir) == metrics(expected)
    found, wanted = remembered(workdir), remembered(expected)
    assert found.keys() == wanted.keys()
    for step, (progress, state) in wanted.items():
        assert found[step][0] == progress
        jax.tree.map(np.testing.assert_array_equal, found[step][1], state)


def seconds(workdir):
    """Wall time that the run remembers at its newest checkpoint."""
    newest = workdir / "checkpoints" / str(checkpoints(workdir)[-1])
    return json.loads((newest / "progress.json").read_text())["seconds"]


TERM, INT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGKILL

SMALL_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (12 << 10, 12 << 10))
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a program whose files cannot exceed 12 KiB: a write then fails, as on a full disk."""
