"""Estimated resources of a training step, which is compiled for simulated devices but not run.

python train.py --dry-run --config configs/wmt14_big.py --mesh.data 8 --mesh.fsdp 4
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from transformer_jax.commands.collectives import Collective, find_collectives
from transformer_jax.config import Config, MeshConfig
from transformer_jax.data.batches import Batch, BatchShape
from transformer_jax.model.flops import training_flops
from transformer_jax.model.fused_attention import require_kernel
from transformer_jax.runtime.memory import bytes_per_device, device_memory
from transformer_jax.sharding import batch_multiple, batch_sharding, make_mesh
from transformer_jax.training.compiled import jit_functions, require_enough_rows
from transformer_jax.training.loss import CHUNK_SIZES, forward_passes

MIB = 2**20
TEMPORARY = "temporary (gradients, activations)"


class Chip(NamedTuple):
    """The specification of a chip.

    flops: dense bfloat16 operations per second.
    memory: bytes of memory.
    memory_bandwidth: bytes per second between memory and chip.
    link_bandwidth: bytes per second sent to other chips, half of the bidirectional number in the data sheet.
    """

    flops: float
    memory: float
    memory_bandwidth: float
    link_bandwidth: float


CHIPS = {
    # NVIDIA's data sheets of the H100 and H200 (SXM): bfloat16 without sparsity, NVLink 900 GB/s bidirectional.
    "H100": Chip(989e12, 80e9, 3.35e12, 450e9),
    "H200": Chip(989e12, 141e9, 4.8e12, 450e9),
    # https://docs.cloud.google.com/tpu/docs/v5e, v5p and v6e: interconnect 400, 1,200 and 800 GB/s bidirectional.
    "TPU v5e": Chip(197e12, 16e9, 819e9, 200e9),
    "TPU v5p": Chip(459e12, 95 * 2**30, 2765e9, 600e9),
    "TPU v6e": Chip(918e12, 32e9, 1638e9, 400e9),
}


class StepReport(NamedTuple):
    """The resources of a training step.

    mesh: the devices.
    shape: shape of the batch.
    parameters: number of parameters of the model.
    flops: operations in matrix products, summed over all devices.
    memory: bytes per device, by purpose.
    collectives: collective operations of one device.
    """

    mesh: Mesh
    shape: BatchShape
    parameters: int
    flops: int
    memory: dict[str, int]
    collectives: list[Collective]


def dry_run(config: Config) -> None:
    """Compile the training step of ``config`` and print its resources. No data, tokenizer or parameters are needed.

    If every mesh axis has a size, the devices are simulated on the CPU. If an axis is -1, existing devices are used.
    """
    simulate_devices(config.mesh)
    report = compile_step(config, make_mesh(config.mesh))
    print("\n".join(report_lines(report)))
    if -1 in (config.mesh.data, config.mesh.fsdp, config.mesh.tensor) and (available := device_memory()):
        total = sum(report.memory.values())
        problem = "The step does not fit. Raise --mesh.fsdp or lower --data.batch-tokens."
        verdict = "The step fits." if total <= available else problem
        print(f"\nA device of this machine has {available / MIB:,.0f} MiB of memory. {verdict}")


def simulate_devices(mesh: MeshConfig) -> None:
    """Create a CPU device for each position of the mesh. Call this before JAX initializes its devices."""
    sizes = (mesh.data, mesh.fsdp, mesh.tensor)
    if min(sizes) > 0:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", math.prod(sizes))


def compile_step(config: Config, mesh: Mesh) -> StepReport:
    """Compile the training step for the largest batch and vocabularies that the config allows. Return its resources.

    Raises InputError if the batch has fewer rows than data-parallel devices times accumulation steps.
    """
    require_kernel(config.model, mesh.devices.flat[0], mesh.shape["tensor"])
    vocab_size, length = config.tokenizer.size, config.data.max_length
    multiple = batch_multiple(mesh) * config.training.accumulate
    require_enough_rows(config, multiple, length)
    shape = BatchShape(config.data.batch_tokens // length // multiple * multiple, length, length)
    functions = jit_functions(config, mesh, vocab_size, vocab_size, CHUNK_SIZES["accelerator"])
    rows: Any = jax.ShapeDtypeStruct((shape.rows, length), np.int32, sharding=batch_sharding(mesh))
    batch = Batch(*[rows] * len(Batch._fields))
    compiled = functions.train_step.lower(functions.state, batch).compile()
    inputs = {
        "parameters": functions.state.params,
        "optimizer state and average": functions.state._replace(params=None),
        "batch": batch,
    }
    memory = {name: bytes_per_device(tree) for name, tree in inputs.items()}
    flops_per_row = training_flops(config.model, vocab_size, shape.source, shape.target)
    return StepReport(
        mesh,
        shape,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(functions.state.params)),
        flops=forward_passes(config.training.r_drop) * shape.rows * flops_per_row,
        memory={**memory, TEMPORARY: compiled.memory_analysis().temp_size_in_bytes},
        collectives=find_collectives(compiled.as_text()),
    )


def report_lines(report: StepReport) -> Iterator[str]:
    """Yield the lines of the report."""
    shape, total_memory = report.shape, sum(report.memory.values())
    axes = ", ".join(f"{axis} {size}" for axis, size in report.mesh.shape.items())
    yield f"mesh            {axes}: {report.mesh.size} devices"
    yield f"batch           {shape.rows} rows of {shape.source} source and {shape.target} target tokens"
    yield f"parameters      {report.parameters / 1e6:,.1f} M"
    yield f"compute         {_format(report.flops / 1e12)} TFLOP per step in matrix products, forward and backward"
    yield ""
    yield f"{'memory per device':<36}{'MiB':>10}"
    for purpose, size in {**report.memory, "total": total_memory}.items():
        yield f"  {purpose:<34}{_format(size / MIB):>10}"
    yield ""
    yield f"{'sent per device and step':<36}{'MiB':>10}{'operations':>12}"
    bytes_sent = {collective.kind: 0 for collective in report.collectives}
    executions = dict(bytes_sent)
    for collective in report.collectives:
        bytes_sent[collective.kind] += collective.bytes_sent * collective.executions
        executions[collective.kind] += collective.executions
    for kind, size in bytes_sent.items():
        yield f"  {kind:<34}{_format(size / MIB):>10}{executions[kind]:>12,}"
    yield f"  {'total':<34}{_format(sum(bytes_sent.values()) / MIB):>10}{sum(executions.values()):>12,}"
    yield ""
    yield f"{'minimum ms per step':<24}{'arithmetic':>12}{'memory':>12}{'links':>12}{'target tokens/s':>17}  fits"
    # The state and everything computed from it are read and written at least once.
    accessed = 2 * (total_memory - report.memory["batch"])
    for name, chip in CHIPS.items():
        times = (
            report.flops / report.mesh.size / chip.flops,
            accessed / chip.memory_bandwidth,
            sum(bytes_sent.values()) / chip.link_bandwidth,
        )
        tokens_per_second = shape.rows * shape.target / max(times)
        columns = "".join(f"{_format(1e3 * seconds):>12}" for seconds in times)
        fits = "yes" if total_memory <= chip.memory else "no"
        yield f"  {name:<22}{columns}{tokens_per_second:>17,.0f}  {fits}"
    yield ""
    yield "The times are lower bounds, not predictions: they assume the peak rates of the data sheets. Tokens per"
    yield "second follow from the largest of the three and include padding. Temporary memory and communication are"
    yield "those of the CPU compiler, so they are estimates for other chips."


def _format(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
