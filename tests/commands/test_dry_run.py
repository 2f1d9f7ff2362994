"""The compiled training step on several meshes: communication, memory per device and the printed report."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import jax
import pytest
from simulated_devices import simulate_devices

from transformer_jax.commands.dry_run import program_lines, report_lines
from transformer_jax.config import Config, DataConfig, MeshConfig, ModelConfig, TokenizerConfig, TrainingConfig
from transformer_jax.errors import InputError
from transformer_jax.model.flops import training_flops
from transformer_jax.resources.chips import CHIPS
from transformer_jax.resources.programs import TEMPORARY, OutOfMemory, compile_step
from transformer_jax.sharding import make_mesh
from transformer_jax.training.compiled import jit_functions
from transformer_jax.training.loss import CHUNK_SIZES

ROOT = Path(__file__).parent.parent.parent
V, D, F, LENGTH = 88, 24, 40, 13
CONFIG = Config(
    model=ModelConfig(d_model=D, d_ff=F, heads=4, encoder_layers=1, decoder_layers=1),
    data=DataConfig(batch_tokens=24 * LENGTH, max_length=LENGTH),
    tokenizer=TokenizerConfig(size=V),
)


@lru_cache
def report(data, fsdp, tensor, accumulate=3, r_drop=0.0):
    """Return the report of a step with loops over accumulated batches and over chunks of the loss."""
    config = dataclasses.replace(CONFIG, training=TrainingConfig(accumulate=accumulate, ema=0.9, r_drop=r_drop))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHUNK_SIZES, "accelerator", 7)
        jax.config.update("jax_disable_most_optimizations", False)
        try:
            return compile_step(config, make_mesh(MeshConfig(data, fsdp, tensor)))
        finally:
            jax.config.update("jax_disable_most_optimizations", True)


def result_sizes(collectives):
    return [math.prod(shape) for collective in collectives for shape in collective.result_shapes]


def parameter_shapes():
    functions = jit_functions(CONFIG, make_mesh(MeshConfig()), V, V)
    return [leaf.shape for leaf in jax.tree.leaves(functions.state.params)]


# Communication


@pytest.mark.parametrize(("accumulate", "r_drop"), [(1, 0.0), (3, 0.0), (1, 4.0)])
def test_data_parallelism_only_sums_each_gradient_once(accumulate, r_drop):
    step = report(8, 1, 1, accumulate, r_drop)
    assert {collective.kind for collective in step.collectives} == {"all-reduce"}
    assert not any(collective.in_loop for collective in step.collectives)
    scalars = 4  # The fields of LossSums.
    assert sum(result_sizes(step.collectives)) == step.parameters + scalars
    bytes_sent = 2 * 7 / 8 * 4 * step.parameters  # An all-reduce of float32 around a ring of 8 devices.
    assert sum(collective.bytes_sent for collective in step.collectives) == pytest.approx(bytes_sent, rel=0.01)


def test_fsdp_gathers_weights_and_reduces_gradients_once():
    step = report(1, 8, 1)
    assert not any(collective.in_loop for collective in step.collectives)
    gathered = [collective for collective in step.collectives if collective.kind == "all-gather"]
    matrices = [math.prod(shape) for shape in parameter_shapes() if len(shape) == 2]
    assert sorted(result_sizes(gathered)) == sorted(matrices)
    reduced = [collective for collective in step.collectives if collective.kind != "all-gather"]
    assert step.parameters <= sum(result_sizes(reduced)) <= step.parameters + 200  # Gradient norms and loss sums.


@pytest.mark.parametrize("mesh", [(2, 1, 4), (2, 2, 2)], ids=str)
def test_tensor_parallelism_never_gathers_table_or_logits(mesh):
    step = report(*mesh)
    gathered = [
        shape
        for collective in step.collectives
        if collective.kind == "all-gather"
        for shape in collective.result_shapes
    ]
    tensor = mesh[2]
    shards = {(V // tensor, D), (D, D // tensor), (D // tensor, D), (D, F // tensor), (F // tensor, D)}
    assert set(gathered) <= shards if mesh[1] > 1 else not gathered
    for collective in step.collectives:
        assert all(V not in shape for shape in collective.result_shapes)
        if collective.in_loop:  # Activations of a chunk or of some rows, never a gradient.
            assert not shards & set(collective.result_shapes)


# Memory per device


def test_fsdp_and_tensor_divide_the_training_state():
    replicated = 4 * sum(math.prod(shape) for shape in parameter_shapes() if len(shape) == 1)
    replicas, fsdp, tensor, both = (report(*mesh).memory for mesh in [(8, 1, 1), (1, 8, 1), (2, 1, 4), (2, 2, 2)])
    total = 4 * report(8, 1, 1).parameters
    assert replicas["parameters"] == total
    assert fsdp["parameters"] == (total - replicated) / 8 + replicated
    for divided in (tensor, both):  # tensor also divides widen/bias.
        assert (total - replicated) / 4 < divided["parameters"] < (total - replicated) / 4 + replicated
    for memory in (replicas, fsdp, tensor, both):
        scalars = 100
        two_moments_and_average = 3 * memory["parameters"]
        assert 0 < memory["optimizer state and average"] - two_moments_and_average < scalars


def test_batch_has_maximum_size_and_is_divided():
    assert report(8, 1, 1).shape == (24, LENGTH, LENGTH)
    batch_bytes = 7 * 24 * LENGTH * 4  # arrays, rows, positions, bytes
    assert [report(*mesh).memory["batch"] for mesh in [(8, 1, 1), (2, 2, 2)]] == [batch_bytes / 8, batch_bytes / 4]
    flops = 24 * training_flops(CONFIG.model, V, LENGTH, LENGTH)
    assert [report(8, 1, 1).flops, report(8, 1, 1, 1, 4.0).flops] == [flops, 2 * flops]


def test_indivisible_batch_is_refused():
    config = dataclasses.replace(CONFIG, training=TrainingConfig(accumulate=4))
    with pytest.raises(
        InputError, match=r"rows of 13 tokens in .* is 24, .* --data.batch-tokens to at least 416, or .* at most 24\.$"
    ):
        compile_step(config, make_mesh(MeshConfig()))


def test_a_kernel_for_other_chips_is_refused():
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, attention="pallas"))
    with pytest.raises(InputError, match=r"model\.attention pallas needs a TPU, not cpu"):
        compile_step(config, make_mesh(MeshConfig()))


def test_arithmetic_time_is_the_flops_per_device_at_peak_rate():
    step = report(8, 1, 1)
    [h100] = [line for line in report_lines(step) if line.startswith("  H100")]
    milliseconds = step.flops / 8 / 989e12 * 1e3
    assert h100.split()[1] == f"{milliseconds:.3g}"


def test_programs_that_do_not_fit_are_marked():
    lines = list(program_lines({"evaluation": report(8, 1, 1).program, "beam search": OutOfMemory(3 * 2**20, 2**20)}))
    assert re.fullmatch(r"  evaluation  ( +[\d.,]+){5} s", lines[-2])
    assert re.fullmatch("  beam search +does not fit: 3 of 1 MiB needed", lines[-1])


# Command line


def start(*command):
    """Run a program that simulates its own devices, and return its output."""
    return subprocess.run(command, cwd=ROOT, env=simulate_devices(), check=True, capture_output=True, text=True).stdout


def test_train_py_reports_the_step_on_simulated_devices(tmp_path):
    mesh = ["--mesh.data", "3", "--mesh.fsdp", "2", "--mesh.tensor", "2"]
    printed = start(sys.executable, "train.py", "--dry-run", "--workdir", str(tmp_path / "run"), *mesh)
    assert "data 3, fsdp 2, tensor 2: 12 devices" in printed
    assert "24 rows of 64 source and 64 target tokens" in printed
    assert "lower bounds, not predictions" in printed
    assert "the CPU compiler" in printed
    rows = dict(re.findall(r"^  (\S.*?)  +(.*)$", printed, re.MULTILINE))
    assert rows.keys() >= {"parameters", TEMPORARY, "all-gather", "all-reduce", *CHIPS}
    assert rows["H100"].endswith("yes")
    assert not (tmp_path / "run").exists()


SCALE = """
import json
import jax
import numpy as np
from jax.sharding import AxisType
from transformer_jax.config import Config, ModelConfig
from transformer_jax.data.batches import Batch
from transformer_jax.training.compiled import jit_functions
from transformer_jax.sharding import AXES, batch_sharding

jax.config.update("jax_num_cpu_devices", 256)
config = Config(model=ModelConfig(d_model=24, d_ff=40, heads=4, encoder_layers=1, decoder_layers=1))
operations = []
for devices in (1, 16, 256):
    mesh = jax.make_mesh((devices, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3, devices=jax.devices()[:devices])
    functions = jit_functions(config, mesh, 88, 88, chunk_size=7)
    rows = jax.ShapeDtypeStruct((3 * devices, 13), np.int32, sharding=batch_sharding(mesh))
    compiled = functions.train_step.lower(functions.state, Batch(*[rows] * 7)).compile()
    operations.append(compiled.cost_analysis()["flops"])
print(json.dumps(operations))
"""


def test_flops_per_device_do_not_grow_with_the_devices():
    single, *several = json.loads(start(sys.executable, "-c", SCALE))
    assert several == pytest.approx([single] * 2, rel=0.01)
