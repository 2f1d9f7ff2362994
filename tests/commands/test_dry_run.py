"""The compiled step of each mesh: what is sent, how often, what each device holds, and that its report can be read."""

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import jax
import pytest

from transformer_jax.commands import dry_run
from transformer_jax.commands.dry_run import CHIPS, collectives, compile_step
from transformer_jax.config import Config, DataConfig, MeshConfig, ModelConfig, TokenizerConfig, TrainingConfig
from transformer_jax.errors import InputError
from transformer_jax.model.flops import training_flops
from transformer_jax.sharding import make_mesh
from transformer_jax.training.compiled import prepare

ROOT = Path(__file__).parent.parent.parent
V, D, F, LENGTH = 88, 24, 40, 13
CONFIG = Config(
    model=ModelConfig(d_model=D, d_ff=F, heads=4, encoder_layers=1, decoder_layers=1),
    data=DataConfig(batch_tokens=24 * LENGTH, max_length=LENGTH),
    tokenizer=TokenizerConfig(size=V),
)


@lru_cache
def report(data, fsdp, tensor, accumulate=3, r_drop=0.0):
    """The step as it is really compiled, with loops over accumulated batches and over chunks of the loss."""
    config = dataclasses.replace(CONFIG, training=TrainingConfig(accumulate=accumulate, ema=0.9, r_drop=r_drop))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(dry_run.CHUNKS, "accelerator", 7)
        jax.config.update("jax_disable_most_optimizations", False)
        try:
            return compile_step(config, make_mesh(MeshConfig(data, fsdp, tensor)))
        finally:
            jax.config.update("jax_disable_most_optimizations", True)


def sizes(found):
    return [math.prod(result) for each in found for result in each.results]


def parameter_shapes():
    program = prepare(CONFIG, make_mesh(MeshConfig()), V, V)
    return [leaf.shape for leaf in jax.tree.leaves(program.state.params)]


# What is sent.


@pytest.mark.parametrize(("accumulate", "r_drop"), [(1, 0.0), (3, 0.0), (1, 4.0)])
def test_with_data_alone_every_gradient_is_summed_once_and_nothing_else_is_sent(accumulate, r_drop):
    step = report(8, 1, 1, accumulate, r_drop)
    assert {each.kind for each in step.collectives} == {"all-reduce"}
    assert not any(each.looped for each in step.collectives)
    scalars = 4  # of LossSums
    assert sum(sizes(step.collectives)) == step.parameters + scalars
    # float32, around a ring of 8
    assert sum(each.sent for each in step.collectives) == pytest.approx(2 * 7 / 8 * 4 * step.parameters, rel=0.01)


def test_fsdp_gathers_each_weight_once_and_reduces_its_gradient_once():
    step = report(1, 8, 1)
    assert not any(each.looped for each in step.collectives)
    gathered = [each for each in step.collectives if each.kind == "all-gather"]
    matrices = [math.prod(shape) for shape in parameter_shapes() if len(shape) == 2]
    assert sorted(sizes(gathered)) == sorted(matrices)
    reduced = [each for each in step.collectives if each.kind != "all-gather"]
    assert step.parameters <= sum(sizes(reduced)) <= step.parameters + 200  # norms of gradients, sums of the loss


@pytest.mark.parametrize("mesh", [(2, 1, 4), (2, 2, 2)], ids=str)
def test_tensor_parallelism_never_puts_the_table_or_the_logits_together(mesh):
    step = report(*mesh)
    gathered = [result for each in step.collectives if each.kind == "all-gather" for result in each.results]
    tensor = mesh[2]
    parts = {(V // tensor, D), (D, D // tensor), (D // tensor, D), (D, F // tensor), (F // tensor, D)}
    assert set(gathered) <= parts if mesh[1] > 1 else not gathered
    for each in step.collectives:
        assert all(V not in result for result in each.results)
        if each.looped:  # activations of a chunk or of a part of the rows, never a gradient
            assert not parts & set(each.results)


# What a device holds.


def test_fsdp_and_tensor_divide_parameters_optimizer_state_and_average():
    replicated = 4 * sum(math.prod(shape) for shape in parameter_shapes() if len(shape) == 1)
    whole, fsdp, tensor, both = (report(*mesh).memory for mesh in [(8, 1, 1), (1, 8, 1), (2, 1, 4), (2, 2, 2)])
    total = 4 * report(8, 1, 1).parameters
    assert whole["parameters"] == total
    assert fsdp["parameters"] == (total - replicated) / 8 + replicated
    for divided in (tensor, both):  # widen/bias too is divided over tensor
        assert (total - replicated) / 4 < divided["parameters"] < (total - replicated) / 4 + replicated
    for memory in (whole, fsdp, tensor, both):
        scalars = 100
        rest = memory["optimizer state and average"] - 3 * memory["parameters"]  # two moments and the average
        assert 0 < rest < scalars


def test_a_batch_is_as_large_as_the_settings_allow_and_divided_over_data_and_fsdp():
    assert report(8, 1, 1).shape == (24, LENGTH, LENGTH)
    inputs = 7 * 24 * LENGTH * 4  # arrays, rows, positions, bytes
    assert [report(*mesh).memory["batch"] for mesh in [(8, 1, 1), (2, 2, 2)]] == [inputs / 8, inputs / 4]
    flops = 24 * training_flops(CONFIG.model, V, LENGTH, LENGTH)
    assert [report(8, 1, 1).flops, report(8, 1, 1, 1, 4.0).flops] == [flops, 2 * flops]


def test_a_batch_that_cannot_be_divided_is_refused():
    config = dataclasses.replace(CONFIG, training=TrainingConfig(accumulate=4))
    with pytest.raises(InputError, match=r"24 rows of 13 tokens.*Use --data.batch-tokens 416, or at most 24 parts"):
        compile_step(config, make_mesh(MeshConfig()))


def test_model_flops_of_a_chip_are_those_of_the_step_over_the_devices():
    step = report(8, 1, 1)
    [h100] = [line for line in dry_run.lines(step) if line.startswith("  H100")]
    milliseconds = step.flops / 8 / 989e12 * 1e3
    assert h100.split()[1] == f"{milliseconds:.3g}"


# Reading a program.


def test_a_loop_counts_as_often_as_it_turns():
    program = """HloModule jit_step

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%inner (p: (s32[], f32[6])) -> (s32[], f32[6]) {
  %all-reduce.1 = (f32[6]{0}, /*index=1*/bf16[2,5]{1,0}) all-reduce(%a, %b), replica_groups=[4,2]<=[8], to_apply=%add
}

%outer (p: (s32[], f32[6])) -> (s32[], f32[6]) {
  %while.1 = (s32[], f32[6]) while(%t), body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  %all-gather.1 = f32[8,3]{1,0} all-gather(%c), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
}

ENTRY %main (p: f32[6]) -> f32[6] {
  %while.2 = (s32[], f32[6]) while(%t), condition=%add, body=%outer, backend_config={"known_trip_count":{"n":"5"}}
  %reduce-scatter.1 = f32[7]{0} reduce-scatter(%d), replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, to_apply=%add
  ROOT %collective-permute.1 = pred[11]{0} collective-permute(%e), source_target_pairs={{0,1},{1,0}}
}
"""
    found = {each.kind: each for each in collectives(program)}
    assert found["all-reduce"][1:] == ([(6,), (2, 5)], 44, 15, True)  # 2 * 1/2 of 6 * 4 + 10 * 2 bytes
    assert found["all-gather"][1:] == ([(8, 3)], 72, 5, True)  # 3/4 of 24 * 4 bytes
    assert found["reduce-scatter"][1:] == ([(7,)], 84, 1, False)  # 3 times 7 * 4 bytes
    assert found["collective-permute"][1:] == ([(11,)], 11, 1, False)


# From the command line.


def start(*command):
    """Run a program that pretends its own devices; returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def test_train_py_reports_a_mesh_of_devices_that_are_not_there(tmp_path):
    mesh = ["--mesh.data", "3", "--mesh.fsdp", "2", "--mesh.tensor", "2"]
    printed = start(sys.executable, "train.py", "--dry-run", "--workdir", str(tmp_path / "run"), *mesh)
    assert "data 3, fsdp 2, tensor 2: 12 devices" in printed
    assert "24 rows of 64 source and 64 target tokens" in printed
    assert "bound, not a forecast" in printed
    assert "the CPU's compiler" in printed
    rows = dict(re.findall(r"^  (\S.*?)  +(.*)$", printed, re.MULTILINE))
    assert rows.keys() >= {"parameters", "gradients and activations", "all-gather", "all-reduce", *CHIPS}
    assert rows["H100"].endswith("yes")
    assert not (tmp_path / "run").exists()


SCALE = """
import json
import jax
import numpy as np
from jax.sharding import AxisType
from transformer_jax.config import Config, ModelConfig
from transformer_jax.data.batches import Batch
from transformer_jax.training.compiled import prepare
from transformer_jax.sharding import AXES, batch_sharding

jax.config.update("jax_num_cpu_devices", 256)
config = Config(model=ModelConfig(d_model=24, d_ff=40, heads=4, encoder_layers=1, decoder_layers=1))
operations = []
for devices in (1, 16, 256):
    mesh = jax.make_mesh((devices, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3, devices=jax.devices()[:devices])
    program = prepare(config, mesh, 88, 88, chunk=7)
    rows = jax.ShapeDtypeStruct((3 * devices, 13), np.int32, sharding=batch_sharding(mesh))
    compiled = program.train_step.lower(program.state, Batch(*[rows] * 7)).compile()
    operations.append(compiled.cost_analysis()["flops"])
print(json.dumps(operations))
"""


def test_from_1_to_256_devices_each_does_the_same_work_for_the_same_rows():
    one, *more = json.loads(start(sys.executable, "-c", SCALE))
    assert more == pytest.approx([one] * 2, rel=0.01)
